"""Training, scoring and prediction on rasters are what they are on 8-bit pictures of the same values, in every task."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detection.prediction.predictor import load as load_detector
from engine.tasks import find_task
from joint.prediction.predictor import load as load_joint
from segmentation.inference.predictor import load as load_segmenter
from tests.detection.small import command

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

TASKS = ("detection", "segmentation", "joint")
CONFIGS = {"detection": "small.yaml", "segmentation": "streets.yaml", "joint": "both.yaml"}
OPTIONS = "--data.bands [4,3,2] --data.value_range [0,2550]"
BRIEF = "--trainer.max_epochs 1 --trainer.limit_train_batches 2"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """`pictures/` and `rasters/` with the sets of all tasks, which differ in the files of the images alone."""
    from tests.detection.small import write_set
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    folder = tmp_path_factory.mktemp("sets")
    pictures = folder / "pictures"
    for task in TASKS:
        (pictures / task).mkdir(parents=True)
    write_set(pictures / "detection")
    segmentation.write_set(pictures / "segmentation")
    shutil.copytree(pictures / "segmentation/scenes", pictures / "joint/scenes")
    data = {**joint.CONFIG["data"], "format": "both", "root": "scenes"}
    (pictures / "joint/both.yaml").write_text(yaml.safe_dump({**joint.CONFIG, "data": data}))
    shutil.copytree(pictures, folder / "rasters")
    for path in (folder / "rasters").glob("*/scenes/leftImg8bit/*/**/*.png"):
        write_raster(path)
    return folder


def write_raster(path):
    """Ten times the colours of a picture as 16-bit infrared, blue, green and red. Its name stays: content decides."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path)).astype(np.uint16) * 10, 2, 0)
    bands = np.stack([np.full_like(red, 2000), blue, green, red])
    shape = {"count": 4, "height": red.shape[0], "width": red.shape[1], "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", **shape) as dataset:
        dataset.write(bands)


def work_beside(data, folder, monkeypatch):
    """Make a folder the working folder, with links to the data."""
    monkeypatch.chdir(folder)
    for path in data.iterdir():
        Path(path.name).symlink_to(path)


def run(task, line):
    said = command(f"{line} --trainer.accelerator cpu", find_task(task))
    assert "Traceback" not in said.err
    return said


