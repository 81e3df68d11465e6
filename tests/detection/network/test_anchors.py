"""Anchors and box coding against the formulas written out by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.network.anchors import AnchorCache, decode_boxes, encode_boxes, make_anchors
from detection.network.family import FAMILY, architecture

SMALL = architecture("lite0", anchor_octaves=2, anchor_ratios=((1.0, 1.0), (1.4, 0.7)))


@pytest.mark.parametrize("config", [FAMILY["d0"], FAMILY["d7"], FAMILY["d7x"], SMALL])
@pytest.mark.parametrize("canvas_hw", [(256, 512), (512, 256)])
def test_every_anchor_by_hand(config, canvas_hw: tuple[int, int]) -> None:
    expected = []
    for level in config.levels:
        stride = 2**level
        for row in range(canvas_hw[0] // stride):
            for column in range(canvas_hw[1] // stride):
                for octave in range(config.anchor_octaves):
                    for width, height in config.anchor_ratios:
                        side = config.anchor_scale * stride * 2 ** (octave / config.anchor_octaves)
                        y, x = (row + 0.5) * stride, (column + 0.5) * stride
                        half_w, half_h = side * width / 2, side * height / 2
                        expected.append((x - half_w, y - half_h, x + half_w, y + half_h))
    anchors = make_anchors(canvas_hw, config)
    assert anchors.dtype == torch.float32
    np.testing.assert_allclose(anchors.numpy(), np.array(expected), rtol=1e-6, atol=1e-4)


def test_centres_lie_in_their_cells_and_the_smallest_square_is_scale_times_stride() -> None:
    anchors = make_anchors((128, 128), FAMILY["d0"])
    first = anchors[0]
    assert first.tolist() == [-12.0, -12.0, 20.0, 20.0]  # stride 8, scale 4: 32 pixels around (4, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert float(centres.min()) >= 4 - 1e-4
    assert float(centres.max()) <= 124 + 1e-4
    # All nine shapes of an octave and ratio keep their area: 1.4 x 0.7 is 0.98.
    sizes = anchors[:9, 2:] - anchors[:9, :2]
    areas = sizes.prod(1).reshape(3, 3)
    torch.testing.assert_close(areas[:, 0], 1024 * 2 ** (2 * torch.arange(3) / 3))
    torch.testing.assert_close(areas[:, 1], 0.98 * areas[:, 0])
    torch.testing.assert_close(sizes[1], sizes[2].flip(0))


coordinate = st.floats(-300, 1500, width=32)
extent = st.floats(0.5, 1500, width=32)
box = st.tuples(coordinate, coordinate, extent, extent)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=8))
def test_decode_inverts_encode(pairs) -> None:
    raw = torch.tensor(pairs, dtype=torch.float64)  # (n, 2, 4) x, y, width, height
    corners = torch.cat([raw[..., :2], raw[..., :2] + raw[..., 2:]], dim=-1)
    boxes, anchors = corners[:, 0], corners[:, 1]
    again = decode_boxes(encode_boxes(boxes, anchors), anchors)
    torch.testing.assert_close(again, boxes, rtol=1e-9, atol=1e-7)


def test_deltas_by_hand() -> None:
    anchor = torch.tensor([[0.0, 0.0, 20.0, 10.0]])  # centre (10, 5)
    found = encode_boxes(torch.tensor([[10.0, 5.0, 50.0, 10.0]]), anchor)  # centre (30, 7.5), 40 x 5
    torch.testing.assert_close(found, torch.tensor([[0.25, 1.0, math.log(0.5), math.log(2.0)]]))
    torch.testing.assert_close(decode_boxes(torch.zeros(1, 4), anchor), anchor)


def test_anchors_cached_in_inference_mode_serve_training() -> None:
    cache = AnchorCache(SMALL)
    with torch.inference_mode():
        first = cache((128, 128), torch.device("cpu"))
    assert not first.is_inference()
    assert cache((128, 128), torch.device("cpu")) is first
    deltas = torch.zeros(len(first), 4, requires_grad=True)
    decode_boxes(deltas, first).sum().backward()
    assert deltas.grad is not None


def test_cache_keeps_to_its_capacity_and_stays_out_of_copies() -> None:
    cache = AnchorCache(SMALL, capacity=2)
    for side in (128, 256, 384):
        assert torch.equal(cache((side, 128), torch.device("cpu")), make_anchors((side, 128), SMALL))
    assert len(cache._made) == 2
    assert not copy.deepcopy(cache)._made
