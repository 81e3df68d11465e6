"""A joint network gives the outputs of its two networks, at the cost of little more than one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detection.network.model import EfficientDet
from engine.errors import InputError
from joint.network.model import JointNetwork
from segmentation.network.model import Segmenter
from tests.shaken import shaken


def equal(ours, expected):
    return ours.shape == expected.shape and (ours - expected).abs().max() <= 1e-9 * expected.abs().max()


def pair(detector="d0", segmenter="b0", **overrides):
    """A detector and a segmenter with the same backbone weights."""
    torch.manual_seed(1)
    left, right = EfficientDet(detector, 5), Segmenter(segmenter, 7, **overrides)
    shaken(left)
    shaken(right)
    right.backbone.load_state_dict(left.backbone.state_dict())
    return left, right


@pytest.mark.by_default("members1")
@pytest.mark.parametrize(
    ("members", "output_stride", "size"),
    [
        (("d0", "b0"), 16, (128, 256)),
        (("d0", "b0"), 32, (131, 160)),
        (("lite0", "lite0"), 16, (130, 197)),
        (("lite0", "lite0"), 32, (128, 256)),
    ],
)
def test_it_says_what_the_two_networks_say(members, output_stride, size):
    """At multiples of the coarsest stride and between them."""
    detector, segmenter = pair(*members, output_stride=output_stride)
    joint = JointNetwork(copy.deepcopy(detector), copy.deepcopy(segmenter)).double().eval()
    # The segmenter's own gates average over the dense map; in the joint network they are exact.
    exact = Segmenter(members[1], 7, output_stride=output_stride, exact_gates=output_stride < 32).double().eval()
    exact.load_state_dict(segmenter.state_dict())
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        found, expected = joint(images), (detector.predictions(images), exact(images))
        assert all(map(equal, found.predictions, expected[0]))
        assert equal(found.segmentation.logits, expected[1])
        # Each head alone, and each of the two networks alone.
        assert all(map(equal, joint(images, segment=False).predictions, expected[0]))
        assert all(map(equal, joint.detector.predictions(images), expected[0]))
        assert equal(joint(images, detect=False).segmentation.logits, expected[1])
        assert equal(joint.segmenter(images), expected[1])
        folded = copy.deepcopy(joint).fold()(images)
        assert all(map(equal, folded.predictions, expected[0]))
        assert equal(folded.segmentation.logits, expected[1])
    assert joint(images, segment=False).segmentation is None
    assert joint(images, detect=False).predictions is None


def test_a_size_between_the_strides_comes_back_as_it_was():
    joint = JointNetwork(*pair()).eval()
    images = torch.randint(0, 256, (1, 3, 75, 131), dtype=torch.uint8)
    with torch.no_grad():
        found = joint(images)
    assert found.segmentation.logits.shape == (1, 7, 75, 131)
    levels = [(-(-75 // stride), -(-131 // stride)) for stride in (8, 16, 32, 64, 128)]
    assert len(found.predictions[2]) == 9 * sum(height * width for height, width in levels)


def macs(call):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


@pytest.mark.by_default("32-0.71")
@pytest.mark.parametrize(("output_stride", "bound"), [(16, 0.77), (32, 0.71)])
def test_one_pass_costs_little_more_than_one_network(output_stride, bound):
    """The bounds are the project's own, in multiply-accumulates, for B0."""
    detector, segmenter = EfficientDet("d0", 90), Segmenter("b0", 19, output_stride=output_stride)
    images = torch.zeros(1, 3, 256, 512, dtype=torch.uint8)
    alone = [macs(lambda: detector.eval().predictions(images)), macs(lambda: segmenter.eval()(images))]
    joint = JointNetwork(detector, segmenter).eval()
    assert macs(lambda: joint(images)) <= bound * sum(alone)
    # A head that is switched off costs nothing.
    assert macs(lambda: joint(images, segment=False)) == pytest.approx(alone[0], rel=1e-6)
    assert macs(lambda: joint(images, detect=False)) == pytest.approx(alone[1], rel=1e-3)


def test_weights_are_held_once_and_come_back_from_settings():
    joint = JointNetwork(*pair())
    assert not [key for key in joint.state_dict() if "backbone" in key and not key.startswith("backbone.")]
    again = JointNetwork.from_settings(joint.settings()).double()
    again.load_state_dict(joint.state_dict())
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.eval()(images).segmentation.logits, joint.eval()(images).segmentation.logits)
    moved = copy.deepcopy(joint)
    with torch.no_grad():
        moved.backbone.conv_stem.weight.zero_()
    with torch.no_grad():
        normal = joint.detector.normalise(images)
        copied, own = moved.eval().detector.backbone(normal), joint.eval().detector.backbone(normal)
        wanted = moved.backbone.coarse(normal)[-1]
    assert torch.equal(copied[-1], wanted)  # the copy reads from its own backbone
    assert not torch.equal(own[-1], wanted)
    assert joint.backbone.conv_stem.weight.any()


def test_the_backbone_of_either_network_can_be_kept():
    detector, segmenter = EfficientDet("lite0", 5), Segmenter("lite0", 7)
    kept = copy.deepcopy(segmenter.backbone.state_dict())
    joint = JointNetwork(detector, segmenter, backbone_of="segmenter")
    assert all(torch.equal(value, kept[key]) for key, value in joint.backbone.state_dict().items())


def test_networks_that_cannot_share_are_refused():
    with pytest.raises(InputError, match="backbone is tf_efficientnet_b0, the segmenter's tf_efficientnet_b1"):
        JointNetwork(EfficientDet("d0", 5), Segmenter("b1", 7))
    with pytest.raises(InputError, match="decoder is unet"):
        JointNetwork(EfficientDet("d0", 5), Segmenter("b0", 7, decoder="unet"))
    with pytest.raises(InputError, match="another mean"):
        JointNetwork(EfficientDet("d0", 5), Segmenter("b0", 7, mean=(0.5, 0.5, 0.5)))
    joint = JointNetwork(EfficientDet("lite0", 5), Segmenter("lite0", 7))
    with pytest.raises(InputError, match="already part of a joint network"):
        JointNetwork(joint.detector, joint.segmenter)
