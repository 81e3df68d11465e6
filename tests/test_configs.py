"""Every YAML in configs/ is read by the real parser, and what its header claims holds."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
import yaml

from classification.network.family import architecture as classification_architecture
from detection.former import FORMER_CONFIGS as FORMER_DETECTORS
from detection.network.family import FAMILY, architecture
from detection.weights.load import PUBLISHED
from engine.cli.former import with_present_configs
from engine.tasks import find_task, task_names
from segmentation.former import FORMER_CONFIGS as FORMER_SEGMENTERS
from segmentation.network.family import architecture as segmentation_architecture
from segmentation.network.model import Segmenter

ROOT = Path(__file__).parents[1]
CONFIGS = {task: sorted((ROOT / "configs" / task).glob("*.yaml")) for task in task_names()}
DETECTION, SEGMENTATION, JOINT = (CONFIGS[task] for task in ("detection", "segmentation", "joint"))
COCO = ROOT / "configs/detection/coco.yaml"
CITYSCAPES = ROOT / "configs/segmentation/cityscapes.yaml"

# On COCO val2017, as google/automl's README and its page of lite models print them.
AVERAGE_PRECISION = {
    "d0": 34.3, "d1": 40.2, "d2": 43.5, "d3": 46.8, "d4": 49.3, "d5": 51.2, "d6": 52.1, "d7": 53.4, "d7x": 54.4,
    "lite0": 26.41, "lite1": 31.5, "lite2": 35.06, "lite3": 38.77, "lite3x": 42.64, "lite4": 43.18,
}  # fmt: skip


def ids(path):
    return path.stem


def header(path):
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])


@functools.cache
def parser(task, command="fit"):
    """The parser of `python -m TASK COMMAND`, where the command is one of the trainer's."""
    from engine.cli.effdense_cli import EffDenseCLI

    class Built(Exception):  # noqa: N818
        pass

    class Halted(EffDenseCLI):
        def parse_arguments(self, parser, args):
            raise Built(parser.commands.choices[command])

    with pytest.raises(Built) as caught:
        Halted(find_task(task), [command], f"python -m {task}")
    return caught.value.args[0]


def rows(path):
    """The table in a header: the options of each member, and the numbers before them."""
    found = re.findall(r"^#   (\w+)((?: +[\d.]+)+)   (--.*)$", header(path), re.MULTILINE)
    return {member: ([float(number) for number in numbers.split()], options) for member, numbers, options in found}


def settings_of(path, options=""):
    """What the parser makes of a config and options after it."""
    return parser(path.parent.name).parse_args(["--config", str(path), *options.split()])


def differences(first, second):
    """The names of the settings that differ."""
    first, second = first.as_flat(), second.as_flat()
    names = {*vars(first), *vars(second)}
    return {name for name in names if getattr(first, name, None) != getattr(second, name, None)}


def build(path):
    settings = settings_of(path)
    return settings, parser(path.parent.name).instantiate_classes(settings)


@pytest.mark.parametrize("path", DETECTION, ids=ids)
def test_the_parser_takes_a_detector_and_its_values_build(path):
    settings, built = build(path)
    task, data = built.model, built.data
    # A whole set says what it has once its folder is there.
    assert data.whole or (data.has("train") and data.has("val"))
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


@pytest.mark.parametrize("path", CONFIGS["classification"], ids=ids)
def test_the_parser_takes_a_classifier_and_its_values_build(path):
    settings, built = build(path)
    assert settings.trainer.gradient_clip_val == 10
    config = classification_architecture(built.model.member, **built.model.architecture.given())
    stages = built.model.progressive
    assert stages.stage(stages.stages - 1, config.image_size).image_size <= config.image_size


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
    from engine.data.mixture import Mixture

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


