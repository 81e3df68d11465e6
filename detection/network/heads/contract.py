"""What a head on the pyramid has to give; the detector around it, and all that uses the detector, know no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from detection.network.postprocess import Postprocess


class Placed(NamedTuple):
    """Images on their canvases, in the words of torchvision's `ImageList`, without their pixels.

    Attributes:
        canvas_hw: height and width of all canvases in pixels, multiples of 32.
        sizes_hw: height and width of each image on its canvas, at the top left of it; boxes end there.
        device: where the maps are.
    """

    canvas_hw: tuple[int, int]
    sizes_hw: list[tuple[float, float]]
    device: torch.device


class Truth(NamedTuple):
    """The objects of one image.

    Attributes:
        boxes_xyxy: (N, 4) canvas pixels, N may be 0.
        class_ids: (N,) int64 rows of the class list.
        masks: (N, H, W) uint8, 1 where the object is, on the whole canvas; None where no head asks for them.
    """

    boxes_xyxy: Tensor
    class_ids: Tensor
    masks: Tensor | None = None


class Objects(NamedTuple):
    """What was found in one image.

    Attributes:
        boxes_xyxy: (M, 4) canvas pixels, highest score first.
        scores: (M,) in [0, 1].
        class_ids: (M,) int64 rows of the class list.
        masks: (M, S, S) probabilities within each box; None from a head without masks.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor
    masks: Tensor | None = None


class PyramidHead(Protocol):
    """A head; an `nn.Module` besides, which no protocol can say.

    Maps are those of the pyramid, (B, C, H_l, W_l), finest first, from level 3 on.
    """

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The words of its losses, in the order of `losses`."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether the loss of the same maps and objects is always the same."""
        ...

    def outputs(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What it computes of every cell, as far as it does; empty for a head that looks at proposals only."""
        ...

    def losses(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, truth: Sequence[Truth]
    ) -> Mapping[str, Tensor]:
        """The mean losses of a batch by their names, ready to be added up."""
        ...

    def detections(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, config: Postprocess
    ) -> list[Objects]:
        """The objects of each image, in canvas pixels."""
        ...

    def renew_classes(self, count: int) -> None:
        """Give the layers that tell classes apart new random values for another number of classes."""
        ...