def weights(task):
    content = torch.load(f"runs/{task}/version_0/checkpoints/last.ckpt", weights_only=True)
    return content["state_dict"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_the_same_training_and_the_same_answers(task, sets, tmp_path, monkeypatch, caplog):
    found, scores = {}, {}
    for kind in ("pictures", "rasters"):
        (tmp_path / kind).mkdir()
        work_beside(sets / kind / task, tmp_path / kind, monkeypatch)
        given = OPTIONS if kind == "rasters" else ""
        said = run(task, f"fit --config {CONFIGS[task]} {BRIEF} {given}")
        assert said.code == 0, said.err
        found[kind] = weights(task)
        said = run(task, f"validate --config {CONFIGS[task]} --ckpt_path last --model.scores s.json")
        assert said.code == 0, said.err
        scores[kind] = json.loads(Path("s.json").read_text())
        said = run(task, "predict --ckpt_path last --source scenes/leftImg8bit/val --output out")
        assert said.code == 0, said.err
    assert scores["pictures"] == scores["rasters"]
    assert found["pictures"].keys() == found["rasters"].keys()
    assert [name for name, value in found["pictures"].items() if not torch.equal(value, found["rasters"][name])] == []
    answers_are_equal(task, tmp_path)
    raster = next(Path("scenes/leftImg8bit/val").rglob("*.png"))
    picture = tmp_path / "pictures" / raster
    load = {"detection": load_detector, "segmentation": load_segmenter, "joint": load_joint}[task]
    mine, theirs = (load("last").predict(path).draw(path) for path in (raster, picture))
    assert np.array_equal(np.asarray(mine), np.asarray(theirs))
    # The values are those of the checkpoint: a training that goes on must have them, a score may have others.
    said = run(task, f"fit --config {CONFIGS[task]} --ckpt_path last --data.value_range [0,4000]")
    assert said.code == 2
    assert "data.value_range is [0.0, 4000.0], but the training that goes on has [0.0, 2550.0]" in said.err
    assert run(task, f"fit --config {CONFIGS[task]} --ckpt_path last --trainer.max_epochs 1 {OPTIONS}").code == 0
    with caplog.at_level("WARNING"):
        said = run(task, f"validate --config {CONFIGS[task]} --ckpt_path last --data.value_range [0,4000]")
    assert said.code == 0
    assert "data.value_range is [0.0, 4000.0]; the network was trained with [0.0, 2550.0]" in caplog.text


def answers_are_equal(task, folder):
    outs = [sorted(path for path in (folder / kind / "out").rglob("*")) for kind in ("pictures", "rasters")]
    if task == "segmentation":  # a raster's mask is a raster
        masks = [[path for path in paths if path.suffix == ".png"] for paths in outs]
        rasters = [path for path in outs[1] if path.suffix == ".tif"]
        assert len(masks[0]) == len(rasters) == 5
        for picture, raster in zip(masks[0], rasters, strict=True):
            with rasterio.open(raster) as dataset:
                np.testing.assert_array_equal(np.asarray(Image.open(picture)), dataset.read(1))
                assert dataset.crs.to_epsg() == 32632
        return
    for name in ("detections.json", "objects.json"):
        tables = [[path for path in paths if path.name == name] for paths in outs]
        for mine, theirs in zip(*tables, strict=True):
            assert json.loads(mine.read_text()) == json.loads(theirs.read_text())
    assert any(path.suffix == ".json" for path in outs[0])
    for mine, theirs in zip(*([p for p in paths if p.suffix == ".png"] for paths in outs), strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.by_default("segmentation")
def test_what_does_not_apply_is_refused(task, sets, tmp_path, monkeypatch):
    work_beside(sets / "pictures" / task, tmp_path, monkeypatch)
    said = run(task, f"fit --config {CONFIGS[task]} {BRIEF} {OPTIONS}")
    assert said.code == 2
    assert "bands is for rasters, but 'scenes/" in said.err
    said = run(task, f"fit --config {CONFIGS[task]} {BRIEF} --data.bands [1,2]")
    assert said.code == 2
    assert "bands is [1, 2]; allowed: three numbers" in said.err
    checkpoint = Path(__file__).parents[1] / f"before/data/{task}.ckpt"
    for option in ("--bands [1,2,3]", "--value_range [0,9]", "--nodata 0"):
        said = run(task, f"predict --ckpt_path {checkpoint} --source scenes/leftImg8bit/val --output out {option}")
        assert said.code == 2
        assert f"{option[2:].split()[0]} is for rasters, but 'scenes/" in said.err
    assert not Path("out").exists()


@pytest.mark.by_default("segmentation")
@pytest.mark.parametrize("task", TASKS)
def test_rasters_without_a_range_are_refused(task, sets, tmp_path, monkeypatch):
    work_beside(sets / "rasters" / task, tmp_path, monkeypatch)
    said = run(task, f"fit --config {CONFIGS[task]} {BRIEF}")
    assert said.code == 2
    assert "has uint16 values (a sample of it goes from" in said.err
    assert "--data.value_range in training" in said.err


def test_a_folder_of_before_is_gone_on_with(sets, tmp_path, monkeypatch):
    """How rasters are read is recorded as it was before the checkpoint kept it."""
    work_beside(sets / "pictures" / "segmentation", tmp_path, monkeypatch)
    checkpoint = Path(__file__).parents[1] / "before/data/segmentation.ckpt"
    said = run("segmentation", f"predict --ckpt_path {checkpoint} --source scenes/leftImg8bit/val --output out")
    assert said.code == 0
    recorded = Path("out/settings.json").read_text()
    assert '"reading": {"bands": null, "value_range": null, "nodata": null, "mpp": null}' in " ".join(recorded.split())
