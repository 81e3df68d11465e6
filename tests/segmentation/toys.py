"""Small networks with the interface of the real one, whose receptive field is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.reading.options import Reading
from segmentation.data.classes import MaskClasses

CLASSES = MaskClasses(("road", "car", "tree"), (7, 26, 21), ((128, 64, 128), (0, 0, 142), (107, 142, 35)))


class ToyNet(nn.Module):
    """Convolutions with zero padding: each layer adds its own radius to the receptive radius.

    Args:
        radius: receptive radius in pixels, one layer for each two, and one for an odd rest.
        stride: the stride that it reports.
    """

    fill_color = (10, 20, 30)
    reading = Reading()
    classes = CLASSES

    def __init__(self, radius: int = 2, stride: int = 16, classes: MaskClasses = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(radius)
        self.stride = stride
        self.classes = classes
        radii = [2] * (radius // 2) + [1] * (radius % 2)
        layers: list[nn.Module] = []
        for number, one in enumerate(radii or [0]):
            ends = len(classes) if number == max(1, len(radii)) - 1 else 4
            layers += [nn.Conv2d(4 if number else 3, ends, 2 * one + 1, padding=one), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        logits: Tensor = 3 * self.layers(images.float() / 64 - 2)
        return logits


class ByColor(nn.Module):
    """Says what colour a pixel has: the nearest of the classes' own."""

    fill_color = (128, 128, 128)
    reading = Reading()

    def __init__(self, classes: MaskClasses = CLASSES, stride: int = 32) -> None:
        super().__init__()
        self.stride, self.classes = stride, classes
        self.colors = nn.Parameter(torch.tensor(classes.colors, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        distance: Tensor = (images.float()[:, None] - self.colors[None, :, :, None, None]).abs().sum(2)
        return -distance / 8
