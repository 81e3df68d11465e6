"""Anchors, and the coding of boxes relative to them.

Source: google/automl `efficientdet/keras/anchors.py` (6a54c87); box coding of Faster R-CNN (arXiv 1506.01497,
equation 2) without variances. Checked against effdet 0.4.1.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from detection.network.family import DetectorArchitecture


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
    for level in config.levels:
        cells_hw = [math.ceil(side / 2**level) for side in canvas_hw]  # as halving and rounding up, level by level
        strides_hw = [side / cells for side, cells in zip(canvas_hw, cells_hw, strict=True)]
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


def decode_boxes(deltas: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """The inverse of `encode_boxes`: (..., 4) xyxy in canvas pixels."""
    anchor_centre, anchor_size = _centres_and_sizes(anchors_xyxy)
    centre = deltas[..., :2].flip(-1) * anchor_size + anchor_centre
    half = deltas[..., 2:].flip(-1).exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)
