"""Instance masks of COCO files as pixels, through an augmentation, and as run lengths."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from detection.data.augment import DetectionAugmentation
from detection.data.boxes import boxes_of
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, collate
from detection.data.masks import MOST, Layers, MaskTable, decoded, encoded, resized, run_lengths
from engine.errors import InputError

HW = (40, 60)


def square(top, left, bottom, right, size_hw=HW):
    found = np.zeros(size_hw, np.uint8)
    found[top:bottom, left:right] = 1
    return found


def uncompressed(mask):
    flat = mask.flatten(order="F")
    change = np.flatnonzero(np.diff(flat)) + 1
    ends = np.concatenate([[0], change, [len(flat)]])
    counts = np.diff(ends).tolist()
    return {"size": list(mask.shape), "counts": counts if flat[0] == 0 else [0, *counts]}


@pytest.mark.parametrize("kind", ["polygon", "counts", "compressed"])
def test_all_kinds_are_the_same_pixels(kind):
    expected = square(10, 5, 30, 25)
    given = {
        "polygon": [[5, 10, 25, 10, 25, 30, 5, 30]],
        "counts": uncompressed(expected),
        "compressed": {"size": list(HW), "counts": coco_mask.encode(np.asfortranarray(expected))["counts"].decode()},
    }[kind]
    found = decoded([run_lengths(given, HW, "a file")])
    np.testing.assert_array_equal(found[..., 0], expected)


def test_what_is_no_mask_is_refused():
    with pytest.raises(InputError, match=r"a mask of \[40, 60\] pixels for an image of \[10, 10\]"):
        run_lengths(uncompressed(square(1, 1, 2, 2)), (10, 10), "a file")
    for wrong in ("text", [[1]], {"counts": 3}, 7):
        with pytest.raises(InputError, match="neither polygons nor run lengths"):
            run_lengths(wrong, HW, "a file")


def test_run_lengths_there_and_back():
    masks = np.stack([square(0, 0, 40, 60), square(3, 4, 5, 6), np.zeros(HW, np.uint8)]) > 0
    found = encoded(masks)
    json.dumps(found)
    np.testing.assert_array_equal(np.moveaxis(decoded(found), 2, 0) > 0, masks)
    double = decoded(resized(found, (80, 120)))
    np.testing.assert_array_equal(double[..., 1], square(6, 8, 10, 12, (80, 120)))


def test_layers_keep_objects_apart():
    """Also those that lie over each other, more than a layer has labels for, and one that is not seen at all."""
    masks = np.zeros((60, 60, MOST + 20), np.uint8)
    for number in range(MOST + 10):
        masks[number // 20, 3 * (number % 20) : 3 * (number % 20) + 2, number] = 1
    masks[:, :, -3], masks[10:50, 10:50, -2] = 1, 1
    layers = Layers(masks)
    assert layers.packed.shape == (60, 60, len(layers.maps))
    assert 2 < len(layers.maps) < 5
    kept = np.array([0, MOST + 3, MOST + 17, MOST + 18, MOST + 19])
    np.testing.assert_array_equal(layers.unpacked(layers.packed, kept), np.moveaxis(masks, 2, 0)[kept])
    assert Layers(masks[..., :1]).packed.ndim == 2
    assert Layers(masks[..., :0]).unpacked(Layers(masks[..., :0]).packed, np.zeros(0, np.int64)).shape == (0, 60, 60)


@pytest.fixture
def coco_file(tmp_path):
    """Two images in an order that is not that of the annotations, objects that overlap, and a crowd."""
    from PIL import Image

    images = [
        {"id": 7, "file_name": "b.png", "height": 40, "width": 60},
        {"id": 3, "file_name": "a.png", "height": 40, "width": 60},
    ]
    entries = []
    for image_id, box in ((3, (10, 5, 30, 25)), (7, (0, 0, 20, 20)), (3, (20, 15, 38, 55)), (3, (1, 1, 9, 9))):
        top, left, bottom, right = box
        mask = square(*box)
        entries.append(
            {"id": len(entries), "image_id": image_id, "category_id": 1, "iscrowd": int(box == (1, 1, 9, 9)),
             "bbox": [left, top, right - left, bottom - top], "segmentation": uncompressed(mask)}
        )  # fmt: skip
    for image in images:
        Image.fromarray(np.full((40, 60, 3), 80, np.uint8)).save(tmp_path / image["file_name"])
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": [{"id": 1, "name": "thing"}]}))
    return path


def test_masks_follow_their_boxes_through_the_augmentation(coco_file):
    source = CocoAnnotations.read(coco_file)
    images = BoxImages(source, BoxClasses(("thing",), (1,)), (64, 64), (0, 0, 0))
    table = MaskTable.read(coco_file)
    rows = np.arange(source.box_ends[1], source.box_ends[2])
    for number, row in enumerate(rows):  # the table has the order of the boxes
        left, top, right, bottom = boxes_of(source, 1).boxes_xyxy[number].astype(int)
        mask = table.pixels(np.array([row]), HW)[..., 0]
        np.testing.assert_array_equal(mask, square(top, left, bottom, right))
    images.masks = table
    images.augmenter = DetectionAugmentation(scale_min=0.5, scale_max=2.0, min_visible=0.0).build((64, 64), (0, 0, 0))
    torch.manual_seed(0)
    seen = 0
    for _ in range(30):
        sample = images[1]
        assert len(sample.masks) == len(sample.boxes_xyxy) <= 2  # the crowd is no object
        for mask, box in zip(sample.masks, sample.boxes_xyxy, strict=True):
            ys, xs = np.nonzero(mask)
            found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            np.testing.assert_allclose(found, box, atol=1.01)  # nearest pixels
            assert mask.sum() == np.prod(found[2:] - found[:2])
            seen += 1
    assert seen > 30
    batch = collate([images[0], images[1]])
    assert [len(masks) for masks in batch.masks] == (batch.class_ids >= 0).sum(1).tolist()


def test_an_object_without_a_mask_is_named(coco_file):
    content = json.loads(coco_file.read_text())
    del content["annotations"][0]["segmentation"]
    coco_file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="an object without a 'segmentation'"):
        MaskTable.read(coco_file).pixels(np.arange(4), HW)
