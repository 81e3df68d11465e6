"""Every YAML in configs/ is read by the real parser, and what its header claims holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from detection.family import FAMILY, architecture
from detection.weights import PUBLISHED

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs/detection").glob("*.yaml"))
COCO = [path for path in CONFIGS if path.stem.startswith("coco_")]


def ids(path):
    return path.stem


def header(path):
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])


@pytest.fixture(scope="module")
def parser():
    """The parser of `python -m detection fit`."""
    from detection.data import CocoDataModule
    from detection.task import DetectionTask
    from detection.trainer import DetectionTrainer
    from engine.cli import EffDenseCLI

    class Built(Exception):  # noqa: N818
        pass

    class Halted(EffDenseCLI):
        def parse_arguments(self, parser, args):
            raise Built(parser.commands.choices["fit"])

    with pytest.raises(Built) as caught:
        Halted(DetectionTask, CocoDataModule, [], trainer_class=DetectionTrainer)
    return caught.value.args[0]


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_the_parser_takes_it_and_its_values_build(path, parser):
    settings = parser.parse_args(["--config", str(path)])
    built = parser.instantiate_classes(settings)
    task, data = built.model, built.data
    assert data.has("train")
    assert data.has("val")
    assert settings.trainer.gradient_clip_val == 10
    name = task.pretrained or task.member
    member = PUBLISHED[name].member if task.pretrained else name
    assert task.member in (None, member)  # without one, that of the published weights
    architecture(member, **task.architecture.given())


@pytest.mark.parametrize("path", COCO, ids=ids)
def test_the_header_of_a_coco_config_holds(path):
    content, said = yaml.safe_load(path.read_text()), header(path)
    member = path.stem.removeprefix("coco_")
    assert content["model"]["member"] == member
    assert re.search(rf"# EfficientDet-{member} on COCO 2017", said, re.IGNORECASE)
    height, width = FAMILY[member].image_size
    assert height == width == int(re.search(r"(\d+) pixels", said)[1])
    assert content["trainer"]["max_epochs"] == int(re.search(r"(\d+) epochs", said)[1])
    assert content["data"]["batch_size"] == int(re.search(r"with (\d+) images each", said)[1])
    (published,) = set(re.findall(r"\btf_efficientdet_\w+", said))
    assert PUBLISHED[published].member == member
    # The classes in rows as the published weights have them, which the header offers for comparison.
    assert content["data"]["class_rows"] == "by_id"


def test_every_member_has_a_config_with_the_same_recipe():
    assert {path.stem.removeprefix("coco_") for path in COCO} == set(FAMILY)
    recipes = []
    for path in COCO:
        content = yaml.safe_load(path.read_text())
        content["model"].pop("member")
        content["model"].pop("grad_checkpointing", None)
        content["data"].pop("batch_size")
        content["trainer"].pop("max_epochs")
        recipes.append(content)
    assert all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_the_commands_of_the_header_name_this_config_and_known_options(path, parser):
    said = header(path).replace("\\\n#", " ")
    commands = re.findall(r"python -m detection (.+)", said) + re.findall(r"(make \w+)", said)
    assert commands
    options = parser.option_keys()
    for command in commands:
        if command.startswith("make "):
            assert re.search(rf"^{command[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        for config in re.findall(r"--config (\S+)", command):
            assert ROOT / config == path
        for option in re.findall(r"--(\S+)", command):
            assert option in [*options, "config", "source", "output"], command
