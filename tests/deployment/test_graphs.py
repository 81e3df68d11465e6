"""The graphs that are exported give the answers of the networks, at even and odd sizes."""

from __future__ import annotations

import pytest
import torch

from deployment.export.graphs import graph_of, open_anchors
from deployment.export.kinds.contract import Form
from deployment.export.operators import pool_same, suppress
from detection.data.batch import DetectionBatch
from detection.data.classes import BoxClasses
from detection.network.anchors import make_anchors
from detection.network.family import architecture
from detection.network.postprocess import Postprocess, hard_nms
from engine.errors import InputError
from joint.network.norms import PerTaskNetwork
from tests.deployment.networks import detector, joint, picture, segmenter

POSTPROCESS = Postprocess(score_threshold=0.02, max_candidates=500, max_detections=50)
OPEN = Form(POSTPROCESS, argmax=False, image_hw=None)


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture(height, width, seed)) for seed in range(count)]).permute(0, 3, 1, 2)


def whole(batch: torch.Tensor, sizes_hw: torch.Tensor) -> DetectionBatch:
    count = len(batch)
    nothing = torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.int64)
    return DetectionBatch(batch, *nothing, torch.arange(count), torch.ones(count), sizes_hw)


@pytest.mark.parametrize("member", ["lite0", "d0"])
@pytest.mark.parametrize("hw", [(160, 224), (131, 197)], ids=str)
@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
def test_a_detector(member, hw, fixed):
    network = detector(member)
    graph = graph_of(network, OPEN._replace(image_hw=hw if fixed else None))
    batch = images(2, *hw)
    # The second picture does not fill its canvas.
    sizes_hw = torch.tensor([hw, (100, 120)])
    with torch.no_grad():
        boxes, scores, class_ids = graph(batch, sizes_hw.float())
        expected = network.detect(whole(batch, sizes_hw), POSTPROCESS)
    assert (expected.class_ids >= 0).sum() > 20
    torch.testing.assert_close(boxes, expected.boxes_xyxy, atol=1e-2, rtol=0)
    torch.testing.assert_close(scores, expected.scores, atol=1e-5, rtol=0)
    assert torch.equal(class_ids, expected.class_ids)


@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
def test_a_detector_of_one_class_gives_as_many_boxes_as_are_asked_for(fixed):
    """A graph for any size must not count on the few anchors of the smallest image."""
    network, hw = detector(classes=BoxClasses(("nucleus",), (1,))), (160, 224)
    keep_all = Postprocess(score_threshold=0.0, iou_threshold=1.0, max_detections=100)
    graph = graph_of(network, Form(keep_all, argmax=False, image_hw=hw if fixed else None))
    batch, sizes_hw = images(1, *hw), torch.tensor([hw])
    with torch.no_grad():
        boxes, scores, class_ids = graph(batch, sizes_hw.float())
        expected = network.detect(whole(batch, sizes_hw), keep_all)
    assert int((expected.class_ids >= 0).sum()) == 100
    torch.testing.assert_close(scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes, expected.boxes_xyxy, atol=1e-2, rtol=0)
    assert torch.equal(class_ids, expected.class_ids)


SEGMENTERS = ({}, {"decoder": "unet"}, {"alignment": "corners"}, {"output_stride": 8})


@pytest.mark.by_default("{}")
@pytest.mark.parametrize("overrides", SEGMENTERS, ids=str)
def test_a_segmenter(overrides):
    network = segmenter(**overrides).double()  # folding rounds
    graph = graph_of(network, OPEN)
    sizes = [(160, 224), (96, 32)] if "decoder" in overrides else [(160, 224), (131, 75), (98, 33)]
    for hw in sizes:
        batch = images(2, *hw)
        with torch.no_grad():
            torch.testing.assert_close(graph(batch)[0], network(batch), atol=1e-9, rtol=1e-9)


def test_a_segmenter_for_one_odd_size():
    network, batch = segmenter("b0"), images(1, 101, 75)
    graph = graph_of(network, Form(None, argmax=True, image_hw=(101, 75)))
    with torch.no_grad():
        assert torch.equal(graph(batch)[0].long(), network(batch).argmax(1))


@pytest.mark.parametrize("hw", [(160, 288), (131, 203)], ids=str)
def test_a_joint_network(hw):
    network = joint()
    batch, sizes_hw = images(2, *hw), torch.tensor([hw, hw])
    with torch.no_grad():
        boxes, scores, class_ids, logits = graph_of(network, OPEN)(batch, sizes_hw.float())
        expected = network.answer(whole(batch, sizes_hw), POSTPROCESS)
    torch.testing.assert_close(boxes, expected.detections.boxes_xyxy, atol=1e-2, rtol=0)
    torch.testing.assert_close(scores, expected.detections.scores, atol=1e-5, rtol=0)
    assert torch.equal(class_ids, expected.detections.class_ids)
    torch.testing.assert_close(logits, expected.outputs.segmentation.logits, atol=1e-4, rtol=1e-4)


def test_the_network_itself_stays_as_it_is():
    network = detector()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph_of(network, OPEN)
    assert not network.folded
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("member", ["d0", "lite0", "d7x"])
@pytest.mark.parametrize("hw", [(512, 512), (320, 320), (129, 1000), (33, 65)], ids=str)
def test_open_anchors_are_those_of_training_to_the_bit(member, hw):
    config = architecture(member)
    assert torch.equal(open_anchors(hw, config), make_anchors(hw, config))


@pytest.mark.parametrize("hw", [(4, 4), (5, 7), (8, 3), (1, 2)], ids=str)
def test_pooling_is_that_of_a_map_with_a_border(hw):
    maps = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(0))
    height, width = hw
    top, left = height % 2, width % 2
    bordered = torch.nn.functional.pad(maps, (left, 1, top, 1), value=-torch.inf)
    expected = torch.nn.functional.max_pool2d(bordered, 3, 2)
    assert torch.equal(pool_same(maps), expected)


def test_suppression_keeps_the_boxes_of_the_usual_one():
    random = torch.Generator().manual_seed(0)
    corners = 80 * torch.rand(3, 200, 2, generator=random)
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(3, 200, 2, generator=random)], dim=-1)
    scores, class_ids = torch.rand(3, 200, generator=random), torch.randint(0, 4, (3, 200), generator=random)
    config = Postprocess(score_threshold=0.2, max_detections=200, iou_threshold=0.3)
    kept = suppress(boxes, scores, class_ids, 4, 0.3, 0.2, 200)
    expected = hard_nms(boxes, scores, class_ids, config)
    assert torch.equal(kept.sort(dim=1, descending=True).values, expected.scores)
    assert 0 < (kept > 0).sum() < 0.9 * (scores > 0.2).sum()


def test_what_is_no_single_graph():
    with pytest.raises(InputError, match="Give --nms hard"):
        graph_of(detector(), OPEN._replace(postprocess=Postprocess(nms="soft")))
    network = PerTaskNetwork.from_settings(joint().settings())
    with pytest.raises(InputError, match="which is no single graph"):
        graph_of(network, OPEN)
