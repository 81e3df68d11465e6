"""Mistakes of a user: status 2, one short message that names the faulty item and the remedy, and nothing is lost."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.segmentation.small import command

FIT = "fit --config things.yaml --run.name bad"
# Every image is read in the first step.
BAD_FIT = f"{FIT} --data.root bad --data.batch_size 5 --data.folder.mask_format index"
VALIDATE = "validate --config things.yaml --ckpt_path trained.ckpt"
OTHER = "validate --config things.yaml --ckpt_path other.ckpt"
PREDICT = "predict --ckpt_path trained.ckpt --trainer.accelerator cpu --num_workers 0 --output out"
SCORE = "score --ground-truth scenes/gtFine/val --predictions out"
FOLDER_SCORE = "score --ground-truth bad/masks/val --predictions out --dataset folder --classes classes.yaml"


def nothing() -> None:
    pass


def text(name: str, content: str) -> Callable[[], None]:
    return lambda: Path(name).write_text(content)


def masks(change: Callable[[Path], object] = lambda path: None) -> Callable[[], None]:
    """Write `bad/`, the discs with index masks of 0 and 1, and change the third training mask."""

    def prepare() -> None:
        shutil.copytree("things", "bad")
        for path in Path("bad/masks").rglob("*.png"):
            Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8)).save(path)
        change(Path("bad/masks/train/2_mask.png"))

    return prepare


def values(path: Path) -> None:
    rows = np.array(Image.open(path))
    rows[0, :3] = 77
    Image.fromarray(rows).save(path)


def smaller(path: Path) -> None:
    Image.fromarray(np.array(Image.open(path))[:-2]).save(path)


def lossy(path: Path) -> None:
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def colored(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def train_ids_only() -> None:
    shutil.copytree("scenes", "bad")
    for path in Path("bad/gtFine/train").rglob("*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))


def checkpoint(change: Callable[[dict], object]) -> Callable[[], None]:
    """Write `other.ckpt`, the trained checkpoint after a change."""

    def prepare() -> None:
        content = torch.load("trained.ckpt", weights_only=True)
        change(content)
        torch.save(content, "other.ckpt")

    return prepare


def truncated() -> None:
    Path("other.ckpt").write_bytes(Path("trained.ckpt").read_bytes()[:100_000])


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def payload() -> None:
    Path("other.ckpt").write_bytes(pickle.dumps(Payload()))


def train_ids() -> None:
    for path in Path("scenes/gtFine/val").rglob("*_labelIds.png"):
        target = Path("out", path.name.replace("_gtFine_labelIds", "_pred"))
        target.parent.mkdir(exist_ok=True)
        Image.fromarray((np.arange(64 * 128) % 19).astype(np.uint8).reshape(64, 128)).save(target)


def strange_predictions() -> None:
    masks()()
    text("classes.yaml", "[background, thing]\n")()
    shutil.copytree("bad/masks/val", "out")
    values(Path("out/1_mask.png"))


# Name, command, what its message must hold (the faulty item, then the remedy), what is prepared.
BAD: list[tuple[str, str, list[str], Callable[[], None]]] = [
    ("mask values", BAD_FIT, ["mask 'bad/masks/train/2_mask.png' has 77 (3 pixels)", "0 background, 1 thing",
                              "Correct the mask"], masks(values)),
    ("sizes", BAD_FIT, ["image 'bad/images/train/2.png' is 91x77", "2_mask.png' is 91x75", "full size"],
     masks(smaller)),
    ("missing pair", BAD_FIT, ["1 of 5 images have no mask, the first is 'bad/images/train/2.png'", "Add"],
     masks(Path.unlink)),
    ("JPEG mask", BAD_FIT, ["2_mask.jpg' is saved as JPEG, which changes its values", "Save the mask as PNG"],
     masks(lossy)),
    ("RGB mask", BAD_FIT, ["2_mask.png' is RGB", "means one value a pixel", "mask_format color"], masks(colored)),
    ("unknown class", f"{VALIDATE} --data.folder.classes [background,thang]",
     ["1 classes that the model does not know, such as 'thang'", "Did you mean 'thing'?"], nothing),
    ("detection checkpoint", OTHER, ["'other.ckpt' is a detection checkpoint", "python -m detection"],
     checkpoint(lambda c: c["effdense"].update(task="detection"))),
    ("truncated checkpoint", OTHER, ["'other.ckpt' is not a checkpoint, or is damaged", "Give a .ckpt file"],
     truncated),
    ("unknown decoder", f"{FIT} --model.architecture.decoder unett", ["'unett'", "Did you mean 'unet'?"], nothing),
    ("key", "fit --config typo.yaml", ["data.crop_sise", "Did you mean 'data.crop_size'?"],
     text("typo.yaml", "data: {crop_sise: 64}\n")),
    ("diverging", f"{FIT} --model.optimizer.name sgd --model.optimizer.lr 1e18 --trainer.gradient_clip_val null "
     "--data.repeat 4", ["became", "Lower model.optimizer.lr"], nothing),
    ("results blocked", f"{VALIDATE} --model.scores things.yaml/found.json",
     ["'things.yaml'", "Give a folder"], nothing),
    ("over the images", f"{PREDICT} --source mine --output mine --overwrite true",
     ["among the sources", "Give a folder of its own"], lambda: shutil.copytree("things/images/val", "mine")),
    ("submission of others", f"{PREDICT} --source scenes/leftImg8bit/val --submission send.zip",
     ["19 classes of Cityscapes", "Leave --submission out"], nothing),
    ("score training ids", SCORE, ["hold training ids", "Write"], train_ids),
]  # fmt: skip

# As before; unit tests check each of them too, so these check how it reaches the user.
MORE: list[tuple[str, str, list[str], Callable[[], None]]] = [
    ("index where colour is meant", f"{BAD_FIT} --data.folder.mask_format color",
     ["has one value a pixel, where mask_format 'color' means RGB", "Give mask_format index"], masks()),
    ("cut mask", BAD_FIT, ["cannot read mask 'bad/masks/train/2_mask.png'", "Repair"], masks(halved)),
    ("no classes", f"{FIT} --data.folder.classes null", ["no class list", "--data.folder.classes"], nothing),
    ("binary of three", f"{FIT} --data.folder.classes [a,b,c]", ["mask_format is binary", "3 names", "Give two"],
     nothing),
    ("no folder", f"{FIT} --data.folder.train_masks nowhere", ["'things/nowhere' does not exist", "Check the path"],
     nothing),
    ("training ids", "fit --config streets.yaml --data.root bad",
     ["_labelTrainIds.png' but no", "Give the label ids as Cityscapes ships them"], train_ids_only),
    ("no split", "fit --config streets.yaml --data.cityscapes.val_split vall",
     ["no split 'vall'", "Did you mean 'val'?"], nothing),
    ("no Cityscapes", "fit --config streets.yaml --data.root things", ["no folder 'leftImg8bit'", "Give the folder"],
     nothing),
    ("batch too large", f"{FIT} --data.batch_size 64", ["5 images, fewer than one step", "at most 5"], nothing),
    ("no test data", f"{VALIDATE.replace('validate', 'test')}", ["no 'test_images'", "--data.folder.test_images"],
     nothing),
    ("small crop", f"{FIT} --data.crop_size 32", ["crop_size is 32", "at least 33"], nothing),
    ("no checkpoint file", VALIDATE.replace("trained", "traned"),
     ["no checkpoint 'traned.ckpt'", "'trained.ckpt'?"], nothing),
    ("truncated checkpoint to predict", f"{PREDICT.replace('trained', 'other')} --source things/images/val",
     ["'other.ckpt' is not a checkpoint, or is damaged"], truncated),
    ("weights missing", OTHER, ["other.ckpt", "segmenter.head.classifier"],
     checkpoint(lambda c: [c["state_dict"].pop(k) for k in list(c["state_dict"]) if "head.classifier" in k])),
    ("pickle", OTHER, ["could run code", "refused"], payload),
    ("no weights", "validate --config things.yaml", ["needs trained weights", "--ckpt_path FILE"], nothing),
    ("other architecture", f"{VALIDATE} --model.architecture.decoder_channels 32",
     ["decoder_channels is 32", "has 16", "Leave model.architecture.decoder_channels out"], nothing),
    ("no smp folder", f"{FIT} --model.pretrained things", ["cannot read 'things/config.json'", "save_pretrained"],
     nothing),
    ("decoder's fields", f"{FIT} --model.architecture.decoder fpn",
     ["architecture.decoder_channels is DeepLabv3+'s", "Leave it out"], nothing),
    ("decoder's stride", "validate --config things.yaml --ckpt_path trained.ckpt --model.eval_output_stride 4",
     ["eval_output_stride", "4"], nothing),
    ("unknown member", f"{FIT} --model.member lite03", ["model.member is 'lite03'", "Did you mean 'lite"], nothing),
    ("option", f"{FIT} --model.optimiser.lr 1", ["model.optimiser.lr", "Did you mean 'model.optimizer.lr'?"], nothing),
    ("key of a group", "fit --config typo.yaml", ["data.folder.train_mask", "Did you mean 'data.folder.train_masks'?"],
     text("typo.yaml", "data: {folder: {train_mask: masks}}\n")),
    ("format", f"{FIT} --data.format folders", ["'folders'", "Did you mean 'folder'?"], nothing),
    ("loss", f"{FIT} --model.loss.hard_pixels 2", ["hard_pixels is 2", "at most 1"], nothing),
    ("runs blocked", f"{FIT} --run.root things.yaml", ["'things.yaml/segmentation'", "Give a folder"], nothing),
    ("predictions blocked", f"{PREDICT} --output things.yaml --source things/images/val",
     ["'things.yaml'", "Give a folder"], nothing),
    ("no source", "predict --ckpt_path trained.ckpt", ["--source"], nothing),
    ("no such image", f"{PREDICT} --source gone.jpg", ["'gone.jpg' does not exist", "Give a"], nothing),
    ("window", f"{PREDICT} --source things/images/val --window 64 --overlap 65", ["overlap is 65", "window"], nothing),
    ("score values", FOLDER_SCORE, ["out/1_mask.png' has 77 (3 pixels)", "0 background, 1 thing"],
     strange_predictions),
    ("score option", f"{SCORE} --boundry 1", ["'boundry'", "Did you mean 'boundary'?"], nothing),
    ("check nothing", "check --submission out --ground-truth scenes/gtFine/val", ["'out'"], nothing),
]  # fmt: skip


def contents() -> dict[str, bytes]:
    """Every file below the working folder, not those of the shared sets."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