@pytest.mark.parametrize("member", ["b0", "b2", "b4", "v2_s"])
def test_a_row_of_the_cityscapes_header_holds(member):
    (parameters, _), options = rows(CITYSCAPES)[member]
    settings, said = settings_of(CITYSCAPES, options), header(CITYSCAPES)
    assert settings.model.member == member
    network = Segmenter(member)
    assert parameters == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6, abs=0.05)
    assert settings.trainer.max_epochs == int(re.search(r"(\d+) epochs", said)[1])
    # 2,975 pictures in steps of 16 crops.
    steps = int(re.search(r"([\d,]+) steps", said)[1].replace(",", ""))
    assert settings.trainer.max_epochs * (2975 // 16) == pytest.approx(steps, rel=0.01)
    assert settings.model.loss.hard_pixels == 1 / 5
    assert 16 % settings.data.batch_size == 0


def test_the_cityscapes_header_begins_with_what_the_file_trains():
    assert header(CITYSCAPES).startswith("# DeepLabv3+ on Cityscapes")
    size = yaml.safe_load(CITYSCAPES.read_text())["model"]["member"].upper()
    assert f"trains EfficientNet-{size};" in header(CITYSCAPES)


def test_every_cityscapes_row_has_the_same_recipe():
    table, base = rows(CITYSCAPES), settings_of(CITYSCAPES)
    assert len(table) == 4
    for _, options in table.values():
        changed = differences(base, settings_of(CITYSCAPES, options))
        assert changed <= {"model.member", "model.grad_checkpointing", "data.batch_size"}


@pytest.mark.by_default("b0", "v2_s")
@pytest.mark.parametrize("member", ["b0", "b2", "b4", "v2_s"])
def test_the_cost_in_a_row_of_the_cityscapes_header_is_counted(member):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = Segmenter(member).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 3, 1024, 2048))
    counted = counter.get_total_flops() / 2e9
    assert "1024 x 2048" in header(CITYSCAPES)
    assert rows(CITYSCAPES)[member][0][1] == pytest.approx(counted, abs=0.05)


@pytest.mark.parametrize("member", FAMILY)
def test_a_row_of_the_coco_header_holds(member):
    (average_precision, pixels), options = rows(COCO)[member]
    settings = settings_of(COCO, options)
    assert settings.model.member == member
    assert FAMILY[member].image_size == (pixels, pixels)
    # The recipe of the longer-trained two, as google/automl's README has it.
    assert settings.trainer.max_epochs == (600 if member in ("d7", "d7x") else 300)
    assert settings.data.batch_size == {1024: 8, 1280: 4, 1536: 2}.get(int(pixels), 16)
    # The larger ones need it to fit into 24 GB.
    assert settings.model.grad_checkpointing == (pixels == 1536)
    published = f"tf_efficientdet_{member}"
    assert PUBLISHED[published].member == member
    # The classes in rows as the published weights have them, which the header offers for comparison.
    assert settings.data.class_rows == "by_id"
    assert average_precision == AVERAGE_PRECISION[member]


def test_every_member_has_a_row_with_the_same_recipe():
    table, base = rows(COCO), settings_of(COCO)
    assert set(table) == set(FAMILY)
    for _, options in table.values():
        changed = differences(base, settings_of(COCO, options))
        assert changed <= {"model.member", "model.grad_checkpointing", "data.batch_size", "trainer.max_epochs"}
    # As written the file trains the first row.
    said = header(COCO)
    assert f"trains {base.model.member.upper()};" in said
    assert differences(base, settings_of(COCO, table[base.model.member][1])) == set()
    assert base.data.batch_size == int(re.search(r"with (\d+) images each", said)[1])
    assert base.trainer.max_epochs == int(re.search(r"(\d+) epochs", said)[1])


@pytest.mark.parametrize(("path", "former"), [(COCO, FORMER_DETECTORS), (CITYSCAPES, FORMER_SEGMENTERS)])
def test_a_former_config_has_the_options_of_its_row(path, former):
    table = rows(path)
    assert {name.removeprefix(f"{path.stem}_"): entry.options for name, entry in former.items()} == {
        member: options for member, (_, options) in table.items()
    }
    assert {entry.stem for entry in former.values()} == {path.stem}
    assert not [name for name in former if path.with_name(f"{name}.yaml").exists()]


def test_a_former_command_gives_the_settings_of_the_present_one():
    old = ["--config", str(COCO.with_name("coco_d7.yaml")), "--data.batch_size", "1"]
    words, notes = with_present_configs(old, "detection", FORMER_DETECTORS)
    settings = parser("detection").parse_args(words)
    assert (settings.model.member, settings.trainer.max_epochs, settings.model.grad_checkpointing) == ("d7", 600, True)
    assert settings.data.batch_size == 1  # what stands after the file still overrides it
    assert len(notes) == 1


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
            known = ["root", "split"] if command.startswith(("boxes ", "crops ")) else options
            assert option in [*known, "config", "source", "output"], command
