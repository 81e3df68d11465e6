"""With the same weights and the same maps, each head gives the losses and the boxes of torchvision's own detector."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import MultiScaleRoIAlign

from detection.data.batch import DetectionBatch
from detection.network.build import build_detector
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess

HW = (256, 320)
CLASSES = 4
CHANNELS = 64
# As `sizes` for lite0 says: strides 8 to 128, three strides wide, three ratios (of height to width).
RATIOS = ((1.0, 0.5, 2.0),) * 5
LEVELS = ("3", "4", "5", "6", "7")
HEADS = ("retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn")
# torchvision's own thresholds.
THRESHOLDS = {
    "retinanet": (0.05, 0.5, 300),
    "fcos": (0.2, 0.6, 100),
    "ssd": (0.01, 0.45, 200),
    "faster_rcnn": (0.05, 0.5, 100),
    "mask_rcnn": (0.05, 0.5, 100),
}


class Given(nn.Module):
    """A backbone of torchvision's that gives maps that are ready."""

    out_channels = CHANNELS

    def forward(self, images):
        return OrderedDict(zip(LEVELS, self.maps, strict=True))


def theirs(head):
    """torchvision's detector, built as its users build it."""
    same = {"min_size": HW[0], "max_size": HW[1], "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    octaves = tuple(tuple(3 * 2**level * 2 ** (octave / 3) for octave in range(3)) for level in range(3, 8))
    if head == "retinanet":
        net = RetinaNetHead(CHANNELS, 9, CLASSES, partial(nn.GroupNorm, 32))
        return RetinaNet(Given(), CLASSES, anchor_generator=AnchorGenerator(octaves, RATIOS), head=net, **same)
    if head == "fcos":
        return FCOS(Given(), CLASSES, head=FCOSHead(CHANNELS, 1, CLASSES, num_convs=3), **same)
    if head == "ssd":
        boxes = DefaultBoxGenerator([[2], [2, 3], [2, 3], [2], [2]], scales=[0.07, 0.15, 0.4, 0.65, 0.9, 1.05])
        net = SSDHead([CHANNELS] * 5, [4, 6, 6, 4, 4], CLASSES + 1)
        given = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
        return SSD(Given(), boxes, HW[::-1], CLASSES + 1, head=net, **given)
    parts = {
        "rpn_anchor_generator": AnchorGenerator(tuple((3 * 2**level,) for level in range(3, 8)), RATIOS),
        "box_roi_pool": MultiScaleRoIAlign(["3", "4", "5"], 7, 2),
        "box_head": TwoMLPHead(CHANNELS * 49, 1024),
        "box_predictor": FastRCNNPredictor(1024, CLASSES + 1),
    }
    if head == "faster_rcnn":
        return FasterRCNN(Given(), **parts, **same)
    return MaskRCNN(
        Given(),
        **parts,
        **same,
        mask_roi_pool=MultiScaleRoIAlign(["3", "4", "5"], 14, 2),
        mask_head=MaskRCNNHeads(CHANNELS, (64,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(64, 64, CLASSES + 1),
    )


def shaken(module):
    """The module with weights that give scores all over their range."""
    generator = torch.Generator().manual_seed(1)
    for name, value in module.named_parameters():
        if "cls_" in name or "classification_head" in name or "mask_" in name:
            value.data.add_(0.05 * torch.randn(value.shape, generator=generator))
        if name.endswith("cls_logits.bias"):
            value.data.fill_(-2.0)
    return module


@pytest.fixture(scope="module", params=HEADS)
def pair(request):
    """Our network, theirs with its weights, and the maps of all levels."""
    torch.manual_seed(0)
    # fcos on lite0 has EfficientDet's three convolutions; the mask head is as wide as the pyramid.
    ours = shaken(build_detector("lite0", head=request.param, num_classes=CLASSES, image_size=HW))
    other = theirs(request.param)
    state = {name.removeprefix("model."): value for name, value in ours.head.state_dict().items()}
    other.load_state_dict(state)  # strictly
    maps = tuple(torch.randn(2, CHANNELS, -(-HW[0] // 2**k), -(-HW[1] // 2**k)) for k in range(3, 8))
    other.backbone.maps = maps
    # It draws a size for each image, of one, which would move the draws of proposals on.
    other.transform.torch_choice = min
    return request.param, ours, other, maps


def objects():
    boxes = [torch.tensor([[10.0, 20, 90, 120], [150, 30, 310, 250], [40, 40, 60, 64]]), torch.empty(0, 4)]
    labels = [torch.tensor([0, 3, 1]), torch.empty(0, dtype=torch.int64)]
    masks = [torch.zeros(len(one), *HW, dtype=torch.uint8) for one in boxes]
    for mask, (left, top, right, bottom) in zip(masks[0], boxes[0].int().tolist(), strict=True):
        mask[top : bottom - 7, left + 5 : right] = 1
    return boxes, labels, masks


def batch_of(boxes, labels, masks):
    ids = torch.full((2, 3), -1)
    ids[0] = labels[0]
    padded = torch.stack([boxes[0], torch.zeros(3, 4)])
    images = torch.zeros(2, 3, *HW, dtype=torch.uint8)
    return DetectionBatch(images, padded, ids, torch.arange(2), torch.ones(2), torch.tensor([HW, HW]), tuple(masks))


def test_losses(pair):
    head, ours, other, maps = pair
    boxes, labels, masks = objects()
    first = 0 if head in ("retinanet", "fcos") else 1
    targets = [
        {"boxes": box, "labels": label + first, "masks": mask}
        for box, label, mask in zip(boxes, labels, masks, strict=True)
    ]
    ours.train(), other.train()
    torch.manual_seed(3)  # proposals are drawn
    expected = other([torch.zeros(3, *HW)] * 2, targets)
    torch.manual_seed(3)
    found = ours._losses((*maps, *ours.head.outputs(maps)), batch_of(boxes, labels, masks))
    assert len(found) == len(expected) == (5 if head == "mask_rcnn" else len(found))
    by_ours = dict(zip(ours.head.loss_names, found, strict=True))
    for name, word in ours.head.losses_of.items():
        torch.testing.assert_close(by_ours[word], expected[name], rtol=1e-5, atol=1e-6)
    assert all(float(value.detach()) > 0 for value in found)


@torch.no_grad()
def test_detections(pair):
    head, ours, other, maps = pair
    ours.eval(), other.eval()
    score, iou, most = THRESHOLDS[head]
    expected = other([torch.zeros(3, *HW)] * 2)
    config = Postprocess(score_threshold=score, iou_threshold=iou, max_detections=most)
    found = ours.detections((*maps, *ours.head.outputs(maps)), batch_of(*objects()), config)
    first = 0 if head in ("retinanet", "fcos") else 1
    for row, one in enumerate(expected):
        count = len(one["scores"])
        assert 20 < count <= most
        assert (found.class_ids[row] >= 0).sum() == count
        assert torch.equal(found.class_ids[row, :count] + first, one["labels"])
        torch.testing.assert_close(found.scores[row, :count], one["scores"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.boxes_xyxy[row, :count], one["boxes"], rtol=1e-5, atol=1e-5)
    if head == "mask_rcnn":
        # torchvision pastes its masks; each mask of ours is pasted by the same place.
        assert found.masks.shape[2:] == (28, 28)
        assert found.masks[0].std() > 0.01
    else:
        assert found.masks is None


@torch.no_grad()
def test_image_losses_are_those_of_each_image(pair):
    head, ours, _, maps = pair
    predictions = (*maps, *ours.head.outputs(maps))
    boxes, labels, masks = objects()
    batch = batch_of(boxes, labels, masks)
    alone = ours.image_losses(predictions, batch, DetectionLoss())
    if head in ("faster_rcnn", "mask_rcnn"):
        assert alone is None  # drawn by chance
        return
    assert alone.shape == (2, len(ours.head.loss_names) + 1)
    together = ours._losses(predictions, batch)
    if head == "retinanet":  # a mean over the images; the others divide by all positives
        torch.testing.assert_close(alone[:, :-1].mean(0), together)
    assert (alone[1, 1:-1] == 0).all()  # no box, no loss of boxes
    assert (alone[:, -1] == 1).all()
