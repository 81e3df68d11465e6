"""Every published network at its own size, and at odd ones, against effdet 0.4.1 with the same weights.

At multiples of 128 alone a network that pads its canvas looks like one that does not. The small members are compared in
float32 as they are used, and so are the deepest, which take hours in float64; those between in float64, in which a
difference of order is far below one of the network. D7 and D7x suppress the same maps in both libraries: on a canvas of
1,536 pixels rounding moves boxes by more than the hundredth of a pixel that is allowed.
"""

from __future__ import annotations

import effdet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from detection.network.anchors import make_anchors
from detection.network.family import FAMILY
from detection.weights.load import PUBLISHED
from tests.detection.network.test_effdet_parity import assert_final_boxes, images, pair

OWN = {name: entry.architecture().image_size for name, entry in PUBLISHED.items()}
SMALL = ("lite0", "lite1", "lite2", "d0")
DEEPEST = ("d5", "d5_ap", "d6", "d7", "d7x")
IN_FLOAT32 = {f"tf_efficientdet_{name}" for name in (*SMALL, *DEEPEST)}
QUICK = ["tf_efficientdet_lite0"]
# effdet and automl do not halve a side of one cell beside a longer one, so no side lies below 129 pixels.
ODD = [(193, 131), (160, 384), (129, 260)]


def anchors_of(name: str, size: tuple[int, int]) -> torch.Tensor:
    config = effdet.get_efficientdet_config(name)
    config.image_size = size
    boxes: torch.Tensor = effdet.anchors.Anchors.from_config(config).boxes[:, [1, 0, 3, 2]]
    return boxes


@torch.no_grad()
def assert_same_network(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    """Maps, anchors, and boxes after both suppressions."""
    ours, theirs = pair(name, size, dtype, max_detection_points=1000)
    pixels = images(2, size)
    assert torch.equal(ours.anchors(size, torch.device("cpu")), anchors_of(name, size))
    bound = 1e-4 if dtype == torch.float32 else 1e-9
    maps = ours(pixels), theirs(ours.normalise(pixels))
    for found, expected in zip(*maps, strict=True):
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other, atol=bound, rtol=0)
    if name.endswith(("d7", "d7x")):
        maps = maps[1], maps[1]
    OmegaConf.set_readonly(theirs.config, False)
    for nms in ("hard", "soft"):
        theirs.config.soft_nms = nms == "soft"
        assert_final_boxes(ours, theirs, size, nms, maps)


@pytest.mark.parametrize("name", QUICK)
def test_at_its_own_size(name: str) -> None:
    assert_same_network(name, OWN[name], torch.float32)


@pytest.mark.slow
@pytest.mark.timeout(7200)  # a D4 takes minutes in float64, a D7x in float32
@pytest.mark.parametrize("name", [name for name in OWN if name not in QUICK])
def test_every_member_at_its_own_size(name: str) -> None:
    assert_same_network(name, OWN[name], torch.float32 if name in IN_FLOAT32 else torch.float64)


@pytest.mark.by_default("tf_efficientdet_lite0", "efficientdet_d0-size1")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tf_efficientdet_lite0", (333, 517)),
        *((name, size) for name in ("efficientdet_d0", "efficientdet_q0", "efficientdetv2_dt") for size in ODD),
    ],
)
@torch.no_grad()
def test_odd_sizes(name: str, size: tuple[int, int]) -> None:
    """Both paddings, the quad pyramid and bilinear resampling."""
    ours, theirs = pair(name, size, torch.float64)
    pixels = images(1, size)
    for found, expected in zip(ours(pixels), theirs(ours.normalise(pixels)), strict=True):
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(own, other, atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), st.tuples(st.integers(1, 1600), st.integers(1, 1600)))
def test_anchors_of_any_canvas(name: str, size: tuple[int, int]) -> None:
    assert torch.equal(make_anchors(size, PUBLISHED[name].architecture()), anchors_of(name, size))


@pytest.mark.parametrize("name", PUBLISHED)
def test_anchors_at_its_own_size(name: str) -> None:
    assert torch.equal(make_anchors(OWN[name], PUBLISHED[name].architecture()), anchors_of(name, OWN[name]))


def test_the_sizes_are_the_published_ones() -> None:
    for name, size in OWN.items():
        assert size == tuple(effdet.get_efficientdet_config(name).image_size), name
    sides = {"lite0": 320, "lite1": 384, "lite2": 448, "lite3": 512, "lite3x": 640, "lite4": 640}
    assert {name: FAMILY[name].image_size for name in sides} == {name: (side, side) for name, side in sides.items()}
