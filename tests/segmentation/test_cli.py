"""`python -m segmentation` as a user runs it: train, measure, predict, score, check, and the files between them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from segmentation import load
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.scores.score import score
from tests.segmentation.cityscapes_oracle import assert_equal
from tests.segmentation.small import FOLDER_CLASSES, class_ious, command, logged, read_json

ROOT = Path(__file__).parents[2]
TRUTH = "scenes/gtFine/val"
PICTURES = "scenes/leftImg8bit/val"
OPTIONS = "--trainer.accelerator cpu --trainer.enable_progress_bar false --num_workers 0"


def best_of(run):
    return next((run / "checkpoints").glob("best*"))


def files(folder):
    """The content of every file below a folder, by its path in the folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.*")}


def areas(folder):
    with Path(folder, "areas.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def predicted(street_set, trained, tmp_path_factory):
    """A folder with `out`, the prediction of the validation scenes, and `to_send.zip`; made from the sets' folder."""
    folder = tmp_path_factory.mktemp("predicted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(street_set)
        line = f"predict --ckpt_path {best_of(trained)} --source {PICTURES} --output {folder}/out {OPTIONS}"
        said = command(f"{line} --submission {folder}/to_send.zip")
    assert said.code == 0, said.err
    return folder


def test_a_training_leaves_everything_in_its_folder(trained):
    names = {path.name.partition(".")[0] for path in trained.iterdir()}
    assert {"config", "versions", "metrics", "events", "checkpoints"} <= names
    kinds = sorted(path.name.partition("-")[0] for path in (trained / "checkpoints").iterdir())
    assert kinds == ["best", "last.ckpt"]
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["architecture"]["decoder_channels"] == 16
    assert config["data"]["augmentation"]["scale_min"] == 0.8
    assert "segmentation fit --config streets.yaml" in read_json(trained / "versions.json")["command"]
    losses = logged(trained, "train_loss")
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    # The checkpoint describes itself with plain values: architecture, classes, recipe.
    stored = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["effdense"]["model"]
    assert stored["member"] == "lite0"
    assert stored["architecture"]["output_stride"] == 16
    assert tuple(stored["classes"]["names"]) == CITYSCAPES.names
    assert stored["optimizer"]["name"] == "adamw"


def test_what_a_newcomer_sees(here):
    said = command("fit --config things.yaml --run.name seen --trainer.max_epochs 1")
    assert said.code == 0
    assert said.out == ""
    # Under pytest Lightning's logger has another format.
    precision, _, what, data, where = (line.removeprefix("INFO: ") for line in said.err.strip().splitlines())
    assert precision.startswith("precision ")
    assert what == (
        "deeplabv3plus on tf_efficientnet_lite0 at output stride 16: 3.0 M parameters; 2 classes; "
        "crops of 64 x 96 pixels (height x width)"
    )
    assert data.startswith("quick check of ")
    best = "runs/segmentation/seen/checkpoints/best-"
    assert where.startswith(f"Results are in runs/segmentation/seen; best checkpoint: {best}")


def test_validation_scores_as_training_did_and_as_the_written_masks_do(here, trained, predicted):
    measure = f"validate --config streets.yaml --ckpt_path {best_of(trained)}"
    said = command(f"{measure} --model.boundary 0.0075 --model.scores new/found.json")
    assert said.code == 0, said.err
    found = read_json("new/found.json")
    # As logged in training, by the average of the weights.
    for name, measured in (("miou", "miou"), ("category_iou", "category_iou"), ("iiou", "iiou")):
        assert found[measured] in [pytest.approx(value, abs=1e-7) for value in logged(trained, f"val_{name}")]
    assert max(logged(trained, "val_miou")) == pytest.approx(found["miou"], abs=1e-7)
    # As the masks score that prediction wrote: every number, to the last bit.
    given = f"--ground-truth {TRUTH} --predictions {predicted}/out --boundary 0.0075 --output scored.json"
    scored = command(f"score {given}")
    assert scored.code == 0, scored.err
    assert scored.out == said.out
    assert read_json("scored.json") == found
    assert set(found) >= {"class_ious", "class_iious", "category_ious", "category_iious", "boundary_fs", "confusion"}
    assert 0 < found["boundary_f"] < 1
    # And as the official script scores them.
    scores = score(TRUTH, predicted / "to_send.zip", workers=1)
    assert_equal(scores, [triple(path, predicted / "out") for path in sorted(Path(TRUTH).rglob("*_labelIds.png"))])
    assert scores.miou == found["miou"]
    assert len([value for value in scores.class_ious.values() if value]) > 3


def triple(true, folder):
    """Predicted and true ids and instances of one scene, as arrays."""
    name = true.name.replace("_gtFine_labelIds", "_leftImg8bit")
    instances = true.with_name(true.name.replace("labelIds", "instanceIds"))
    return tuple(np.array(Image.open(path)) for path in (next(folder.rglob(name)), true, instances))


@pytest.mark.slow
def test_the_test_command_scores_the_test_split(here, trained):
    said = command(f"test --config streets.yaml --ckpt_path {best_of(trained)} --model.scores test.json")
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].split() == ["class", "IoU", "iIoU"]
    true = [np.asarray(Image.open(path)) for path in Path("scenes/gtFine/train").rglob("*_labelIds.png")]
    counted = sum(np.isin(labels, CITYSCAPES.label_ids).sum() for labels in true)
    assert np.sum(read_json("test.json")["confusion"]) == counted


def test_predictions_are_masks_overlays_and_areas(here, trained, predicted):
    segmenter = load(best_of(trained))
    pictures = sorted(Path(PICTURES).rglob("*.png"))
    names = [path.relative_to(PICTURES).with_suffix("") for path in pictures]
    books = ["areas.csv", "finished.jsonl", "settings.json"]
    expected = [f"{name}{ending}" for name in names for ending in (".png", "_overlay.jpg")]
    assert sorted(files(predicted / "out")) == sorted([*books, *expected])
    rows = areas(predicted / "out")
    assert len(rows) == 5 * 19
    for number, (path, name) in enumerate(zip(pictures, names, strict=True)):
        mask = Image.open(predicted / "out" / f"{name}.png")
        found = segmenter.predict(path)  # in Python: the same
        np.testing.assert_array_equal(np.array(mask), found.label_ids)
        assert mask.mode == "P"
        assert Image.open(predicted / "out" / f"{name}_overlay.jpg").width >= 128
        own = rows[19 * number : 19 * number + 19]
        assert {row["image"] for row in own} == {path.as_posix()}
        assert {row["class"]: int(row["pixels"]) for row in own} == found.areas()
        assert sum(int(row["pixels"]) for row in own) == 64 * 128
        assert [int(row["label_id"]) for row in own] == list(CITYSCAPES.label_ids)
    assert len(np.unique(np.array(mask))) > 1


def test_a_submission_is_what_check_takes(here, predicted):
    said = command(f"check --submission {predicted}/to_send.zip --ground-truth {TRUTH}")
    assert said.code == 0, said.err
    with zipfile.ZipFile(predicted / "to_send.zip") as archive, zipfile.ZipFile("less.zip", "w") as less:
        left_out, *names = archive.namelist()
        assert len(names) == 4
        for name in names:
            less.writestr(name, archive.read(name))
    said = command(f"check --submission less.zip --ground-truth {TRUTH}")
    assert said.code == 2
    scene = re.match(r"[a-z]+_\d+_\d+", Path(left_out).name)[0]
    assert f"missing: '{scene}' has no file" in said.err


@pytest.mark.slow
def test_what_is_finished_is_not_done_again_and_other_settings_are_refused(
    street_set, trained, predicted, tmp_path, monkeypatch
):
    monkeypatch.chdir(street_set)
    out = tmp_path / "out"
    shutil.copytree(predicted / "out", out)
    line = f"predict --ckpt_path {best_of(trained)} --source {PICTURES} --output {out} {OPTIONS}"
    gone = next(out.rglob("*_overlay.jpg"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    content = files(out)
    gone.unlink()
    said = command(line)
    assert said.code == 0, said.err
    assert f"4 of 5 are finished in {out}" in said.err
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == [gone.with_name(gone.name.replace("_overlay.jpg", ".png"))]
    after = files(out)
    assert {name: value for name, value in after.items() if name != "finished.jsonl"} == {
        name: value for name, value in content.items() if name != "finished.jsonl"
    }
    said = command(f"{line} --window 64")
    assert said.code == 2
    assert (
        said.err.strip().splitlines()[-1].startswith(f"error: '{out}' holds results of other settings: inference was")
    )
    assert files(out) == after
    # Another checkpoint is another setting, too.
    said = command(line.replace(str(best_of(trained)), str(trained / "checkpoints/last.ckpt")))
    assert (said.code, "weights was sha256" in said.err) == (2, True)
    assert files(out) == after
    said = command(f"{line} --window 64 --overlap 32 --flip true --pictures false --overwrite true")
    assert said.code == 0, said.err
    assert any(after[name] != value for name, value in files(out).items() if name.endswith("8bit.png"))


@pytest.fixture(scope="module")
def measured(street_set, trained_things, tmp_path_factory):
    """The numbers and the table of a validation of the discs."""
    results = tmp_path_factory.mktemp("measured") / "found.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(street_set)
        checkpoint = trained_things / "checkpoints/last.ckpt"
        said = command(f"validate --config things.yaml --ckpt_path {checkpoint} --model.scores {results}")
    assert said.code == 0, said.err
    return read_json(results), said.out


def test_masks_of_a_folder_score_as_validation_does(here, trained_things, measured):
    """Binary masks, images of odd and different sizes; the checkpoint alone tells prediction the classes."""
    checkpoint = trained_things / "checkpoints/last.ckpt"
    found, table = measured
    assert "category_iou" not in found
    line = f"predict --ckpt_path {checkpoint} --source things/images/val --output out --probabilities true {OPTIONS}"
    assert command(line).code == 0
    assert {row["class"] for row in areas("out")} == set(FOLDER_CLASSES)
    assert read_json("out/settings.json")["classes"]["names"] == list(FOLDER_CLASSES)
    predicted, true = [], []
    for path in sorted(Path("things/masks/val").glob("*.png")):
        mask = np.array(Image.open(Path("out", path.name.replace("_mask", ""))))
        with np.load(Path("out", path.name.replace("_mask.png", "_probabilities.npz"))) as kept:
            assert np.abs(kept["probabilities"].astype(float).sum(0) - 1).max() < 0.01
            assert (kept["probabilities"].argmax(0) == mask).mean() > 0.99
        predicted.append(mask)
        true.append((np.array(Image.open(path)) > 0).astype(np.uint8))
    ious = class_ious(predicted, true, 2)
    assert list(found["class_ious"].values()) == pytest.approx(ious, abs=1e-12)
    Path("classes.yaml").write_text("[background, thing]\n")
    for path in Path("out").glob("*_probabilities.npz"):
        path.unlink()
    given = "--ground-truth things/masks/val --predictions out --dataset folder --classes classes.yaml"
    scored = command(f"score {given} --mask_format binary --mask_suffix _mask --output scored.json")
    assert scored.code == 0, scored.err
    assert read_json("scored.json") == found
    assert scored.out == table


def test_classes_are_those_of_the_checkpoint_by_name(here, trained_things, measured):
    """Data that list the classes in another order, with other values, score the same."""
    checkpoint = trained_things / "checkpoints/last.ckpt"
    for path in Path("things/masks/val").glob("*.png"):
        values = np.where(np.array(Image.open(path)) > 0, 7, 3).astype(np.uint8)
        Path("turned").mkdir(exist_ok=True)
        Image.fromarray(values).save(Path("turned", path.name))
    classes = {"names": ["thing", "background"], "label_ids": [7, 3]}
    config = yaml.safe_load(Path("things.yaml").read_text())
    config["data"]["folder"] |= {"val_masks": str(Path("turned").resolve()), "classes": classes, "mask_format": "index"}
    Path("turned.yaml").write_text(yaml.safe_dump(config))
    said = command(f"validate --config turned.yaml --ckpt_path {checkpoint} --model.scores turned.json")
    assert said.code == 0, said.err
    assert read_json("turned.json") == measured[0]
    assert list(read_json("turned.json")["class_ious"]) == list(FOLDER_CLASSES)


@pytest.mark.slow
def test_whole_images_and_tiles_are_chosen_in_validation_too(here, trained_things):
    checkpoint = trained_things / "checkpoints/last.ckpt"
    line = f"validate --config things.yaml --ckpt_path {checkpoint} --model.scores found.json"
    said = command(f"{line} --model.inference.window 64 --model.inference.flip true --model.inference.scales [0.75,1]")
    assert said.code == 0, said.err
    segmenter = load(checkpoint)
    found, true = [], []
    for path in sorted(Path("things/images/val").glob("*.png")):
        found.append(segmenter.predict(path, window=64, flip=True, scales=(0.75, 1)).class_ids)
        mask = Path("things/masks/val", f"{path.stem}_mask.png")
        true.append((np.array(Image.open(mask)) > 0).astype(np.uint8))
    assert list(read_json("found.json")["class_ious"].values()) == pytest.approx(class_ious(found, true, 2), abs=1e-12)


def test_help_version_score_and_check_do_not_wait_for_torch():
    code = (
        "import sys\n"
        "from engine.cli.commands import run_task\nfrom segmentation.spec import SPEC\n"
        "for words in (['--help'], ['--version'], ['score', '--help'], ['check', '--help'], ['fit', '--help'],\n"
        "    ['predict', '--help'], ['fit', '--help', 'data'], ['fit', '--config', 'none'],\n"
        "    ['fti'], ['fit', '--ckpt_path', 'none.ckpt']):\n"
        "    try:\n"
        "        run_task(SPEC, words)\n"
        "    except SystemExit as leaving:\n"
        "        assert not leaving.code\n"
        "sys.exit(sorted({'torch', 'lightning', 'timm', 'albumentations'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fit        train" in done.stdout
    assert re.search(r"^(\d+\.\d+|unknown: .* not installed)", done.stdout, re.MULTILINE)
    assert "--ground_truth" in done.stdout
    assert "--submission" in done.stdout


def test_settings_say_what_was_asked(predicted, trained):
    settings = json.loads((predicted / "out/settings.json").read_text())
    assert settings["weights"].startswith("sha256 ")
    assert settings["inference"]["window"] is None
    assert tuple(settings["classes"]["names"]) == CITYSCAPES.names
