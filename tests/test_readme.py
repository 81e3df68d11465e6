"""The Python and the commands of the README and of the pages of tasks run, on small stand-ins for the files they name.

Every line of a block without a language must be a command that this file knows; a new one fails until it has an entry
in `SMALL`, with options that make it quick, or in `NOT_RUN`, with the reason. By default one command of each kind runs;
the others are marked slow. Commands of the other pages are parsed by the real parser, in test_documents.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.commands import Command, code_blocks, commands, inline_code, lines, run
from tests.house.source import ROOT

NAMES = (
    "first-steps",
    "detection",
    "segmentation",
    "joint",
    "own-data",
    "train",
    "large",
    "report",
    "export",
    "backbones",
)
PAGES = [(ROOT / name).read_text() for name in ("README.md", *(f"docs/{name}.md" for name in NAMES))]
TEXT = "\n\n".join(PAGES)
PLAIN = [line for kind, block in code_blocks(TEXT) if not kind for line in lines(block)]

# Appended to the training commands: a step of a small network, without a download.
_STEP = (
    "--trainer.fast_dev_run true --trainer.accelerator cpu --trainer.devices 1 --trainer.precision 32-true "
    "--trainer.sync_batchnorm false --data.num_workers 0 --data.batch_size 2 --model.backbone_weights null"
)
_DETECTOR = (
    f"{_STEP} --model.pretrained null --model.member lite0 --model.architecture.image_size 128 "
    "--model.architecture.fpn_channels 16 --model.architecture.fpn_cells 1 --model.architecture.head_repeats 1"
)
_SEGMENTER = f"{_STEP} --data.crop_size 64"
_EVALUATION = "--trainer.accelerator cpu --trainer.devices 1 --trainer.precision 32-true --data.num_workers 0"
# By program and sub-command: the options that are appended, and what the command has to write.
SMALL: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("detection", "predict"): ("", ("predictions/detections.json", "predictions/*.png")),
    ("detection", "fit"): (_DETECTOR, ()),
    ("detection", "validate"): (
        f"{_EVALUATION} --model.pretrained null --model.member lite0 --ckpt_path last --run.name demo",
        (),
    ),
    ("detection", "score"): ("", ()),
    ("detection", "report"): ("", ("runs/detection/mine/report.html",)),
    ("detection", "convert-data"): ("", ("MYSET-YOLO/data.yaml",)),
    ("detection", "check"): ("--output found.json", ("found.json",)),
    ("segmentation", "predict"): ("", ("predictions/areas.csv",)),
    ("segmentation", "fit"): (_SEGMENTER, ()),
    ("segmentation", "validate"): (f"{_EVALUATION} --model.member lite0", ()),
    ("segmentation", "score"): ("", ()),
    ("segmentation", "check"): ("", ()),
    ("segmentation", "check-data"): ("--fail_on never", ()),
    ("joint", "check"): ("--fail_on never", ()),
    ("joint", "boxes"): ("", ("instances_train.json",)),
    ("backbones", "table"): ("b0 lite0 --no-latency", ()),
    ("backbones", "scale"): ("", ()),
    ("deployment", "export"): ("--format torch --image_size 128 --output detector.pt2", ("detector.pt2",)),
    ("deployment", "explain"): ("", ("explained/explained.jsonl",)),
    ("deployment", "prune"): ("", ("pruned.ckpt",)),
    ("deployment", "quantize"): (
        "--image_size 128 --bound 0.99 --output small_int8.onnx --data.num_workers 0",
        ("small_int8.onnx", "small_int8.onnx.accuracy.json"),
    ),
    ("deployment", "benchmark"): (
        "--members lite0 --image_sizes 128 --runtimes torch --threads 1 --rounds 1",
        ("costs/benchmark.md", "costs/benchmark.png"),
    ),
    ("backbones", "convert"): ("--name tf_efficientnet_lite0", ("backbone.safetensors",)),
}
# It exports a file, as the tests of `deployment` do; by default the real parser takes it.
HEAVY = (("deployment", "export"),)
# Sub-commands and words of make that the text shows and that are not run here, with the reason. Test_documents has the
# real parser take each command.
NOT_RUN = {
    "make demo": "minutes",
    "make test": "this is it",
    "python examples/onnx_client.py detector.onnx street.jpg drawn.png": "the way of a newcomer, below",
}
# A listing, not a command.
RUN_FOLDER = re.compile(r"runs/\w+/version_0/|    \S")


def shown() -> list[Command]:
    """The commands of the README's blocks, and those within its text that are complete."""
    inline = [code for code in inline_code(TEXT) if " --" in code and "--help" not in code]
    return list(dict.fromkeys(command for line in [*PLAIN, *inline] for command in commands(line)))


