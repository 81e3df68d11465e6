"""The best anchor of each box beside all anchors of the network, and what is said where too few boxes have one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from detection.checking.anchor_shapes import fitted_ratios
from detection.checking.anchors import best_iou, better_ways, on_canvas, reach_findings
from detection.network.anchors import make_anchors
from detection.network.family import architecture
from detection.network.matching import pairwise_iou
from engine.reading.images import Letterbox


def boxes(count: int, canvas_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Corners of boxes of all sizes and shapes, within the canvas."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(3), np.log(min(canvas_hw)), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(canvas_hw[::-1]) - sides)
    return np.concatenate([corners, corners + sides], axis=1)


@pytest.mark.parametrize(
    ("member", "canvas_hw"), [("d0", (256, 256)), ("lite0", (160, 320)), ("d0", (130, 201)), ("d7", (256, 192))]
)
def test_the_best_anchor_is_that_of_all_anchors(member: str, canvas_hw: tuple[int, int]) -> None:
    network = architecture(member)
    given = boxes(300, canvas_hw)
    every = pairwise_iou(torch.from_numpy(given).float()[None], make_anchors(canvas_hw, network))[0]
    np.testing.assert_allclose(best_iou(given, canvas_hw, network), every.amax(dim=1).numpy(), atol=2e-5)


def test_boxes_lie_on_the_canvas_as_training_lays_them() -> None:
    xywh = np.array([[10.0, 20.0, 30.0, 40.0], [-5.0, 0.0, 20.0, 20.0], [90.0, 10.0, 50.0, 10.0], [200.0, 0, 5, 5]])
    sizes_hw = np.array([[80, 100], [80, 100], [80, 100], [80, 100]])
    letterbox = Letterbox.fit((80, 100), (256, 256))
    expected = np.clip(xywh[:3] + np.array([0, 0, 1, 1]) * xywh[:3][:, [0, 1, 0, 1]], 0, [100, 80, 100, 80])
    np.testing.assert_allclose(on_canvas(xywh, sizes_hw, (256, 256)), expected * letterbox.scale)
    assert len(on_canvas(xywh, np.zeros((4, 2), int), (256, 256))) == 0


def test_boxes_that_are_too_small_need_a_larger_image() -> None:
    rng = np.random.default_rng(1)
    small = np.concatenate([rng.uniform(0, 450, (400, 2)), rng.uniform(10, 14, (400, 2))], axis=1)
    sizes_hw = np.full((400, 2), 512)
    (finding,) = reach_findings("train", small, sizes_hw, (512, 512), architecture("d0"))
    assert finding.name == "anchors.unreached"
    assert finding.severity == "warning"
    assert "smaller than 16 pixels" in finding.detail
    first = better_ways(small, sizes_hw, (512, 512), architecture("d0"))[0]
    assert first.share > 0.98
    assert not list(reach_findings("train", small, sizes_hw, (1536, 1536), architecture("d0")))


def test_slim_boxes_need_other_shapes() -> None:
    rng = np.random.default_rng(2)
    height = rng.uniform(20, 60, 400)
    slim = np.column_stack([rng.uniform(0, 200, (400, 2)), 5 * height, height])
    ways = better_ways(slim, np.full((400, 2), 512), (512, 512), architecture("d0"))
    assert any("anchor_ratios" in way.option for way in ways)
    (finding,) = reach_findings("train", slim, np.full((400, 2), 512), (512, 512), architecture("d0"))
    assert "slimmer than 1 to 3" in finding.detail
    assert "anchor_ratios" in finding.detail


def test_boxes_that_fit_are_not_told() -> None:
    fitting = np.array([[50.0, 60.0, 64.0, 64.0], [100.0, 100.0, 120.0, 60.0]])
    assert not list(reach_findings("train", fitting, np.full((2, 2), 512), (512, 512), architecture("d0")))


def test_fitted_shapes_are_those_of_the_boxes():
    """Boxes of three shapes and any size give these shapes, at one area; each reaches an anchor of theirs."""
    generator = np.random.default_rng(0)
    ratios = generator.choice([0.2, 1.0, 6.0], 600) * generator.lognormal(0, 0.05, 600)
    areas = generator.uniform(40, 200, 600) ** 2
    sides = np.stack([np.sqrt(areas * ratios), np.sqrt(areas / ratios)], axis=1)
    corner = generator.uniform(0, 100, (600, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    found = fitted_ratios(boxes)
    assert [width / height for width, height in found] == pytest.approx([0.2, 1.0, 6.0], rel=0.06)
    assert [width * height for width, height in found] == pytest.approx([1, 1, 1], abs=0.05)
    network = architecture("d0")
    before, after = (
        float((best_iou(boxes, (768, 768), each) >= 0.5).mean())
        for each in (network, dataclasses.replace(network, anchor_ratios=found))
    )
    assert before < 0.7
    assert after > 0.95
    assert fitted_ratios(boxes[:1]) == (found_one := fitted_ratios(boxes[:1]))
    assert len(found_one) == 3


def test_a_finer_level_is_offered_for_tiny_boxes():
    tiny = np.tile([100.0, 100.0, 12.0, 12.0], (400, 1))
    ways = better_ways(tiny, np.full((400, 2), 512), (512, 512), architecture("d0"))
    assert any(way.option == "--model.architecture.min_level 2" for way in ways)
