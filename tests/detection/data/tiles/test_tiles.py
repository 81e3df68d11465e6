"""Tiles of training and validation: boxes by hand, the share of area, empty tiles, places that follow from the seed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data.boxes import BoxTable, box_table
from detection.data.classes import BoxClasses
from detection.data.dataset import BoxImages, collate
from detection.data.tiles.cutting import TiledImages, shown_boxes
from detection.data.tiles.options import TrainingTiles
from detection.data.tiles.training import TrainingTileSet
from detection.data.tiles.whole import WholeTileSet
from detection.network.postprocess import Postprocess
from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionRecords, DetectionTable
from detection.tiles.evaluation import of_whole_images
from engine.data.augment import Augmented
from engine.data.loader import seeded
from engine.errors import InputError, SampleError
from engine.large.options import InTiles
from engine.reading.images import FloatArray, UInt8Array

CLASSES = BoxClasses(("spot",), (1,))
SIZES = ((300, 420), (90, 500), (64, 50))
FILL = (9, 8, 7)


def nothing(image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
    """An augmenter that changes nothing."""
    return Augmented(image, boxes_xyxy, np.arange(len(boxes_xyxy)))


@pytest.fixture
def spots(tmp_path: Path) -> BoxTable:
    """Pictures with bright rectangles on black, each an object."""
    rng = np.random.default_rng(4)
    paths, boxes, rows = [], [], []
    for row, (height, width) in enumerate(SIZES):
        image = np.zeros((height, width, 3), np.uint8)
        for left in range(5, width - 40, 60):
            box = left, int(rng.integers(0, height - 30)), int(rng.integers(8, 30)), int(rng.integers(8, 30))
            image[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 200
            boxes.append(box)
            rows.append(row)
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(image).save(paths[-1])
    return box_table("spots", CLASSES, paths, np.array(boxes, float), np.array(rows), np.zeros(len(rows), int))


def images(table: BoxTable, side: int = 96) -> BoxImages:
    return BoxImages(table, CLASSES, (side, side), FILL)


def tight(image: UInt8Array) -> set[tuple[int, ...]]:
    """The bright rectangles of a picture, by hand."""
    from scipy.ndimage import find_objects, label

    found = find_objects(label(image[..., 0] == 200)[0])
    return {(part[1].start, part[0].start, part[1].stop, part[0].stop) for part in found}


def test_boxes_of_a_tile_are_what_its_pixels_show(spots: BoxTable) -> None:
    tiles = TrainingTileSet(images(spots), TrainingTiles(96, min_visible=0, empty=0), nothing)
    assert len(tiles) > 8
    cut = 0
    for index in range(len(tiles)):
        with seeded(index):
            sample = tiles[index]
        assert sample.image.shape == (96, 96, 3)
        assert set(map(tuple, sample.boxes_xyxy.astype(int).tolist())) == tight(sample.image)
        assert len(sample.class_ids) == len(sample.boxes_xyxy)
        cut += int(((sample.boxes_xyxy == 0) | (sample.boxes_xyxy == 96)).any())
    assert cut > 3


def test_the_share_that_is_left_decides() -> None:
    boxes = np.array([[0, 0, 100, 10], [90, 0, 110, 10], [200, 0, 300, 10]], np.float32)
    rows = np.array([3, 4, 5])
    shown = shown_boxes(boxes, rows, (80, 0, 180, 50), 0.2)
    assert shown.boxes_xyxy.tolist() == [[0, 0, 20, 10], [10, 0, 30, 10]]
    assert shown.class_ids.tolist() == [3, 4]
    assert shown_boxes(boxes, rows, (80, 0, 180, 50), 0.21).class_ids.tolist() == [4]
    assert shown_boxes(boxes, rows, (100, 20, 180, 50), 0.0).class_ids.tolist() == []


def test_a_sample_follows_from_its_seed(spots: BoxTable) -> None:
    tiles = TrainingTileSet(images(spots), TrainingTiles(64, empty=0.5), nothing)
    sent = pickle.loads(pickle.dumps(tiles))
    places = set()
    for seed in range(5):
        with seeded(seed):
            first = tiles[3]
        with seeded(seed):
            again = sent[3]
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.boxes_xyxy, again.boxes_xyxy)
        places.add(first.image.tobytes())
    assert len(places) > 2


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_empty_tiles_are_bounded(spots: BoxTable, share: float) -> None:
    tiles = TrainingTileSet(images(spots), TrainingTiles(48, empty=share), nothing)
    assert len(tiles.full) + len(tiles.empty) == len(tiles.tiles)
    assert len(tiles) - len(tiles.full) == min(len(tiles.empty), round(share * len(tiles.full)))
    for index in range(len(tiles)):
        assert tiles.image_path(index).name in ("0.png", "1.png", "2.png")
        assert tiles[index].image.shape == (48, 48, 3)


def test_a_picture_smaller_than_the_tile_is_filled_up(spots: BoxTable) -> None:
    tiles = TrainingTileSet(images(spots), TrainingTiles(128), nothing)
    (last,) = (sample for index in range(len(tiles)) if (sample := tiles[index]).size_hw == (64, 50))
    assert last.image.shape == (128, 128, 3)
    assert (last.image[64:] == FILL).all()
    assert (last.image[:64, 50:] == FILL).all()


def test_tiles_too_small_for_any_object(tmp_path: Path) -> None:
    Image.new("RGB", (400, 400)).save(tmp_path / "a.png")
    table = box_table(
        "one", CLASSES, [tmp_path / "a.png"], np.array([[0.0, 0, 400, 400]]), np.zeros(1, int), np.zeros(1, int)
    )
    with pytest.raises(InputError, match=r"no tile of 32 px of 'one' shows as much as 0\.1 of an object"):
        TrainingTileSet(images(table), TrainingTiles(32), nothing)


def test_another_size_than_the_annotations_state(spots: BoxTable, tmp_path: Path) -> None:
    stated = box_table(
        "spots", CLASSES, [tmp_path / "0.png"], np.array([[0.0, 0, 40, 40]]), np.zeros(1, int), np.zeros(1, int),
        sizes_hw=np.array([[200, 200]], np.int32),
    )  # fmt: skip
    with pytest.raises(SampleError, match="420x300"):
        TrainingTileSet(images(stated), TrainingTiles(64), nothing)[0]


@pytest.mark.parametrize(("window", "side"), [(96, 96), (64, 128)])
def test_validation_sees_every_tile_and_scores_whole_images(spots: BoxTable, window: int, side: int) -> None:
    """A perfect detector of what each tile shows finds every object of the images once."""
    whole = WholeTileSet(images(spots, side), InTiles(window, window // 2, 0), 8)
    batch = collate([whole[number] for number in range(len(whole))])
    assert batch.images.shape[2:] == (side, side)
    assert batch.image_ids.tolist() == list(range(len(whole)))
    found = batch.boxes_xyxy.numpy() / batch.scales.numpy()[:, None, None]
    valid = batch.class_ids.numpy() >= 0
    records = DetectionRecords()
    ones = np.ones_like(batch.class_ids.numpy())
    records.add(batch.image_ids.numpy(), found, ones.astype(np.float32), ones, valid)
    merged = of_whole_images(records, whole.tiles, Postprocess())
    assert merged.image_ids.tolist() == spots.image_ids.tolist()
    table = merged.table()
    assert len(table) == len(spots.boxes_xywh)
    scores = evaluate_boxes(spots, table, image_ids=merged.image_ids, max_detections=500)
    assert scores.ap == pytest.approx(1)
    assert "maxDets=500" in scores.table()


def test_images_of_which_a_tile_was_not_seen_are_not_scored(spots: BoxTable) -> None:
    tiles = TiledImages(images(spots), InTiles(96))
    records = DetectionRecords()
    numbers = np.arange(1, len(tiles))
    records.add(numbers, np.zeros((len(numbers), 0, 4)), np.zeros((len(numbers), 0)), np.zeros((len(numbers), 0), int))
    assert of_whole_images(records, tiles, Postprocess()).image_ids.tolist() == spots.image_ids.tolist()[1:]


def test_more_than_a_hundred_detections_count_where_asked(spots: BoxTable) -> None:
    """The hundred-and-first best box is the only right one."""
    truth = DetectionTable.of(np.array([[1, *spots.boxes_xywh[0], 0.1, 1]]))
    wrong = np.array([[1, 0, 0, 1 + n / 1000, 1, 0.9, 1] for n in range(100)])
    one = box_table("one", CLASSES, [Path("a.png")], spots.boxes_xywh[:1], np.zeros(1, int), np.zeros(1, int))
    found = np.concatenate([wrong, [[1, *truth.boxes_xywh[0], 0.1, 1]]])
    assert evaluate_boxes(one, found).ap == 0
    assert evaluate_boxes(one, found, max_detections=101).ap == pytest.approx(1 / 101, abs=1e-4)
    assert evaluate_boxes(one, found, max_detections=101, backend="faster").ap == pytest.approx(1 / 101, abs=1e-4)
