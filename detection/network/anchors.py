"""Anchors, and the coding of boxes relative to them.

Source: google/automl `efficientdet/keras/anchors.py` (6a54c87); box coding of Faster R-CNN (arXiv 1506.01497,
equation 2) without variances. Checked against effdet 0.4.1.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import torch
from torch import Tensor

from detection.network.family import DetectorArchitecture


class Lattice(NamedTuple):
    """How the anchors of a canvas are ordered: by level, by cell, and then those of one cell.

    Attributes:
        cells_hw: rows and columns of each level, finest first.
        canvas_hw: height and width of the canvas in pixels, which the cells of every level share.
        per_cell: A, the anchors of a cell, all with the same centre.
    """

    cells_hw: tuple[tuple[int, int], ...]
    canvas_hw: tuple[int, int]
    per_cell: int

    @classmethod
    def of(cls, canvas_hw: tuple[int, int], config: DetectorArchitecture) -> Lattice:
        """The lattice of a canvas. Levels halve and round up, from one to the next."""
        cells = [tuple(math.ceil(side / 2**level) for side in canvas_hw) for level in config.levels]
        return cls(tuple((rows, columns) for rows, columns in cells), canvas_hw, config.anchors_per_cell)

    def counts(self) -> list[int]:
        """The number of anchors of each level."""
        return [rows * columns * self.per_cell for rows, columns in self.cells_hw]

    def strides_hw(self) -> list[tuple[float, float]]:
        """Height and width of the cells of each level, in pixels."""
        height, width = self.canvas_hw
        return [(height / rows, width / columns) for rows, columns in self.cells_hw]


def make_anchors(canvas_hw: tuple[int, int], config: DetectorArchitecture) -> Tensor:
    """All anchors of a canvas: (R, 4) float32 xyxy in canvas pixels.

    Order: level (finest first), row, column, anchor; anchor a = octave * ratios + ratio. Anchors may reach over
    the edge. Each level has half the cells of the one below, rounded up, so that its stride is a little below 2^level
    where the canvas is no multiple of that; anchors grow with the stride in each direction.

    Args:
        canvas_hw: height and width in pixels, of any size.
        config: levels, scale, octaves and ratios.

    >>> from detection.network.family import architecture
    >>> anchors = make_anchors((512, 512), architecture("d0"))  # nine in each cell of strides 8 to 128
    >>> len(anchors) == 9 * sum((512 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    True
    >>> anchors[0].tolist()  # a square of four strides around the middle of the first cell
    [-12.0, -12.0, 20.0, 20.0]
    """
    octaves = torch.arange(config.anchor_octaves, dtype=torch.float64) / config.anchor_octaves
    shapes = torch.tensor(config.anchor_ratios, dtype=torch.float64)
    levels = []
    lattice = Lattice.of(canvas_hw, config)
    for cells_hw, strides_hw in zip(lattice.cells_hw, lattice.strides_hw(), strict=True):
        ys, xs = (_centres(stride, cells) for stride, cells in zip(strides_hw, cells_hw, strict=True))
        centres = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1).reshape(-1, 1, 2)
        strides_wh = torch.tensor(strides_hw[::-1], dtype=torch.float64)
        # (A, 2), octave-major. The factors are multiplied in this order, so that all bits are those of the source.
        half_wh = (config.anchor_scale * strides_wh * 2.0 ** octaves[:, None, None] * shapes / 2).reshape(-1, 2)
        levels.append(torch.cat([centres - half_wh, centres + half_wh], dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


def _centres(stride: float, cells: int) -> Tensor:
    """Half a stride, and then one more for each cell; the step is a difference, as in NumPy's `arange`."""
    first = stride / 2
    return first + torch.arange(cells, dtype=torch.float64) * ((first + stride) - first)


class AnchorCache:
    """The anchors of the last canvas sizes used, per device, so that images of one size need them made only once.

    Threads may share it.
    """

    def __init__(self, config: DetectorArchitecture, capacity: int = 8) -> None:
        self.config = config
        self.capacity = capacity
        self._made: dict[tuple[tuple[int, int], torch.device], Tensor] = {}
        self._lock = threading.Lock()

    def __call__(self, canvas_hw: tuple[int, int], device: torch.device) -> Tensor:
        """(R, 4) float32 xyxy in canvas pixels on `device`."""
        if torch.compiler.is_compiling():  # tensors without values, which belong to the graph
            return make_anchors(canvas_hw, self.config).to(device)
        key = (canvas_hw, device)
        with self._lock:
            if key not in self._made:
                if len(self._made) >= self.capacity:
                    self._made.pop(next(iter(self._made)))
                # Validation runs in inference mode, and tensors made there could not be used in training.
                with torch.inference_mode(False):
                    self._made[key] = make_anchors(canvas_hw, self.config).to(device)
            return self._made[key]

    def __reduce__(self) -> tuple[type[AnchorCache], tuple[DetectorArchitecture, int]]:
        # A copy, such as an averaged model, does not need megabytes that can be computed again, and has its own lock.
        return AnchorCache, (self.config, self.capacity)


def _centres_and_sizes(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return (low + high) / 2, high - low


def encode_boxes(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Boxes relative to anchors: (..., 4) deltas in the order ty, tx, th, tw.

    Centres in anchor sizes, sizes as logarithms. Boxes must have positive width and height.

    >>> anchor = torch.tensor([0.0, 0.0, 10.0, 10.0])
    >>> encode_boxes(torch.tensor([5.0, 0.0, 15.0, 10.0]), anchor).tolist()  # half an anchor to the right
    [0.0, 0.5, 0.0, 0.0]
    """
    centre, size = _centres_and_sizes(boxes_xyxy)
    anchor_centre, anchor_size = _centres_and_sizes(anchors_xyxy)
    shift = (centre - anchor_centre) / anchor_size
    growth = (size / anchor_size).log()
    return torch.cat([shift.flip(-1), growth.flip(-1)], dim=-1)


def decode_boxes(deltas: Tensor, anchors_xyxy: Tensor, *, largest: float | None = None) -> Tensor:
    """The inverse of `encode_boxes`: (..., 4) xyxy in canvas pixels.

    Args:
        deltas: (..., 4).
        anchors_xyxy: (..., 4).
        largest: the most times that a side may be its anchor's; None is no limit.
    """
    anchor_centre, anchor_size = _centres_and_sizes(anchors_xyxy)
    centre = deltas[..., :2].flip(-1) * anchor_size + anchor_centre
    growth = deltas[..., 2:].flip(-1)
    if largest is not None:
        growth = growth.clamp(max=math.log(largest))
    half = growth.exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)
