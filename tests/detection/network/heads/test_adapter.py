"""Our detectors under torchvision's contract: its reference loop runs, and the numbers are ours."""

from __future__ import annotations

import pytest
import torch

from detection.network.build import build_detector
from detection.network.heads.adapter import TorchvisionDetector
from detection.network.postprocess import Postprocess
from engine.errors import InputError

HEADS = ("efficientdet", "fcos", "mask_rcnn")


@pytest.fixture(scope="module", params=HEADS)
def model(request):
    torch.manual_seed(0)
    detector = build_detector("lite0", head=request.param, num_classes=3, image_size=128)
    return TorchvisionDetector(detector, Postprocess(score_threshold=0.001))


def samples():
    images = [torch.rand(3, 90, 150), torch.rand(3, 200, 64)]
    boxes = torch.tensor([[10.0, 10, 60, 80], [70, 5, 140, 50]])
    masks = torch.zeros(2, 90, 150, dtype=torch.uint8)
    masks[0, 10:80, 10:60] = 1
    masks[1, 5:50, 70:140] = 1
    one = {"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks}
    empty = torch.zeros(0, 200, 64, dtype=torch.uint8)
    return images, [one, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": empty}]


def test_the_loop_of_torchvisions_references_runs(model):
    images, targets = samples()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = model(images, targets)
    total = sum(losses.values())
    optimizer.zero_grad()
    total.backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(name.startswith("loss_") and value.ndim == 0 for name, value in losses.items())
    assert total.isfinite()
    assert any((p != b).any() for p, b in zip(model.parameters(), before, strict=True))


def test_detections_are_in_the_pixels_of_each_image(model):
    images, _ = samples()
    found = model.eval()(images)
    for image, one in zip(images, found, strict=True):
        height, width = image.shape[1:]
        count = len(one["scores"])
        assert count > 0
        assert one["boxes"].shape == (count, 4)
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([width, height] * 2) + 1e-3).all()
        assert set(one["labels"].tolist()) <= {1, 2, 3}
        assert (one["scores"].diff() <= 0).all()
        if model.detector.config.head == "mask_rcnn":
            assert one["masks"].shape == (count, 1, height, width)
        else:
            assert "masks" not in one


def test_the_canvas_is_our_own(model):
    """A picture of the canvas's size in whole grey levels is computed as the batch of our data is."""
    from detection.data.batch import DetectionBatch

    pixels = torch.randint(0, 256, (1, 3, 128, 128), generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[128, 128]])
    none = (torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.int64))
    batch = DetectionBatch(pixels.to(torch.uint8), *none, torch.arange(1), torch.ones(1), sizes)
    model.eval()
    expected = model.detector.detect(batch, model.postprocess)
    found = model([pixels[0] / 255])[0]
    count = len(found["scores"])
    torch.testing.assert_close(found["scores"], expected.scores[0, :count], atol=1e-4, rtol=1e-3)


def test_what_is_missing_is_said(model):
    images, targets = samples()
    model.train()
    with pytest.raises(InputError, match="got no targets for 2 images"):
        model(images)
    with pytest.raises(InputError, match="box without area"):
        model(images, [targets[0], targets[1] | {"boxes": torch.zeros(1, 4), "labels": torch.ones(1)}])
