"""Every YAML in configs/ is read by the real parser, and what its header claims holds."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
import yaml

from detection.network.family import FAMILY, architecture
from detection.weights.load import PUBLISHED
from engine.tasks import find_task, task_names
from segmentation.network.family import architecture as segmentation_architecture
from segmentation.network.model import Segmenter

ROOT = Path(__file__).parents[1]
CONFIGS = {task: sorted((ROOT / "configs" / task).glob("*.yaml")) for task in task_names()}
DETECTION, SEGMENTATION, JOINT = (CONFIGS[task] for task in ("detection", "segmentation", "joint"))
COCO = [path for path in DETECTION if path.stem.startswith("coco_")]
CITYSCAPES = [path for path in SEGMENTATION if path.stem.startswith("cityscapes_")]


def ids(path):
    return path.stem


def header(path):
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])


@functools.cache
def parser(task):
    """The parser of `python -m TASK fit`."""
    from engine.cli.effdense_cli import EffDenseCLI

    class Built(Exception):  # noqa: N818
        pass

    class Halted(EffDenseCLI):
        def parse_arguments(self, parser, args):
            raise Built(parser.commands.choices["fit"])

    with pytest.raises(Built) as caught:
        Halted(find_task(task), [], f"python -m {task}")
    return caught.value.args[0]


def build(path):
    settings = parser(path.parent.name).parse_args(["--config", str(path)])
    return settings, parser(path.parent.name).instantiate_classes(settings)


@pytest.mark.parametrize("path", DETECTION, ids=ids)
def test_the_parser_takes_a_detector_and_its_values_build(path):
    settings, built = build(path)
    task, data = built.model, built.data
    assert data.has("train")
    assert data.has("val")
    assert settings.trainer.gradient_clip_val == 10
    name = task.pretrained or task.member
    member = PUBLISHED[name].member if task.pretrained else name
    assert task.member in (None, member)  # without one, that of the published weights
    architecture(member, **task.architecture.given())


@pytest.mark.parametrize("path", SEGMENTATION, ids=ids)
def test_the_parser_takes_a_segmenter_and_its_values_build(path):
    settings, built = build(path)
    task, data = built.model, built.data
    assert data.has("train")
    assert data.has("val")
    assert len(data.classes) >= 2
    assert settings.trainer.gradient_clip_val == 10
    segmentation_architecture(task.member, **task.architecture.given())


@pytest.mark.parametrize("path", JOINT, ids=ids)
def test_the_parser_takes_a_joint_network_and_its_values_build(path):
    settings, built = build(path)
    task, data = built.model, built.data
    for split in ("train", "val"):
        assert data.has_boxes(split)
        assert data.has_masks(split)
    assert len(data.segmentation_classes) >= 2
    assert settings.trainer.gradient_clip_val == 10
    member = task.member or PUBLISHED[task.detector_checkpoint].member
    height, width = architecture(member, **task.detector_part.architecture.given()).image_size
    assert height % 128 == width % 128 == 0  # nothing of the canvas is added inside the network
    segmentation_architecture("b0", **task.segmenter_part.architecture.given())


def test_the_steps_in_the_header_of_two_sets_are_those_of_the_mixture():
    from joint.data.mixing import Mixture

    path = ROOT / "configs/joint/coco_cityscapes.yaml"
    data = yaml.safe_load(path.read_text())["data"]
    # train2017 and the fine annotations' train split.
    mixture = Mixture((118_287, 2_975), tuple(data["ratio"]), 8 * data["batch_size"], seed=0)
    said = header(path).replace("\n#", "")
    assert f"{mixture.pass_steps:,} steps of {mixture.batch}, on 8 GPUs" in said
    boxed, masked = mixture.drawn(mixture.pass_steps)
    assert round(boxed / 118_287) == 1
    assert round(masked / 2_975) == 13
    assert "thirteen of Cityscapes" in said


@pytest.mark.parametrize("path", CITYSCAPES, ids=ids)
def test_the_header_of_a_cityscapes_config_holds(path):
    content, said = yaml.safe_load(path.read_text()), header(path)
    member = path.stem.removeprefix("cityscapes_")
    assert content["model"]["member"] == member
    size = member.rpartition("_")[2].upper()
    assert said.startswith(
        f"# DeepLabv3+ on EfficientNet{'V2' if member.startswith('v2') else ''}-{size} on Cityscapes"
    )
    network = Segmenter(member)
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    assert parameters == pytest.approx(float(re.search(r"([\d.]+) M parameters", said)[1]), abs=0.05)
    assert content["trainer"]["max_epochs"] == int(re.search(r"(\d+) epochs", said)[1])
    # 2,975 pictures in steps of 16 crops.
    steps = int(re.search(r"([\d,]+) steps", said)[1].replace(",", ""))
    assert content["trainer"]["max_epochs"] * (2975 // 16) == pytest.approx(steps, rel=0.01)
    assert content["model"]["loss"]["hard_pixels"] == 1 / 5


def test_every_cityscapes_config_has_the_same_recipe():
    recipes = []
    for path in CITYSCAPES:
        content = yaml.safe_load(path.read_text())
        content["model"].pop("member")
        content["model"].pop("grad_checkpointing", None)
        content["data"].pop("batch_size")
        recipes.append(content)
    assert len(recipes) == 4
    assert all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.parametrize("path", CITYSCAPES, ids=ids)
def test_the_cost_in_the_header_of_a_cityscapes_config_is_counted(path):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = Segmenter(path.stem.removeprefix("cityscapes_")).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, 1024, 2048))
    counted = counter.get_total_flops() / 2e9
    assert counted == pytest.approx(float(re.search(r"([\d.]+) G multiply-adds", header(path))[1]), abs=0.05)


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


@pytest.mark.parametrize(
    "path", [path for paths in CONFIGS.values() for path in paths], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_commands_of_the_header_name_this_config_and_known_options(path):
    task = path.parent.name
    said = header(path).replace("\\\n#", " ")
    commands = re.findall(rf"python -m {task} (.+)", said) + re.findall(r"(make [\w-]+)", said)
    assert commands
    options = parser(task).option_keys()
    for command in commands:
        if command.startswith("make "):
            assert re.search(rf"^{command[5:]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        for config in re.findall(r"--config (\S+)", command):
            assert ROOT / config == path
        for option in re.findall(r"--(\S+)", command):
            known = ["root", "split"] if command.startswith("boxes ") else options
            assert option in [*known, "config", "source", "output"], command
