"""`validate`, `test` and `predict` take a file where they take a checkpoint, and give the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.tasks import find_task
from tests.deployment.networks import OBJECTS, SURFACES, TASKS, picture
from tests.detection.small import command

# The canvases of the networks' own: a .pt2 is for one size, and a segmenter sees pictures as they are.
SIZES = {"detection": (160, 224), "segmentation": (160, 224), "joint": (128, 256)}
BOXES = ["annotations boxes.json", "images pictures"]
MASKS = ["masks masks", "images pictures"]
DATA = {
    "detection": [f"--data.{{split}}_{each}" for each in BOXES],
    "segmentation": ["--data.format folder", *(f"--data.folder.{{split}}_{each}" for each in MASKS)],
    "joint": [
        *(f"--data.boxes.{{split}}_{each}" for each in BOXES),
        "--data.masks.format folder",
        *(f"--data.masks.folder.{{split}}_{each}" for each in MASKS),
    ],
}
CLASSES = {"segmentation": "--data.folder.classes", "joint": "--data.masks.folder.classes"}
EXPECTED: dict[tuple[str, str], object] = {}  # of the checkpoints, computed once
FORMATS = ["torch", *(pytest.param(each, marks=pytest.mark.slow) for each in ("onnx", "openvino"))]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Three pictures with boxes and masks of chance, equal at each call."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for folder in ("pictures", "masks"):
        Path(folder).mkdir()
    for number in range(3):
        height, width = 160, 224
        Image.fromarray(picture(height, width, number)).save(f"pictures/{number}.png")
        rows = random.integers(0, 3, (4, 6)).repeat(40, 0).repeat(40, 1)[:height, :width]
        Image.fromarray(np.array(SURFACES.label_ids, np.uint8)[rows]).save(f"masks/{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        for left, top in random.integers(0, 120, (12, 2)).tolist():
            width_height = random.integers(16, 100, 2).tolist()
            box = [left, top, *width_height]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "bbox": box, "area": box[2] * box[3],
                "category_id": int(random.choice([7, 30])), "iscrowd": 0,
            })  # fmt: skip
    categories = [
        {"id": number, "name": name} for number, name in zip(OBJECTS.category_ids, OBJECTS.names, strict=True) if name
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    Path("boxes.json").write_text(json.dumps(content))
    Path("classes.yaml").write_text(json.dumps({"names": SURFACES.names, "label_ids": SURFACES.label_ids}))
    return tmp_path


def run(task: str, *words: str) -> None:
    """Run a command, which succeeds."""
    said = command(" ".join(words), find_task(task))
    assert said.code == 0, said.err


def scores(task: str, name: str, source: Path) -> dict[str, object]:
    """All that `validate` or `test` writes of a network's accuracy."""
    split = "val" if name == "validate" else "test"
    data = " ".join(DATA[task]).format(split=split)
    classes = f"{CLASSES[task]} classes.yaml" if task in CLASSES else ""
    run(task, name, f"--ckpt_path {source} {data} {classes} --data.num_workers 0 --model.scores scores.json")
    found: dict[str, object] = json.loads(Path("scores.json").read_text())
    return found


def numbers(content: object, place: str = "") -> dict[str, float]:
    """Every number of nested values, by its place."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {name: value for key, each in pairs for name, value in numbers(each, f"{place}/{key}").items()}
    return {place: float(content)} if isinstance(content, int | float) else {}


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["validate", "test"])
@pytest.mark.by_default("validate-detection")
def test_scores(ckpt, exported, here, task, name, file_format):
    if (task, name) not in EXPECTED:
        EXPECTED[task, name] = scores(task, name, ckpt(task))
    expected = numbers(EXPECTED[task, name])
    size = {"image_size": SIZES[task]} if file_format == "torch" else {}
    found = numbers(scores(task, name, exported(task, file_format, **size)))
    assert found.keys() == expected.keys()
    assert any(0 < value < 1 for value in expected.values())
    # A joint file gives classes on its canvas, which are then enlarged; the network enlarges logits.
    assert found == pytest.approx(expected, abs=5e-3, rel=0.02 if task == "joint" else 1e-3)


@pytest.mark.parametrize("task", ["detection", pytest.param("joint", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_scores_of_a_file_that_takes_pictures(ckpt, exported, here, task):
    """It is given the pictures themselves, one of which has another size than the others of its batch."""
    Image.fromarray(picture(200, 110, 9)).save("pictures/0.png")
    Image.fromarray(np.full((200, 110), SURFACES.label_ids[1], np.uint8)).save("masks/0.png")
    content = json.loads(Path("boxes.json").read_text())
    content["images"][0] |= {"height": 200, "width": 110}
    Path("boxes.json").write_text(json.dumps(content))
    expected = numbers(scores(task, "validate", ckpt(task)))
    found = numbers(scores(task, "validate", exported(task, "torch", letterbox="inside")))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("file_format", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.by_default("segmentation-onnx")
def test_predictions(ckpt, exported, here, task, file_format):
    size = {"image_size": SIZES[task]} if file_format == "torch" else {}
    for source, output in ((ckpt(task), "expected"), (exported(task, file_format, **size), "found")):
        run(task, f"predict --ckpt_path {source} --source pictures --output {output} --num_workers 0")
    names = {path.relative_to("expected") for path in Path("expected").rglob("*.*")}
    assert names == {path.relative_to("found") for path in Path("found").rglob("*.*")}
    masks = [name for name in names if name.suffix == ".png" and task != "detection"]
    for name in masks:
        ours, expected = (np.array(Image.open(Path(folder, name))) for folder in ("found", "expected"))
        assert (ours == expected).mean() > (0.95 if task == "joint" else 0.999)
    boxes = [name for name in names if name.name == "detections.json"]
    for name in boxes:
        ours, expected = (json.loads(Path(folder, name).read_text()) for folder in ("found", "expected"))
        for one in (
            *ours["annotations"],
            *expected["annotations"],
        ):  # implied
            assert one.pop("area") == pytest.approx(one["bbox"][2] * one["bbox"][3], rel=1e-3)
        assert numbers(ours) == pytest.approx(numbers(expected), abs=0.5)
        assert len(expected["annotations"]) > 5
    assert len(masks) == (0 if task == "detection" else 3)
    assert len(boxes) == (0 if task == "segmentation" else 1)