def slow(command: Command) -> bool:
    """Whether it takes a minute, or is not the first of its kind."""
    same = [other for other in shown() if other.key == command.key and "--search" not in other.argv]
    return command not in same[:1] or command.key in HEAVY


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the README names: sets, pictures, trained networks, results."""
    folder = tmp_path_factory.mktemp("readme")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_stand_ins(folder)
    finally:
        os.chdir(before)
    return folder


def write_stand_ins(folder: Path) -> None:
    """Write them into the working folder, which is given too."""
    import timm

    from tests.detection import small as detection
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    Path("configs").symlink_to(ROOT / "configs")
    detection.write_set(folder)
    scenes = folder / "scenes"
    Path("streets.yaml").write_text(yaml.safe_dump(segmentation.STREETS))
    both = {**joint.CONFIG, "data": {**joint.CONFIG["data"], "layout": "both", "root": "scenes"}}
    Path("both.yaml").write_text(yaml.safe_dump(both))
    for task, config in (("detection", "small"), ("segmentation", "streets"), ("joint", "both")):
        words = f"fit --config {config}.yaml --run.name demo --trainer.max_epochs 1 --trainer.limit_train_batches 1"
        words += " --trainer.limit_val_batches 1"
        words += " --run.pictures true"
        assert run(Command(task, tuple(words.split()))) == 0
    Path("CITYSCAPES").symlink_to(scenes)
    Path("demo-data").symlink_to(scenes)
    Path("gtFine").symlink_to(scenes / "gtFine")
    write_coco(scenes)
    write_own_set(scenes)
    write_results(scenes)
    Path("runs/detection/mine").symlink_to(folder / "runs/detection/demo")
    weights = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(weights, "weights.pth")


def pictures(scenes: Path, split: str) -> list[Path]:
    """The pictures of a split."""
    return sorted((scenes / "leftImg8bit" / split).rglob("*.png"))


def write_coco(scenes: Path) -> None:
    """`COCO/` and `instances_val2017.json` with `detections.json`, the true boxes."""
    Path("COCO/annotations").mkdir(parents=True)
    for split in ("train", "val"):
        Path(f"COCO/{split}2017").symlink_to(scenes / "leftImg8bit" / split)
        Path(f"COCO/annotations/instances_{split}2017.json").symlink_to(scenes / f"annotations/instances_{split}.json")
    truth = Path("instances_val2017.json")
    shutil.copy(scenes / "annotations/instances_val.json", truth)
    found = [
        {name: annotation[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for annotation in json.loads(truth.read_text())["annotations"]
    ]
    Path("detections.json").write_text(json.dumps(found))


def write_own_set(scenes: Path) -> None:
    """`MYSET/`: images with boxes in COCO's format, and with masks of two classes."""
    for split in ("train", "val"):
        images, masks = Path("MYSET/images", split), Path("MYSET/masks", split)
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        content = json.loads((scenes / f"annotations/instances_{split}.json").read_text())
        for entry in content["images"]:
            source = scenes / "leftImg8bit" / split / entry["file_name"]
            entry["file_name"] = source.name
            shutil.copy(source, images / source.name)
            mask = np.zeros((entry["height"], entry["width"]), np.uint8)
            mask[10:40, 20:90] = 1
            Image.fromarray(mask).save(masks / source.name)
        Path(f"MYSET/{split}.json").write_text(json.dumps(content))


def write_results(scenes: Path) -> None:
    """`street.jpg`, `photos/`, `ortho.tif`, and true masks in `masks/` and `masks.zip`, of `leftImg8bit/test/` too."""
    from segmentation.scores.submission import SubmissionZip

    values = np.asarray(Image.open(pictures(scenes, "val")[0]).convert("RGB"))
    Image.fromarray(values).save("street.jpg")
    Path("photos").mkdir()
    Path("masks").mkdir()
    for number in range(2):
        Image.fromarray(np.roll(values, 9 * number, 1)).save(f"photos/{number}.png")
    Image.fromarray(values).save("ortho.tif")
    test = Path("leftImg8bit/test/bonn")
    test.mkdir(parents=True)
    with SubmissionZip(Path("masks.zip")) as archive:
        for path in pictures(scenes, "val"):
            truth = scenes / "gtFine/val" / path.parent.name / path.name.replace("leftImg8bit", "gtFine_labelIds")
            shutil.copy(truth, "masks")
            shutil.copy(path, test)
            road = np.full(Image.open(truth).size[::-1], 7, np.uint8)
            archive.add(path.name, road)


