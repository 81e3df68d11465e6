"""`predict --window`: rasters, pictures and arrays give the same boxes; bad input is refused in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.formats.found import read_set
from detection.prediction import kinds
from detection.prediction.found import Found
from detection.prediction.predictor import TILES, load
from engine.large.opening import open_raster
from engine.large.picture_file import ArrayPixels
from engine.reading.images import image_size, resize
from tests.detection.small import command

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5300000, 0.5, 0.5)}
PREDICT = "predict --ckpt_path trained.ckpt --trainer.accelerator cpu --num_workers 0 --output out"
LOW = 0.05


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    return resize(rng.integers(0, 256, (height // 9, width // 9, 3), dtype=np.uint8), (height, width))


def raster(path: Path, image: np.ndarray, **options: object) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", height=image.shape[0], width=image.shape[1], count=3, dtype="uint8", **options
    ) as file:
        file.write(image.transpose(2, 0, 1))


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a checkpoint, and a raster, a PNG and a JPEG below `photos/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained.ckpt").symlink_to(trained / "checkpoints/last.ckpt")
    (tmp_path / "photos").mkdir()
    raster(tmp_path / "photos/ortho.tif", picture(300, 400), **UTM)
    Image.fromarray(picture(200, 333)).save(tmp_path / "photos/a.png")
    Image.fromarray(picture(90, 100)).save(tmp_path / "photos/b.jpg", quality=95)
    return tmp_path


@pytest.mark.slow
def test_files_of_all_kinds(here: Path) -> None:
    said = command(f"{PREDICT} --source photos --window 128 --overlap 48 --score_threshold {LOW}")
    assert said.code == 0, said.err
    content = json.loads(Path("out/detections.json").read_text())
    predictor = load("trained.ckpt")
    by_name = {Path(image["file_name"]).name: image for image in content["images"]}
    assert set(by_name) == {"ortho.tif", "a.png", "b.jpg"}
    for name, image in by_name.items():
        found = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        expected = predictor.predict(Path("photos") / name, window=128, overlap=48, score_threshold=LOW)
        assert (image["height"], image["width"]) == expected.size_hw
        assert len(found) == len(expected) > 5
        np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-4)
    assert Image.open("out/a.png").size == (333, 200)
    assert Image.open("out/b.jpg").size == (100, 90)
    assert Image.open("out/ortho_overview.jpg").size == (400, 300)
    assert not Path("out/a.geojson").exists()
    features = json.loads(Path("out/ortho.geojson").read_text())["features"]
    boxes = [one["bbox"] for one in content["annotations"] if one["image_id"] == by_name["ortho.tif"]["id"]]
    assert len(features) == len(boxes)
    left, top, _, _ = boxes[0]
    assert features[0]["geometry"]["coordinates"][0][0] == pytest.approx([500000 + left / 2, 5300000 - top / 2])
    again = command(f"{PREDICT} --source photos --window 128 --overlap 48 --score_threshold {LOW}")
    assert "3 of 3 are finished" in again.err
    other = command(f"{PREDICT} --source photos --window 128 --score_threshold {LOW}")
    assert other.code == 2
    assert "inference was" in other.err


@pytest.mark.slow
def test_windows_of_a_file_are_its_pixels(here: Path) -> None:
    """A raster that is read tile by tile, and the same picture in memory."""
    predictor = load("trained.ckpt").with_settings(window=128, score_threshold=LOW)
    from_file = predictor.find(open_raster("photos/ortho.tif"))
    in_memory = predictor.find(ArrayPixels(picture(300, 400)))
    assert len(from_file) > 10
    np.testing.assert_array_equal(from_file.boxes_xyxy, in_memory.boxes_xyxy)
    np.testing.assert_array_equal(from_file.scores, in_memory.scores)


def test_tiles_without_data_are_not_computed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(300, 700)
    image[:, 300:] = 7
    raster(here / "half.tif", image, nodata=7, **UTM)
    predictor = load("trained.ckpt").with_settings(window=128, score_threshold=LOW)
    computed = []
    monkeypatch.setattr(predictor, "compute", lambda images, samples: computed.extend(samples) or _nothing(samples))
    predictor.find(open_raster("half.tif"))
    tiling = predictor.tiling((300, 700))
    assert len(computed) == sum(tile.columns.start < 300 for tile in tiling) < len(tiling)


def _nothing(samples: list[object]) -> list[object]:
    none = np.zeros(0, np.int64)
    return [Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [], none, none, (1, 1)) for _ in samples]


def test_only_a_few_tiles_are_read_at_a_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader waits for the network, however many tiles there are."""
    read, done, ahead = [0], [0], []

    class Counting(ArrayPixels):
        def read(self, rows, columns):
            read[0] += 1
            ahead.append(read[0] - done[0])
            return super().read(rows, columns)

    def on_tiles(count: int) -> None:
        done[0] += count

    def compute(images, samples):
        time.sleep(0.01)  # slower than the reading
        return _nothing(samples)

    predictor = load("trained.ckpt").with_settings(window=128, overlap=0)
    monkeypatch.setattr(predictor, "compute", compute)
    predictor.find(Counting(picture(900, 900)), workers=2, on_tiles=on_tiles)
    assert done[0] == 64
    assert max(ahead) <= 2 * TILES + 2 + 1


