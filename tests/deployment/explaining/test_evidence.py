"""What an answer rests on, beside class-activation maps that are computed by hand with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.grid import Grid, resample
from deployment.explaining.evidence import explain_boxes, explain_classes
from detection.network.anchors import decode_boxes
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor
from engine.errors import InputError
from tests.deployment.networks import detector, joint, picture, segmenter

METHODS = ("layercam", "hirescam")
SUPPRESSION = Postprocess(score_threshold=0.3)


def by_hand(level: torch.Tensor, gradient: torch.Tensor, method: str) -> torch.Tensor:
    weights = gradient.clamp(min=0) if method == "layercam" else gradient
    return (weights * level).sum(1).clamp(min=0)


def over_pixels(cells: np.ndarray, stride: int, canvas_hw: tuple[int, int]) -> np.ndarray:
    """Between the centres of what cells see: with TensorFlow's padding the last one is the canvas's last pixel.

    At strides that divide the canvas; a level of another one begins where the remainder does.
    """
    places = [
        (side - 1) % stride + stride * np.arange(count) for side, count in zip(canvas_hw, cells.shape, strict=True)
    ]
    rows = np.stack([np.interp(np.arange(canvas_hw[0]), places[0], column) for column in cells.T], 1)
    return np.stack([np.interp(np.arange(canvas_hw[1]), places[1], row) for row in rows])


@pytest.mark.by_default("hard-hirescam", "soft-layercam")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_boxes_rest_on_what_the_gradients_say(method, nms):
    network = detector()
    pixels = picture(200, 300)
    suppression = Postprocess(score_threshold=0.3, nms=nms)
    predictor = DetectionPredictor(network, suppression)
    sample = predictor.prepare(pixels)
    explained = explain_boxes(network, sample, suppression, most=4, method=method)
    found = predictor.predict(pixels)
    np.testing.assert_allclose([each.box_xyxy for each in explained], found.boxes_xyxy[:4], atol=1e-4)
    np.testing.assert_allclose([each.score for each in explained], found.scores[:4])
    assert [each.class_id for each in explained] == found.class_ids[:4].tolist()

    images = sample.image.permute(2, 0, 1)[None]
    with torch.no_grad():
        pyramid = network.fpn(network.backbone(network.normalise(images)))
        deltas = network.box_head.flatten(network.box_head(pyramid))
    leaves = [level.clone().requires_grad_() for level in pyramid]
    logits = network.class_head.flatten(network.class_head(leaves))[0]
    anchors = network.anchors(images.shape[-2:], images.device)
    boxes = decode_boxes(deltas, anchors[None])[0]
    limit = torch.tensor([300, 200, 300, 200])
    boxes = torch.minimum((boxes / sample.letterbox.scale).clamp(min=0), limit)
    for each in explained:
        near = (boxes - torch.tensor(each.box_xyxy)).abs().amax(1) < 1e-3
        anchor = int((logits[:, each.class_id].detach() * near - 1e9 * ~near).argmax())
        gradients = torch.autograd.grad(logits[anchor, each.class_id], leaves, retain_graph=True)
        levels = [by_hand(*pair, method).detach() for pair in zip(leaves, gradients, strict=True)]
        assert sum(bool(level.any()) for level in levels) == 1  # the head reads one level for each box
        heat = torch.from_numpy(sum(
            over_pixels(cells[0].numpy(), 2**level, images.shape[-2:])
            for level, cells in zip(network.config.levels, levels, strict=True)
        )).float()  # fmt: skip
        height, width = sample.letterbox.scaled_hw
        heat = F.interpolate(heat[None, None, :height, :width], pixels.shape[:2], mode="bilinear")[0, 0]
        np.testing.assert_allclose(each.heat, (heat / heat.max()).numpy(), atol=1e-5)


@pytest.mark.by_default("hirescam", "layercam-segmenter")
@pytest.mark.parametrize("make", [segmenter, lambda: segmenter("b0", decoder="unet"), lambda: joint().segmenter])
@pytest.mark.parametrize("method", METHODS)
def test_classes_rest_on_what_the_gradients_say(make, method):
    network = make()
    pixels = torch.from_numpy(picture(100, 131))
    images = pixels.permute(2, 0, 1)[None]
    leaves: list[torch.Tensor] = []

    def cut(module, given, maps):
        leaves[:] = [each.detach().requires_grad_() for each in maps]
        return leaves

    with torch.no_grad():
        rows = network(images)[0].argmax(0)
    handle = network.backbone.register_forward_hook(cut)
    logits = network(images)[0]
    handle.remove()
    explained = explain_classes(network, pixels, most=3, method=method)
    sizes = [float((rows == each.class_id).float().mean()) for each in explained]
    assert sizes == sorted(sizes, reverse=True)
    np.testing.assert_allclose([each.score for each in explained], sizes, rtol=1e-5)
    for each in explained:
        inside = rows == each.class_id
        assert np.array_equal(each.inside, inside.numpy())
        number = (logits[each.class_id] * inside).sum() / inside.sum()
        gradients = torch.autograd.grad(number, leaves, retain_graph=True, allow_unused=True)
        heat = torch.zeros(rows.shape)
        for level, gradient, grid in zip(leaves, gradients, network.backbone.grids((100, 131)), strict=True):
            if gradient is not None and (cells := by_hand(level, gradient, method).detach()).any():
                heat += resample(cells[None] / cells.max(), grid, Grid(1, (0, 0)), (100, 131))[0, 0]
        np.testing.assert_allclose(each.heat, (heat / heat.max()).numpy(), atol=2e-5)
        outside = each.heat.sum() - each.heat[each.inside].sum()
        assert each.share_inside == pytest.approx(1 - outside / each.heat.sum(), abs=1e-5)
        assert each.share_of_image == pytest.approx(each.score)


def test_other_weights_give_other_maps():
    """The check of Adebayo et al., "Sanity Checks for Saliency Maps" (arXiv 1810.03292)."""
    pixels = torch.from_numpy(picture(100, 131))
    network = segmenter()
    first = {each.class_id: each.heat for each in explain_classes(network, pixels, most=3)}
    torch.manual_seed(1)
    for module in network.backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.reset_parameters()
    second = {each.class_id: each.heat for each in explain_classes(network, pixels, most=3)}
    for class_id in set(first) & set(second):
        assert np.corrcoef(first[class_id].ravel(), second[class_id].ravel())[0, 1] < 0.9
    assert set(first) & set(second)


def test_the_network_is_as_before():
    network = joint()
    sample = DetectionPredictor(network.detector).prepare(picture(100, 131))
    images = sample.image.permute(2, 0, 1)[None]
    with torch.no_grad():
        before = network(images)
    explain_boxes(network.detector, sample, SUPPRESSION, most=1)
    explain_classes(network.segmenter, sample.image, most=1)
    with torch.no_grad():
        after = network(images)
    assert torch.equal(before.predictions[0], after.predictions[0])
    assert torch.equal(before.segmentation.logits, after.segmentation.logits)
    assert not after.segmentation.logits.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_only_some_classes():
    network = segmenter()
    found = explain_classes(network, torch.from_numpy(picture(100, 131)), most=5, class_ids={1})
    assert [each.class_id for each in found] == [1]
    network = detector()
    sample = DetectionPredictor(network, SUPPRESSION).prepare(picture(160, 224))
    every = [each.class_id for each in explain_boxes(network, sample, SUPPRESSION, most=100)]
    chosen = min(set(every))
    some = [each.class_id for each in explain_boxes(network, sample, SUPPRESSION, most=100, class_ids={chosen})]
    assert some == [chosen] * every.count(chosen)
    assert len(set(every)) > 1


def test_a_network_that_diverged():
    network = segmenter()
    with torch.no_grad():
        next(network.head.classifier.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="diverged"):
        explain_classes(network, torch.from_numpy(picture(64, 64)), most=1)