@pytest.fixture
def here(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that sees the stand-ins."""
    for path in stand_ins.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_line_of_a_block_is_known():
    unknown = [line for line in PLAIN if not (RUN_FOLDER.match(line) or line in NOT_RUN or commands(line))]
    assert not unknown
    assert {command.key for command in shown()} <= SMALL.keys()
    assert {kind for kind, _ in code_blocks(TEXT)} == {"", "python"}
    # Nothing here is about what the README has not.
    assert SMALL.keys() <= {command.key for command in shown()}
    assert all(line in PLAIN for line in NOT_RUN)


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=pytest.mark.slow if slow(command) else ()) for command in shown()],
    ids=lambda command: " ".join((command.program, *command.argv)),
)
def test_a_command_runs(command, here, capfd):
    options, written = SMALL[command.key]
    status = run(Command(command.program, (*command.argv, *options.split())))
    said = capfd.readouterr()
    assert status == 0, said.err
    for name in written:
        assert list(here.glob(name)), name


def namespaces() -> Iterator[tuple[str, list[str]]]:
    """Each Python block with the expressions of the text after it that use its names."""
    for page in PAGES:
        blocks = [block for kind, block in code_blocks(page) if kind == "python"]
        text = re.sub(r"\s+", " ", page.replace("```python", "\0"))
        for block, after in zip(blocks, text.split("\0")[1:], strict=True):
            names = re.findall(r"^(\w+) = ", block, re.MULTILINE)
            about = inline_code(after.partition("```")[2].partition(" ## ")[0])
            yield block, [code for code in about if re.match(rf"({'|'.join(names)})\.", code)]


@pytest.mark.parametrize(("block", "expressions"), list(namespaces()), ids=lambda value: str(value)[:40])
def test_a_python_block_runs_and_gives_what_the_text_says(block, expressions, here):
    names: dict[str, Any] = {}
    exec(block, names)
    assert expressions
    for code in expressions:
        assert eval(code.replace("[...]", '["street.jpg"]'), names) is not NotImplemented


def test_a_run_folder_holds_what_the_listing_says(stand_ins):
    listing = next(block for kind, block in code_blocks(TEXT) if not kind and "/version_0/" in block)
    named = re.findall(r"(?<= )(checkpoints/)?([\w-]+(?:…|\.)[\w.…]+)", listing)
    assert len(named) >= 5
    for folder, name in named:
        wanted = name.replace("…", "*")
        for task in ("detection", "segmentation", "joint"):
            run_folder = stand_ins / "runs" / task / "demo"
            assert list(run_folder.glob(folder + wanted)) or list(run_folder.glob(f"checkpoints/{wanted}")), name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_way_of_a_newcomer(tmp_path, monkeypatch):
    """The README's commands for one's own data, one after the other, on 20 pictures; the last one without PyTorch."""
    from engine.scenes.generate import generate

    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    Path("examples").symlink_to(ROOT / "examples")
    generate("scenes", train=16, val=4, height=96, width=192)
    write_own_set(tmp_path / "scenes")
    shutil.copy(next(Path("MYSET/images/val").iterdir()), "street.jpg")
    block = next(block for kind, block in code_blocks(PAGES[0]) if not kind and "detection check" in block)
    quick = {"check": "--fail_on never", "fit": f"{_DETECTOR} --trainer.max_epochs 1".replace("true ", "false ", 1)}
    *ours, last = lines(block)
    assert len(ours) == 4
    for line in ours:
        (command,) = commands(line)
        assert run(Command(command.program, (*command.argv, *quick.get(command.key[1], "").split()))) == 0, line
    assert Path("runs/detection/mine/report.html").stat().st_size > 50_000
    script, *words = last.split()[1:]
    alone = "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'detection', 'engine', 'lightning')));"
    alone += f"sys.argv = {[script, *words]}; runpy.run_path({script!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Image.open("drawn.png").size == (192, 96)