def test_huge_pictures_are_drawn_small(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LARGEST_DRAWN", 200 * 333 - 1)
    assert command(f"{PREDICT} --source photos/a.png --window 128").code == 0
    assert Image.open("out/a_overview.jpg").size == (333, 200)


def test_scales_and_mirror_on_the_command_line(here: Path) -> None:
    options = f"--scales [1.0,1.5] --flip true --score_threshold {LOW}"
    assert command(f"{PREDICT} --source photos/b.jpg {options}").code == 0
    found = json.loads(Path("out/detections.json").read_text())["annotations"]
    expected = load("trained.ckpt").predict("photos/b.jpg", scales=[1.0, 1.5], flip=True, score_threshold=LOW)
    assert len(found) == len(expected)
    np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["coco", "voc", "yolo", pytest.param("labelme", marks=pytest.mark.slow)])
def test_pre_labels_are_a_set_that_is_read_again(here: Path, to: str) -> None:
    """By our own reader, which is tested with the formats' own files: the boxes that were found, to 1e-3 of a pixel."""
    Path("photos/deeper").mkdir()
    Image.fromarray(picture(90, 140)).save("photos/deeper/b.png")  # another b
    said = command(f"{PREDICT} --source photos --window 128 --score_threshold {LOW} --pre_labels {to}")
    assert said.code == 0, said.err
    content = json.loads(Path("out/detections.json").read_text())
    table = read_set("out/pre_labels").splits["all"]
    assert len(table) == 4
    sizes = {(one["height"], one["width"]): one["id"] for one in content["images"]}
    for index in range(len(table)):
        assert table.image_path(index).is_file()
        size_hw = image_size(table.image_path(index))
        own = [one for one in content["annotations"] if one["image_id"] == sizes[size_hw]]
        read = table.boxes_xywh[table.box_ends[index] : table.box_ends[index + 1]]
        boxes = np.array([one["bbox"] for one in own]).reshape(-1, 4)
        assert len(read) == len(boxes)
        wide = (boxes[:, 2:] >= 1).all(1)  # VOC counts pixels from 1 and cannot tell the ends of a thinner box apart
        np.testing.assert_allclose(read[wide], boxes[wide], atol=1e-3)
    assert (
        "4 of 4 are finished"
        in command(f"{PREDICT} --source photos --window 128 --score_threshold {LOW} --pre_labels {to}").err
    )


@pytest.mark.slow
def test_tiles_of_a_training_are_those_of_its_answers(here: Path, small_set: Path) -> None:
    """Trained in tiles and validated in them; the checkpoint keeps the window, and an option replaces it."""
    for name in ("scenes", "small.yaml"):
        Path(name).symlink_to(small_set / name)
    tiles = "--data.tiles.window 48 --data.tiles.overlap 16"
    said = command(f"fit --config small.yaml --run.name tiled --trainer.max_epochs 1 {tiles} --run.pictures true")
    assert said.code == 0, said.err
    assert Path("runs/detection/tiled/report.html").stat().st_size > 0  # of whole images, not of tiles
    path = "runs/detection/tiled/checkpoints/last.ckpt"
    kept = load(path).inference
    assert (kept.window, kept.overlap) == (48, 16)
    said = command(
        f"validate --config small.yaml --ckpt_path {path} --model.scores tiled.json --trainer.accelerator cpu"
    )
    assert said.code == 0, said.err
    options = f"--trainer.accelerator cpu --num_workers 0 --score_threshold {LOW}"
    assert command(f"predict --ckpt_path {path} --source photos/b.jpg --output here {options}").code == 0
    assert json.loads(Path("here/settings.json").read_text())["inference"]["window"] == 48
    options += " --model.inference.window null --model.inference.overlap null"
    assert command(f"predict --ckpt_path {path} --source photos/b.jpg --output whole {options}").code == 0
    assert "inference" not in json.loads(Path("whole/settings.json").read_text())


def test_a_damaged_file_among_others_is_listed(here: Path) -> None:
    Path("photos/c.tif").write_bytes(Path("photos/ortho.tif").read_bytes()[:300])
    said = command(f"{PREDICT} --source photos --window 128")
    assert said.code == 2
    assert "c.tif" in said.err
    assert Path("out/ortho.geojson").exists()
    assert "c.tif" in Path("out/failed.jsonl").read_text()


BAD = {
    "overlap alone": ("--source photos --overlap 10", "Give window as well"),
    "margin alone": ("--source photos --margin 10", "Give window as well"),
    "overlap of all": ("--source photos --window 128 --overlap 128", "overlap is 128 px"),
    "tight": ("--source photos --window 128 --canvas tight", "Leave canvas out"),
    "no window": ("--source photos --window 0", "window"),
    "scales": ("--source photos --scales [0]", "scales"),
    "not there": ("--source nothing.tif --window 128", "nothing.tif"),
    "no raster": ("--source photos/a.png --window 128 --bands [1]", "bands is for rasters"),
}


@pytest.mark.by_default("overlap alone", "not there", "no raster")
@pytest.mark.parametrize(("options", "part"), BAD.values(), ids=BAD)
def test_bad_commands(here: Path, options: str, part: str) -> None:
    said = command(f"{PREDICT} {options}")
    assert said.code == 2
    assert part in said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert said.err.count("error: ") == 1
    assert not list(Path().glob("out/*.json*"))
