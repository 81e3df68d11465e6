"""What is done to a converted file, computed by LiteRT and compared with the detector's own post-processing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deployment.litert.convert import fractions
from deployment.litert.editing import append_suppression, give_floats, take_pixels
from deployment.litert.options import LitertOptions
from detection.network.anchors import decode_boxes
from detection.network.postprocess import Postprocess, postprocess
from tests.deployment.litert.operator_form import suppressed
from tests.deployment.litert.toy import (
    CLASSES,
    HEIGHT,
    WIDTH,
    anchors_yxhw,
    computed,
    empty,
    of_boxes,
    pixels_as,
)


def corners(anchors: np.ndarray) -> torch.Tensor:
    """Anchors (R, 4) in pixels, from centres and sizes in fractions of the canvas."""
    y, x, height, width = torch.from_numpy(anchors).double().unbind(1)
    sides = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=torch.float64)
    return (torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1) * sides).float()


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_those_of_the_detector_cut_at_the_canvas(class_agnostic, seed):
    options = LitertOptions(score_threshold=0.2, iou_threshold=0.4, max_detections=30, class_agnostic=class_agnostic)
    model, anchors = of_boxes(), anchors_yxhw(seed)
    append_suppression(model, anchors, CLASSES, options)
    # No two scores are equal, whose order would be open.
    image = np.random.default_rng(seed).permutation(np.arange(1, 254, dtype=np.uint8))[: HEIGHT * WIDTH * 3]
    image = image.reshape(1, HEIGHT, WIDTH, 3)
    image[0, 0, 0, 0] = 254  # the best score of all, of the box beside the canvas
    boxes, classes, scores, count = computed(model.to_bytes(), image)

    deltas, values = (torch.from_numpy(each).float()[None] for each in pixels_as(image[0]))
    settings = Postprocess(
        score_threshold=0.2, iou_threshold=0.4, max_detections=30, class_agnostic=class_agnostic, max_candidates=10_000
    )
    if class_agnostic:  # of an anchor, LiteRT's operator then takes the best class only
        values = torch.where(values == values.amax(2, keepdim=True), values, 0.0)
    expected = postprocess(values.logit(), deltas, corners(anchors), settings, torch.tensor([[HEIGHT, WIDTH]]))
    used = int(count[0])
    assert used == int((expected.class_ids >= 0).sum()) > 3
    np.testing.assert_allclose(scores[0, :used], expected.scores[0, :used], atol=1e-6)
    pixels = boxes[0, :used][:, [1, 0, 3, 2]] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, expected.boxes_xyxy[0, :used], atol=1e-4)
    assert (classes[0, :used] == expected.class_ids[0, :used].numpy()).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_operator_in_numpy(seed):
    """What the file holds: boxes cut at the canvas, then the operator as `operator_form` writes it down."""
    options = LitertOptions(score_threshold=0.2, iou_threshold=0.4, max_detections=30)
    model, anchors = of_boxes(), anchors_yxhw(seed)
    append_suppression(model, anchors, CLASSES, options)
    image = np.random.default_rng(seed).permutation(np.arange(1, 255, dtype=np.uint8))[: HEIGHT * WIDTH * 3]
    image = image.reshape(1, HEIGHT, WIDTH, 3)
    boxes, classes, scores, count = computed(model.to_bytes(), image)
    deltas, values = pixels_as(image[0])
    decoded = decode_boxes(torch.from_numpy(deltas).float(), corners(anchors)).numpy()
    cut = (decoded / (WIDTH, HEIGHT, WIDTH, HEIGHT)).clip(0, 1)[:, [1, 0, 3, 2]].astype(np.float32)
    values = np.where((cut[:, 2:] > cut[:, :2]).all(1)[:, None], values, 0).astype(np.float32)
    expected = suppressed(cut, values, 0.2, 0.4, 30)
    used = int(count[0])
    assert used == len(expected.scores) > 3
    np.testing.assert_allclose(scores[0, :used], expected.scores, atol=1e-6)
    np.testing.assert_allclose(boxes[0, :used], expected.boxes, atol=1e-5)
    assert (classes[0, :used] == expected.classes).all()


def test_a_box_beside_the_canvas_is_not_given():
    """Its score is the best; nothing of it is on the canvas."""
    model, anchors = of_boxes(), anchors_yxhw()
    anchors[1] = (0.5, 0.5, 0.4, 0.4)
    append_suppression(model, anchors, CLASSES, LitertOptions(score_threshold=0.5))
    image = np.full((1, HEIGHT, WIDTH, 3), 10, dtype=np.uint8)
    image[0, 0, 0, 0] = 250  # of the first anchor
    assert computed(model.to_bytes(), image)[3][0] == 0
    image[0, 0, 1, 1] = 250  # of the second, which is on it
    boxes, _, scores, count = computed(model.to_bytes(), image)
    assert count[0] == 1
    assert scores[0, 0] == pytest.approx(250 / 255)
    assert 0 <= boxes[0, 0].min() < boxes[0, 0].max() <= 1


def test_deltas_without_bounds_do_not_stop_the_suppression():
    """An exponential that is infinite gives the whole canvas."""
    model = empty()
    deltas, scores = model.add_tensor("d", "FLOAT32", (1, 2, 4)), model.add_tensor("s", "FLOAT32", (1, 2, 1))
    model.graph.inputs = model.graph.outputs = np.array([deltas, scores], dtype=np.int32)
    append_suppression(model, anchors_yxhw()[1:3], 1, LitertOptions())
    given = np.array([[[0, 0, 200, 200], [0, 0, -200, -200]]], dtype=np.float32)
    boxes, _, _, count = computed(model.to_bytes(), given, np.array([[[0.9], [0.8]]], dtype=np.float32))
    assert count[0] == 1  # the other has no area
    np.testing.assert_array_equal(boxes[0, 0], [0, 0, 1, 1])


def test_anchors_in_fractions():
    found = fractions(torch.tensor([[2.0, 4.0, 6.0, 12.0]]), (16, 8))
    np.testing.assert_array_equal(found, [[0.5, 0.5, 0.5, 0.5]])


def test_pixels_go_in_and_floats_come_out():
    """Of an int8 file that copies its input: bytes come back as the real values that they stand for."""
    model = empty()
    first, last = (model.add_tensor(name, "INT8", (1, 2, 2, 3), quantisation=(1 / 127.5, 0)) for name in "ab")
    shape = model.add_tensor("shape", "INT32", (4,), data=np.array([1, 2, 2, 3], dtype=np.int32))
    model.add_operator("RESHAPE", [first, shape], [last])
    model.graph.inputs, model.graph.outputs = np.array([first], np.int32), np.array([last], np.int32)
    take_pixels(model)
    give_floats(model)
    pixels = np.array([0, 1, 100, 127, 128, 129, 200, 254, 255, 3, 5, 7], dtype=np.uint8).reshape(1, 2, 2, 3)
    (found,) = computed(model.to_bytes(), pixels)
    np.testing.assert_allclose(found, (pixels.astype(float) - 128) / 127.5, atol=1e-6)
