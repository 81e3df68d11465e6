"""Anchors, and the coding of boxes relative to them.

Source: google/automl `efficientdet/keras/anchors.py` (6a54c87); box coding of Faster R-CNN (arXiv 1506.01497,
equation 2) without variances. Checked against effdet 0.4.1.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from detection.network.family import DetectorArchitecture


def make_anchors(canvas_hw: tuple[int, int], config: DetectorArchitecture) -> Tensor:
    """All anchors of a canvas: (R, 4) float32 xyxy in canvas pixels.

    Order: level (finest first), row, column, anchor; anchor a = octave * ratios + ratio. Anchors may reach over
    the edge.

    Args:
        canvas_hw: height and width, multiples of the coarsest stride.
        config: levels, scale, octaves and ratios.

    >>> from detection.network.family import architecture
    >>> anchors = make_anchors((512, 512), architecture("d0"))  # nine in each cell of strides 8 to 128
    >>> len(anchors) == 9 * sum((512 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    True
    >>> anchors[0].tolist()  # a square of four strides around the middle of the first cell
    [-12.0, -12.0, 20.0, 20.0]
    """
    exponents = torch.arange(config.anchor_octaves, dtype=torch.float64) / config.anchor_octaves
    shapes = torch.tensor(config.anchor_ratios, dtype=torch.float64)
    # (A, 2) width and height for stride 1, octave-major.
    unit_wh = (config.anchor_scale * 2.0 ** exponents[:, None, None] * shapes).reshape(-1, 2)
    levels = []
    for level in config.levels:
        stride = 2**level
        ys = torch.arange(stride / 2, canvas_hw[0], stride, dtype=torch.float64)
        xs = torch.arange(stride / 2, canvas_hw[1], stride, dtype=torch.float64)
        centres = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1).reshape(-1, 1, 2)
        half = unit_wh * stride / 2
        levels.append(torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


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
