"""Each of our operators in ONNX gives what PyTorch gives, at even and odd sizes, from one file for all sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from deployment.export.formats.onnx_operators import translations
from deployment.export.operators import conv_same, pool_same, suppress
from deployment.export.places import coarse_cells, coarse_mean, resample_onto

SIZES = [(64, 96), (61, 97), (130, 33), (34, 35)]


class One(nn.Module):
    """A graph of one operator."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def in_onnx(function, images: Tensor, least: int = 33) -> object:
    """A function of images (1, 3, H, W) of any height and width, computed by ONNX Runtime."""
    import onnxruntime

    sizes = {2: Dim("height", min=least, max=999), 3: Dim("width", min=least, max=999)}
    program = torch.export.export(One(function), (images,), dynamic_shapes={"images": sizes})
    found = torch.onnx.export(
        program, (images,), opset_version=18, custom_translation_table=translations(), verbose=False
    )
    session = onnxruntime.InferenceSession(found.model_proto.SerializeToString())
    return lambda given: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])


def map_of(images: Tensor, stride: int) -> Tensor:
    """A map of three channels and a stride, as repeated strided operators give it."""
    while stride > 1:
        images, stride = pool_same(images), stride // 2
    return images


WEIGHT = torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(1))
FUNCTIONS = {
    "conv": lambda images: conv_same(images, WEIGHT, None, 2, 3),
    "conv with bias": lambda images: conv_same(images, WEIGHT[:, :, :3, :3], torch.arange(6.0), 2, 3),
    "pool": pool_same,
    "resample same": lambda images: resample_onto(map_of(images, 8), map_of(images, 2), images, 8, 2, True),
    "resample to pixels": lambda images: resample_onto(map_of(images, 4), images, images, 4, 1, True),
    "resample symmetric": lambda images: resample_onto(map_of(images, 4), images, images, 4, 1, False),
    "cells same": lambda images: coarse_cells(map_of(images, 4), images, 4, 16, True),
    "cells symmetric": lambda images: coarse_cells(map_of(images, 4), images, 4, 8, False),
    "mean same": lambda images: coarse_mean(images, 4, True),
    "mean symmetric": lambda images: coarse_mean(images, 2, False),
}


@pytest.mark.by_default("conv", "resample same", "cells symmetric", "mean same")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operator(name):
    function = FUNCTIONS[name]
    random = torch.Generator().manual_seed(0)
    computed = in_onnx(function, torch.randn(1, 3, 48, 57, generator=random))
    for hw in SIZES:
        images = torch.randn(1, 3, *hw, generator=random)
        found, expected = computed(images), function(images)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.by_default("False")
@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression(agnostic):
    """Boxes are the pixels of an image: its channels give their places, scores and classes."""

    def function(images: Tensor) -> Tensor:
        values = images.sigmoid().flatten(2)
        low = 80 * torch.stack([values[:, 0], values[:, 1]], dim=-1)
        boxes = torch.cat([low, low + 12 + 20 * values[:, 1:2].permute(0, 2, 1)], dim=-1)
        class_ids = torch.zeros_like(values[:, 0]) if agnostic else (values[:, 0] * 100).floor() % 4
        return suppress(boxes, values[:, 2], class_ids.long(), 1 if agnostic else 4, 0.4, 0.3, 30)

    random = torch.Generator().manual_seed(0)
    computed = in_onnx(function, torch.randn(1, 3, 12, 15, generator=random), least=9)
    for hw in [(12, 15), (20, 11)]:
        images = torch.randn(1, 3, *hw, generator=random)
        found, expected = computed(images), function(images)
        # The operator of ONNX stops at 30 boxes of a class; more could not be among the best 30.
        best = expected.topk(30).values
        torch.testing.assert_close(found.topk(30).values, best, atol=1e-6, rtol=0)  # the sigmoid is another
        assert (best > 0).sum() > 10
        assert (expected > 0).sum() < expected.numel() / 2
