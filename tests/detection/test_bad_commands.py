"""Mistakes of a user: status 2 and one short message that names the faulty item and the remedy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tests.detection.small import command

FIT = "fit --config small.yaml"
BAD_FIT = f"{FIT} --data.train_annotations bad.json"
VALIDATE = "validate --config small.yaml --ckpt_path trained.ckpt"
PREDICT = "predict --ckpt_path trained.ckpt --trainer.accelerator cpu --num_workers 0 --output out"


def nothing() -> None:
    pass


def annotations(change: Callable[[dict], object]) -> Callable[[], None]:
    """Write `bad.json`, the training annotations after a change."""

    def prepare() -> None:
        content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
        change(content)
        Path("bad.json").write_text(json.dumps(content))

    return prepare


def first(key: str, **values: object) -> Callable[[], None]:
    """Change fields of the third image, annotation or category."""
    return annotations(lambda content: content[key][2].update(values))


def text(name: str, content: str) -> Callable[[], None]:
    return lambda: Path(name).write_text(content)


def corrupt() -> None:
    whole = Path(next(Path("scenes/leftImg8bit/train").rglob("*.png"))).read_bytes()
    Path("corrupt.png").write_bytes(whole[: len(whole) // 2])
    first("images", file_name=str(Path("corrupt.png").absolute()))()


def checkpoint(change: Callable[[dict], object]) -> Callable[[], None]:
    """Write `other.ckpt`, the trained checkpoint after a change."""

    def prepare() -> None:
        content = torch.load("trained.ckpt", weights_only=True)
        change(content)
        torch.save(content, "other.ckpt")

    return prepare


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def payload() -> None:
    Path("other.ckpt").write_bytes(pickle.dumps(Payload()))


def hidden_payload() -> None:
    torch.save({"state_dict": {}, "effdense": Payload()}, "other.ckpt")


def bare() -> None:
    torch.save(torch.load("trained.ckpt", weights_only=True)["state_dict"], "other.ckpt")


def damaged() -> None:
    Path("other.ckpt").write_bytes(Path("trained.ckpt").read_bytes()[:100_000])


def ids_from_zero(content: dict) -> None:
    for number, category in enumerate(content["categories"]):
        for annotation in content["annotations"]:
            if annotation["category_id"] == category["id"]:
                annotation["category_id"] = -1 - number
        category["id"] = -1 - number
    for entry, key in [(c, "id") for c in content["categories"]] + [(a, "category_id") for a in content["annotations"]]:
        entry[key] = -1 - entry[key]


def results(**values: object) -> Callable[[], None]:
    entry = {"image_id": 1, "category_id": 26, "bbox": [1, 2, 3, 4], "score": 0.5, **values}
    return text("found.json", json.dumps([entry]))


OTHER = "validate --config small.yaml --ckpt_path other.ckpt"
SCORE = "score --ground_truth scenes/annotations/instances_train.json --predictions found.json"

# Name, command, what its message must hold (the faulty item, then the remedy), what is prepared.
BAD: list[tuple[str, str, list[str], Callable[[], None]]] = [
    # Data.
    ("no first image", BAD_FIT, ["1 of 12 images", "gone.png'", "on_bad_image skip"],
     annotations(lambda c: c["images"][0].update(file_name="gone.png"))),
    ("no image", BAD_FIT, ["1 of 12 images", "gone.png'", "on_bad_image skip"],
     first("images", file_name="gone.png")),
    ("corrupt image", BAD_FIT, ["cannot read image", "corrupt.png", "Repair the file or leave it out"], corrupt),
    ("other size", BAD_FIT, ["is 128x64 (width x height)", "say 999x64", "correct the annotations"],
     first("images", width=999)),
    ("no image folder", f"{FIT} --data.train_images nowhere",
     ["image folder 'nowhere' does not exist", "Give"], nothing),
    ("no annotations", BAD_FIT, ["annotation file 'bad.json' does not exist", "Check the path"], nothing),
    ("no JSON", BAD_FIT,
     ["'bad.json'", "not valid JSON", "Give a COCO detection file"], text("bad.json", "{images: 1}")),
    ("results, no annotations", BAD_FIT, ["'bad.json'", "Give a COCO detection file"], text("bad.json", "[]")),
    ("unknown image id", BAD_FIT, ["image_id 4444", "Add it or remove"], first("annotations", image_id=4444)),
    ("unknown category id", BAD_FIT, ["category_id 77", "Add it or remove"], first("annotations", category_id=77)),
    ("NaN box", BAD_FIT,
     ["box [1, nan, 3, 4]", "Correct or remove it"], first("annotations", bbox=[1, float("nan"), 3, 4])),
    ("negative box", BAD_FIT, ["[1.0, 2.0, -3.0, 4.0]", "at least 0"], first("annotations", bbox=[1, 2, -3, 4])),
    ("no box", BAD_FIT,
     ["has no box to learn from", "Give annotations with boxes"], annotations(lambda c: c["annotations"].clear())),
    ("ids from 0", f"{BAD_FIT} --data.class_rows by_id", ["'by_id' needs category ids from 1", "have 0", "contiguous"],
     annotations(ids_from_zero)),
    ("batch too large", f"{FIT} --data.batch_size 64", ["12 images", "64 on each of 1", "at most 12"], nothing),
    ("no training data", "fit --model.backbone_weights null", ["no 'train_images'", "--data.train_images"], nothing),
    ("no validation data", f"{VALIDATE} --data.val_images null --data.val_annotations null",
     ["no 'val_", "Give --data.val_"], nothing),
    ("unknown categories", f"{VALIDATE} --data.val_images scenes/leftImg8bit/train --data.val_annotations bad.json",
     ["1 categories that the model does not know", "id 99", "Rename the categories"],
     annotations(lambda c: (c["categories"].append({"id": 99, "name": "cow"}),
                            c["annotations"][0].update(category_id=99)))),
    ("classes and data", f"{FIT} --model.num_classes 3", ["num_classes is 3", "10 classes", "Leave it out"], nothing),
    # Checkpoints and weights.
    ("classes and checkpoint", f"{VALIDATE} --model.num_classes 3",
     ["num_classes is 3", "have 10", "Leave it out"], nothing),
    ("no checkpoint file", VALIDATE.replace("trained", "traned"),
     ["no checkpoint 'traned.ckpt'", "'trained.ckpt'?"], nothing),
    ("no run", "predict --ckpt_path last --source .", ["no run with checkpoints", "--run.root"], nothing),
    ("other task", OTHER, ["segmentation checkpoint", "python -m segmentation"],
     checkpoint(lambda c: c["effdense"].update(task="segmentation"))),
    ("weights missing", OTHER, ["other.ckpt", "class_head.predict"],
     checkpoint(lambda c: [c["state_dict"].pop(k) for k in list(c["state_dict"]) if "class_head.predict" in k])),
    ("bare state dict", OTHER, ["bare state dict"], bare),
    ("pickle", OTHER, ["could run code", "refused"], payload),
    ("hidden pickle", OTHER, ["could run code", "refused"], hidden_payload),
    ("damaged checkpoint", OTHER, ["not a checkpoint, or is damaged", "Give a .ckpt file"], damaged),
    ("no weights", "validate --config small.yaml", ["needs trained weights", "--ckpt_path FILE"], nothing),
    ("other member", f"{VALIDATE} --model.member d0",
     ["model.member is 'd0'", "has 'lite0'", "Leave model.member out"], nothing),
    ("unknown published", f"{FIT} --model.pretrained tf_efficientdet_d8",
     ["'tf_efficientdet_d8'", "Did you mean"], nothing),
    ("no weight file", f"{FIT} --model.backbone_weights nowhere.pth", ["'nowhere.pth' does not exist"], nothing),
    # Settings.
    ("unknown member", f"{FIT} --model.member lite03", ["model.member is 'lite03'", "Did you mean 'lite"], nothing),
    ("option", f"{FIT} --model.optimiser.lr 1", ["model.optimiser.lr", "Did you mean 'model.optimizer.lr'?"], nothing),
    ("key", "fit --config typo.yaml", ["data.batchsize", "Did you mean 'data.batch_size'?"],
     text("typo.yaml", "data: {batchsize: 3}\n")),
    ("choice", f"{FIT} --model.optimizer.name adam", ["'adam'", "Did you mean 'adamw'?"], nothing),
    ("nested choice", f"{FIT} --model.postprocess.nms sof", ["'sof'", "Did you mean 'soft'?"], nothing),
    ("no config", "fit --config smal.yaml", ["no config file 'smal.yaml'", "Did you mean 'small.yaml'?"], nothing),
    ("diverging", f"{FIT} --model.optimizer.name sgd --model.optimizer.lr 1e12 --trainer.gradient_clip_val null",
     ["became", "Lower model.optimizer.lr"], nothing),
    # Outputs.
    ("results blocked", f"{VALIDATE} --model.detections small.yaml/found.json",
     ["'small.yaml'", "Give a folder"], nothing),
    ("runs blocked", f"{FIT} --run.root small.yaml", ["'small.yaml/detection'", "Give a folder"], nothing),
    ("predictions blocked", f"{PREDICT} --output small.yaml --source scenes/leftImg8bit/val",
     ["'small.yaml'", "Give a folder"], nothing),
    ("over the images", f"{PREDICT} --output scenes/leftImg8bit/val --source scenes/leftImg8bit/val",
     ["among the sources", "Give a folder of its own"], nothing),
    # Prediction.
    ("no source", "predict --ckpt_path trained.ckpt", ["--source"], nothing),
    ("no such image", f"{PREDICT} --source gone.jpg",
     ["'gone.jpg' does not exist", "Give an image or video, a folder"], nothing),
    ("empty folder", f"{PREDICT} --source empty", ["'empty' holds no image", ".jpg"], lambda: Path("empty").mkdir()),
    ("threshold", f"{PREDICT} --source scenes --score_threshold 2", ["score_threshold is 2", "below 1"], nothing),
    ("no batch", f"{PREDICT} --source scenes --batch_size 0", ["batch_size is '0'", "at least 1"], nothing),
    # Scores.
    ("score unknown image", SCORE, ["1 image id", "4444", "belong together"], results(image_id=4444)),
    ("score unknown category", SCORE, ["1 category id", "99", "belong together"], results(category_id=99)),
    ("score annotations as results", SCORE, ["'found.json'", "results list"],
     lambda: Path("found.json").symlink_to("scenes/annotations/instances_val.json")),
    ("score no file", SCORE, ["cannot read 'found.json'"], nothing),
    ("score option", f"{SCORE} --backnd faster", ["'backnd'", "Did you mean 'backend'?"], nothing),
]  # fmt: skip


# These messages are in another test of the default suite, of the function that writes them or of another task.
ELSEWHERE = (
    "no first image", "results, no annotations", "other task", "weights missing", "bare state dict",
    "no validation data", "results blocked", "no source", "empty folder", "threshold", "diverging",
)  # fmt: skip
CASES = [pytest.param(*case[1:], id=case[0], marks=pytest.mark.slow if case[0] in ELSEWHERE else ()) for case in BAD]


@pytest.mark.parametrize(("line", "holds", "prepare"), CASES)
def test_bad_command(line, holds, prepare, here, trained):
    Path("trained.ckpt").symlink_to(trained / "checkpoints/last.ckpt")
    prepare()
    said = command(line)
    assert said.code == 2
    lines = said.err.strip().splitlines()
    assert len(lines) <= 5, said.err
    assert lines[-1].startswith("error: ")
    assert len(lines[-1]) <= 640
    for part in holds:
        assert part in lines[-1]
    assert "Traceback" not in said.err + said.out
    assert "usage" not in said.err + said.out
    assert not Path("ran").exists(), "the checkpoint ran code"
    assert not list(here.glob("runs/**/*.ckpt"))


BOOKS = ["detections.json", "finished.jsonl", "settings.json"]


def test_a_corrupt_image_among_good_ones_loses_none_of_those(here, trained):
    """The others are done, those of its own batch too."""
    rng = np.random.default_rng(0)
    Path("in").mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 128, 3), dtype=np.uint8)).save(f"in/{number}.png")
    Path("in/3.png").write_bytes(b"no image")
    checkpoint = trained / "checkpoints/last.ckpt"
    options = "--source in --output out --batch_size 2 --num_workers 0 --trainer.accelerator cpu"
    said = command(f"predict --ckpt_path {checkpoint} {options}")
    assert said.code == 2
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("error: 1 of 4 could not be done: cannot read image 'in/3.png'")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        ["0.png", "1.png", "2.png", "failed.jsonl", *BOOKS]
    )
    document = json.loads(Path("out/detections.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["in/0.png", "in/1.png", "in/2.png"]


@pytest.mark.slow
def test_a_diverged_training_keeps_its_last_good_checkpoint(here):
    """NaN weights are never written over finite ones."""
    assert command(f"{FIT} --run.name good --trainer.max_epochs 1").code == 0
    last = Path("runs/detection/good/checkpoints/last.ckpt")
    before = last.read_bytes()
    content = torch.load(last, weights_only=True)
    content["current_model_state"]["detector.class_head.predict.pointwise.bias"].fill_(float("nan"))
    torch.save(content, last)
    broken = last.read_bytes()
    assert broken != before
    said = command(f"{FIT} --ckpt_path last --trainer.max_epochs 2")
    assert said.code == 2
    assert "the loss became nan at step 3 (class_loss nan, box_loss " in said.err
    assert "the weights 'class_head.predict.pointwise.bias' are no longer finite" in said.err
    with safe_open("runs/detection/good/bad_batch.safetensors", "pt") as file:
        assert file.metadata()["step"] == "3"
        assert len(list(Path("runs/detection/good").glob("bad_batch_*.png"))) == len(file.get_tensor("images"))
    assert last.read_bytes() == broken