CASES = [pytest.param(*case[1:], id=case[0]) for case in BAD]
CASES += [pytest.param(*case[1:], id=case[0], marks=pytest.mark.slow) for case in MORE]


@pytest.mark.parametrize(("line", "holds", "prepare"), CASES)
def test_bad_command(line, holds, prepare, here, trained_things):
    Path("trained.ckpt").symlink_to(trained_things / "checkpoints/last.ckpt")
    prepare()
    before = contents()
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
    after = contents()
    assert {name: after.get(name) for name in before} == before, "something that was there is lost"
    assert not Path("ran").exists(), "the checkpoint ran code"
    assert not list(here.glob("runs/**/*.ckpt"))
    assert not Path("send.zip").exists()


def test_a_corrupt_image_among_good_ones_loses_none_of_those(here, trained_things):
    """The others are done and listed, and are not computed again after the bad one is repaired."""
    shutil.copytree("things/images/train", "in")
    whole = Path("in/3.png").read_bytes()
    Path("in/3.png").write_bytes(whole[:100])
    line = f"{PREDICT.replace('trained.ckpt', str(trained_things / 'checkpoints/last.ckpt'))} --source in"
    said = command(line)
    assert said.code == 2
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("error: 1 of 5 could not be done: cannot read image 'in/3.png'")
    done = [f"{number}{ending}" for number in (0, 1, 2, 4) for ending in (".png", "_overlay.jpg")]
    books = ["areas.csv", "failed.jsonl", "finished.jsonl", "settings.json"]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted([*done, *books])
    assert len(Path("out/areas.csv").read_text().splitlines()) == 1 + 4 * 2
    Path("in/3.png").write_bytes(whole)
    said = command(line)
    assert said.code == 0, said.err
    assert "4 of 5 are finished" in said.err
    assert len(Path("out/areas.csv").read_text().splitlines()) == 1 + 5 * 2


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_diverged_training_keeps_its_last_good_checkpoint(here, trained_things):
    """NaN weights are never written over finite ones."""
    shutil.copytree(trained_things, "runs/segmentation/good")
    last = Path("runs/segmentation/good/checkpoints/last.ckpt")
    content = torch.load(last, weights_only=True)
    content["state_dict"]["segmenter.head.classifier.bias"].fill_(float("nan"))
    torch.save(content, last)
    broken = last.read_bytes()
    said = command("fit --config things.yaml --run.name good --ckpt_path last --trainer.max_epochs 7 --data.repeat 2")
    assert said.code == 2
    assert "the network's answers are not numbers (NaN): its training diverged" in said.err
    assert last.read_bytes() == broken
