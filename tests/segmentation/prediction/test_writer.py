"""The results of `predict` in its folder: finished sources are not computed again, and nothing is overwritten."""

from __future__ import annotations

import csv
import json
import os
import zipfile

import cv2
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.prediction.trainer import SegmentationTrainer
from segmentation.task import SegmentationTask
from tests.segmentation.toys import CLASSES, ByColor


class Task(SegmentationTask):
    """The task with a network that knows classes by their colours."""

    def __init__(self, classes=CLASSES, stop_at=None):
        super().__init__()
        self.toy = ByColor(classes)
        self.done, self.stop_at = [], stop_at

    @property
    def network(self):
        return self.toy

    def configure_model(self):
        pass

    def predict_step(self, batch, batch_idx):
        if self.stop_at is not None and len(self.done) >= self.stop_at:
            msg = "power cut"
            raise RuntimeError(msg)
        self.done += batch.indices + batch.unread
        return super().predict_step(batch, batch_idx)


def run(task=None, **settings):
    task = task or Task()
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    trainer = SegmentationTrainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet)
    trainer.predict(task, num_workers=0, **settings)
    return task


def pixels(classes=CLASSES, height=40, width=60):
    rows = np.zeros((height, width), dtype=np.uint8)
    rows[:, : width // 3] = 1
    return np.array(classes.colors, dtype=np.uint8)[rows], rows


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    for name, width in (("a.png", 60), ("b/c.png", 90), ("b/d.bmp", 60)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(width=width)[0]).save(folder / name)
    return folder


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def areas(folder):
    with (folder / "areas.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def failures(folder):
    path = folder / "failed.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


BOOKS = ["areas.csv", "finished.jsonl", "settings.json"]


def test_masks_overlays_and_areas(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    run(source=str(images), output=str(out), probabilities=True, batch_size=2)
    written = [f"{name}{end}" for name in ("a", "b/c", "b/d") for end in (".png", "_overlay.jpg", "_probabilities.npz")]
    assert files(out) == sorted(BOOKS + written)
    expected = np.array(CLASSES.label_ids)[pixels(width=90)[1]]
    np.testing.assert_array_equal(np.array(Image.open(out / "b/c.png")), expected)
    assert Image.open(out / "b/c_overlay.jpg").height > 40
    with np.load(out / "b/c_probabilities.npz") as kept:
        assert kept["probabilities"].shape == (3, 40, 90)
        assert kept["label_ids"].tolist() == list(CLASSES.label_ids)
        assert kept["names"].tolist() == list(CLASSES.names)
    rows = areas(out)
    assert [(row["image"], row["class"]) for row in rows[3:6]] == [("in/b/c.png", name) for name in CLASSES.names]
    assert [(row["label_id"], row["pixels"], row["share"]) for row in rows[3:5]] == [
        ("7", "2400", "0.666667"), ("26", "1200", "0.333333"),
    ]  # fmt: skip
    assert len(rows) == 9


def test_what_is_finished_is_not_done_again(images, tmp_path):
    out = tmp_path / "out"
    settings = {"source": str(images), "output": str(out), "pictures": False}
    with pytest.raises(RuntimeError, match="power cut"):
        run(Task(stop_at=1), **settings)
    assert files(out) == sorted([*BOOKS, "a.png"])  # the table of what was done is there
    before = (out / "a.png").stat().st_mtime_ns
    assert len(areas(out)) == 3
    # A line that a crash has cut off loses only its own source.
    with (out / "finished.jsonl").open("a") as file:
        file.write('\n{"source": "/x')
    assert len(run(**settings).done) == 2
    assert files(out) == sorted([*BOOKS, "a.png", "b/c.png", "b/d.png"])
    assert (out / "a.png").stat().st_mtime_ns == before
    assert len(areas(out)) == 9
    assert run(**settings).done == []
    # A lost file, a changed source and a new source are done, and nothing else.
    (out / "b/c.png").unlink()
    os.utime(images / "b/d.bmp", ns=(1, 1))
    Image.fromarray(pixels()[0]).save(images / "b/e.png")
    assert len(run(**settings).done) == 3
    assert len(areas(out)) == 12
    # So is what has no picture, now that pictures are asked for.
    assert len(run(**settings | {"pictures": True}).done) == 4
    assert len(run(**settings, overwrite=True).done) == 4
    assert len(areas(out)) == 12


def test_other_settings_are_refused(images, tmp_path):
    out = tmp_path / "out"
    settings = {"source": str(images / "a.png"), "output": str(out)}
    with pytest.raises(InputError, match="twice the network's stride"):
        run(**settings, window=40)
    run(**settings)  # nothing was done with the others
    with pytest.raises(InputError, match=r"other settings: inference was .*--overwrite true"):
        run(**settings, flip=True)
    assert len(areas(out)) == 3
    assert run(**settings, flip=True, overwrite=True).done == [0]
    assert run(**settings, flip=True).done == []
    assert json.loads((out / "settings.json").read_text())["classes"]["names"] == list(CLASSES.names)
    (out / "settings.json").write_text("[]")
    with pytest.raises(InputError, match="not what predict wrote"):
        run(**settings)


def test_nothing_is_written_over(images, tmp_path):
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    for settings in ({}, {"overwrite": True}):
        with pytest.raises(InputError, match="among the sources"):
            run(source=str(images), output=str(images), **settings)
        with pytest.raises(InputError, match="would write over the source"):
            run(source=str(images / "a.png"), output=str(images), **settings)
    out = tmp_path / "own"
    out.mkdir()
    (out / "a.png").write_text("mine")
    with pytest.raises(InputError, match=r"own/a\.png' would be replaced.*--overwrite true"):
        run(source=str(images), output=str(out))
    assert files(out) == ["a.png"]
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before
    run(source=str(images), output=str(out), overwrite=True)
    assert Image.open(out / "a.png").size == (60, 40)


def test_results_of_another_source_are_not_written_over(images, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "more").mkdir()
    Image.fromarray(pixels(width=30)[0]).save(tmp_path / "more" / "c.png")
    run(source=str(images / "b"), output=str(out))
    with pytest.raises(InputError, match=r"c\.png' is the result of '.*in/b/c\.png'.*--overwrite true"):
        run(source=str(tmp_path / "more"), output=str(out))
    assert Image.open(out / "c.png").size == (90, 40)
    run(source=str(tmp_path / "more"), output=str(out), overwrite=True)
    assert Image.open(out / "c.png").size == (30, 40)


def test_one_trainer_predicts_twice(images, tmp_path):
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    trainer = SegmentationTrainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet)
    task = Task()
    for name, window in (("a.png", 64), ("b/c.png", None)):
        output = str(tmp_path / name[0])
        trainer.predict(task, source=str(images / name), output=output, window=window, num_workers=0)
        assert json.loads((tmp_path / name[0] / "settings.json").read_text())["inference"]["window"] == window
    assert Image.open(tmp_path / "a" / "a.png").size == (60, 40)
    assert files(tmp_path / "a") == sorted([*BOOKS, "a.png", "a_overlay.jpg"])
    assert Image.open(tmp_path / "b" / "c.png").size == (90, 40)


def test_results_inside_the_source_folder_are_no_sources(images):
    run(source=str(images), output=str(images / "out"))
    assert run(source=str(images), output=str(images / "out")).done == []


def test_a_broken_image_costs_only_itself(images, tmp_path):
    (images / "b/c.png").write_bytes(b"nothing")
    settings = {"source": str(images), "output": str(tmp_path / "out")}
    with pytest.raises(InputError, match=r"1 of 3 could not be done: cannot read image .*c\.png"):
        run(**settings)
    assert len(areas(tmp_path / "out")) == 3 * 2
    assert [one["source"] for one in failures(tmp_path / "out")] == [str(images / "b/c.png")]
    with pytest.raises(InputError, match="1 of 3 could not be done"):
        run(**settings)  # only the broken one is tried again
    Image.fromarray(pixels(width=90)[0]).save(images / "b/c.png")
    assert len(run(**settings).done) == 1
    assert failures(tmp_path / "out") == []
    assert len(areas(tmp_path / "out")) == 3 * 3


def test_broken_videos_and_rasters_cost_only_themselves(images, tmp_path):
    image, _ = pixels(height=150, width=120)
    write_map(images / "good.tif", image)
    write_map(images / "late.tif", image)
    whole = (images / "late.tif").read_bytes()
    (images / "late.tif").write_bytes(whole[: len(whole) // 2])  # opens, and ends while it is read
    (images / "slide.svs").write_bytes(b"nothing")
    (images / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match="3 of 7 could not be done, the first: "):
        run(source=str(images), output=str(tmp_path / "out"))
    listed = {os.path.basename(one["source"]): one["error"] for one in failures(tmp_path / "out")}
    assert sorted(listed) == ["clip.mp4", "late.tif", "slide.svs"]
    assert all(name in reason for name, reason in listed.items())
    named = {os.path.basename(row["image"]) for row in areas(tmp_path / "out")}
    assert named == {"a.png", "c.png", "d.bmp", "good.tif"}
    assert not {"late.tif", "clip_overlay.webm"} & set(files(tmp_path / "out"))


def test_results_are_not_put_among_the_sources(images, tmp_path):
    with pytest.raises(InputError, match=r"would put results such as 'a\.png' among the sources .* Give a folder of "):
        run(source=str(images / "*.png"), output=str(images), overwrite=True, pictures=False)
    (images / "a.png").rename(images / "a.gif")
    with pytest.raises(InputError, match="among the sources"):
        run(source=[str(images)], output=str(images))
    with pytest.raises(InputError, match="among the sources"):
        run(source=[str(images / "b"), str(images / "a.gif")], output=str(images))
    assert not (images / "finished.jsonl").exists()
    run(source=str(images / "a.gif"), output=str(images))  # a file that is named is no search
    assert (images / "a.png").exists()


def write_video(path):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (60, 40))
    for _ in range(3):
        writer.write(pixels()[0][..., ::-1].copy())
    writer.release()


def write_map(path, image):
    height, width, count = image.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
    shape = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as raster:
        raster.write(image.transpose(2, 0, 1))


def test_videos_and_rasters_beside_images(images, tmp_path):
    write_video(images / "v.avi")
    image, rows = pixels(height=150, width=120)
    write_map(images / "map.tif", image)
    out = tmp_path / "out"
    settings = {"source": str(images), "output": str(out), "window": 64}
    assert len(run(**settings).done) == 5
    assert {"v_areas.csv", "v_overlay.webm", "map.tif", "map_overview.jpg", "a.png"} <= set(files(out))
    with rasterio.open(out / "map.tif") as found:
        np.testing.assert_array_equal(found.read(1), np.array(CLASSES.label_ids)[rows])
        assert found.crs.to_epsg() == 32633
    by_source = {(os.path.basename(row["image"]), row["class"]): row for row in areas(out)}
    assert float(by_source["map.tif", "car"]["area_m2"]) == 150 * 40 * 0.25
    assert by_source["a.png", "car"]["area_m2"] == ""
    assert int(by_source["v.avi", "car"]["pixels"]) == pytest.approx(3 * 40 * 20, rel=0.15)
    assert run(**settings).done == []


def test_everything_is_computed_in_the_precision_of_the_trainer(images, tmp_path):
    """Images, videos and rasters alike."""
    seen = []

    class Watched(ByColor):
        def forward(self, batch):
            seen.append((tuple(batch.shape[2:]), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
            return super().forward(batch)

    write_video(images / "v.avi")
    write_map(images / "map.tif", pixels(height=50, width=70)[0])
    task = Task()
    task.toy = Watched()
    names = ("enable_progress_bar", "logger", "enable_checkpointing", "enable_model_summary")
    trainer = SegmentationTrainer(accelerator="cpu", devices=1, precision="bf16-mixed", **dict.fromkeys(names, False))
    trainer.predict(task, num_workers=0, source=str(images), output=str(tmp_path / "out"))
    assert {size for size, _, _ in seen} == {(40, 60), (40, 90), (50, 70)}
    assert len(seen) == 3 + 1 + 1
    assert all(on and dtype == torch.bfloat16 for _, on, dtype in seen)


def test_submissions_are_of_cityscapes(tmp_path):
    source = tmp_path / "in/berlin_000000_000019_leftImg8bit.png"
    source.parent.mkdir()
    image, rows = pixels(CITYSCAPES)
    Image.fromarray(image).save(source)
    settings = {"source": str(source), "output": str(tmp_path / "out"), "submission": str(tmp_path / "s.zip")}
    with pytest.raises(InputError, match="needs the 19 classes of Cityscapes"):
        run(**settings)
    for _ in range(2):  # the second time from finished files
        run(Task(CITYSCAPES), **settings)
        with zipfile.ZipFile(tmp_path / "s.zip") as archive:
            (name,) = archive.namelist()
            assert name.startswith("berlin_000000_000019")
            with archive.open(name) as file:
                np.testing.assert_array_equal(np.array(Image.open(file)), np.array(CITYSCAPES.label_ids)[rows])
        (tmp_path / "s.zip").unlink()
    Image.fromarray(image).save(tmp_path / "in/other.png")
    with pytest.raises(InputError, match=r"other\.png' is not named as"):
        run(Task(CITYSCAPES), **settings | {"source": str(tmp_path / "in")})
    with pytest.raises(InputError, match=r"ends in \.zip"):
        run(Task(CITYSCAPES), **settings | {"submission": "s.tar"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": None}, "Give --source"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"overlap": 8}, "Give window as well"),
        ({"window": 40}, "at least 64, twice"),
        ({"scales": [0.0]}, "from 0.1 to 10"),
    ],
)
def test_bad_settings(settings, message, images, tmp_path):
    with pytest.raises(InputError, match=message):
        run(**{"source": str(images), "output": str(tmp_path / "out")} | settings)


def test_large_sources_are_looked_at_first(images, tmp_path):
    (images / "z.svs").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"z\.svs"):
        run(source=str(images / "z.svs"), output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (images / "z.svs").rename(images / "z.mp4")
    with pytest.raises(InputError, match="probabilities are not kept of videos"):
        run(source=str(images), output=str(tmp_path / "out"), probabilities=True)
