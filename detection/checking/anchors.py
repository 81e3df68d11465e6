"""Which boxes no anchor reaches at the training size, and which other settings would reach them.

A box teaches an anchor from an IoU of 0.5 on; a box that no anchor reaches has only the one that fits it least badly.
Anchors stand at the same places as in `detection.network.anchors`; here only the best of each box is computed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from detection.checking.anchor_shapes import fitted_ratios
from detection.data.boxes import Floats
from detection.network.family import FAMILY, DetectorArchitecture
from engine.checking.findings import Finding

REACHED = 0.5  # IoU of a positive anchor, `detection.network.matching`
WARN, NOTE = 0.95, 0.98  # shares of reached boxes below which there is something to look at
_SAMPLE = 5_000  # boxes of which other settings are tried
_BETTER = 0.005  # share of boxes that another setting must reach more
_MOST_REMEDIES = 4
_SMALL = 16.0  # canvas pixels
_SLIM = 3.0  # sides of a box to each other
# Wide and high boxes of 1 to 3 besides the three shapes that the network has, of the same area.
_SLIM_RATIOS = ((1.7, 0.58), (0.58, 1.7))


class Way(NamedTuple):
    """Another setting, and what it would reach.

    Attributes:
        option: as on the command line.
        share: of the boxes, 0 to 1.
    """

    option: str
    share: float


def best_iou(boxes_xyxy: Floats, canvas_hw: tuple[int, int], architecture: DetectorArchitecture) -> Floats:
    """(N,) IoU of each box with the anchor that fits it best.

    Of all anchors of one shape the best is the one whose centre is nearest in both directions, as the overlap of
    two intervals falls with the distance of their centres.

    Args:
        boxes_xyxy: (N, 4) canvas pixels, with positive sides.
        canvas_hw: height and width of the canvas.
        architecture: levels, scale, octaves and ratios.
    """
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centres, areas = (low + high) / 2, np.prod(high - low, axis=1)
    sides_wh = np.array(canvas_hw[::-1], np.float64)
    best = np.zeros(len(boxes_xyxy))
    for level in architecture.levels:
        cells = np.ceil(sides_wh / 2**level)
        strides = sides_wh / cells
        places = (np.clip(np.round(centres / strides - 0.5), 0, cells - 1) + 0.5) * strides
        for octave in range(architecture.anchor_octaves):
            for shape in architecture.anchor_ratios:
                size = architecture.anchor_scale * strides * 2 ** (octave / architecture.anchor_octaves) * shape
                overlap = np.minimum(high, places + size / 2) - np.maximum(low, places - size / 2)
                shared = np.prod(np.maximum(overlap, 0), axis=1)
                np.maximum(best, shared / (areas + np.prod(size) - shared), out=best)
    return best


def on_canvas(boxes_xywh: Floats, sizes_hw: np.ndarray, canvas_hw: tuple[int, int]) -> Floats:
    """(M, 4) the boxes with an area on the canvas, as corners; those of images of unknown size are left out.

    Args:
        boxes_xywh: (N, 4) pixels of the original images.
        sizes_hw: (N, 2) height and width of each box's image; 0 where not known.
        canvas_hw: height and width of the canvas.
    """
    known = (sizes_hw > 0).all(axis=1) & np.isfinite(boxes_xywh).all(axis=1)
    boxes, sizes = boxes_xywh[known], sizes_hw[known].astype(np.float64)
    limits = np.concatenate([sizes[:, ::-1], sizes[:, ::-1]], axis=1)
    corners = np.clip(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), 0, limits)
    scales = (np.array(canvas_hw) / sizes).min(axis=1)
    scaled: Floats = (corners * scales[:, None])[(corners[:, 2:] > corners[:, :2]).all(axis=1)]
    return scaled


def reach_findings(
    split: str, boxes_xywh: Floats, sizes_hw: np.ndarray, canvas_hw: tuple[int, int], architecture: DetectorArchitecture
) -> Iterator[Finding]:
    """A finding if too many boxes of a split have no anchor, with the settings that would help.

    Args:
        split: its name.
        boxes_xywh: (N, 4) pixels of the original images, without crowds.
        sizes_hw: (N, 2) height and width of each box's image; 0 where not known.
        canvas_hw: height and width of the canvas.
        architecture: of the network that will be trained.
    """
    boxes = on_canvas(boxes_xywh, sizes_hw, canvas_hw)
    if not len(boxes):
        return
    reached = best_iou(boxes, canvas_hw, architecture) >= REACHED
    share = float(reached.mean())
    if share >= NOTE:
        return
    ways = better_ways(boxes_xywh, sizes_hw, canvas_hw, architecture)
    remedy = "; ".join(f"{way.option} reaches {way.share:.1%}" for way in ways) or "no other setting does better"
    detail = (
        f"{1 - share:.1%} of {len(boxes):,} boxes have no anchor at IoU {REACHED:g} on {canvas_hw[1]} x {canvas_hw[0]}"
        f"{_kinds(boxes[~reached])}: {remedy}"
    )
    yield Finding("anchors.unreached", "warning" if share < WARN else "note", split, detail)


def _kinds(boxes_xyxy: Floats) -> str:
    """What the unreached boxes are like, in brackets."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    small = np.sqrt(np.prod(sides, axis=1)) < _SMALL
    slim = ~small & (sides.max(axis=1) > _SLIM * sides.min(axis=1))
    counts: Mapping[str, int] = {
        f"smaller than {_SMALL:g} pixels": int(small.sum()),
        f"slimmer than 1 to {_SLIM:g}": int(slim.sum()),
        "others": int((~small & ~slim).sum()),
    }
    return f" ({', '.join(f'{count:,} {what}' for what, count in counts.items() if count)})"


def better_ways(
    boxes_xywh: Floats, sizes_hw: np.ndarray, canvas_hw: tuple[int, int], architecture: DetectorArchitecture
) -> list[Way]:
    """The settings that reach more boxes, the best first, each alone: image size, anchors' scale and shapes, levels."""
    step = max(1, math.ceil(len(boxes_xywh) / _SAMPLE))
    boxes_xywh, sizes_hw = boxes_xywh[::step], sizes_hw[::step]

    def share(canvas: tuple[int, int], other: DetectorArchitecture) -> float:
        boxes = on_canvas(boxes_xywh, sizes_hw, canvas)
        return float((best_iou(boxes, canvas, other) >= REACHED).mean())

    own = share(canvas_hw, architecture)
    found = []
    for side in sorted({member.image_size[0] for member in FAMILY.values()} - {max(canvas_hw)}):
        scaled = side / max(canvas_hw)
        canvas = (max(1, round(canvas_hw[0] * scaled)), max(1, round(canvas_hw[1] * scaled)))
        value = f"{side}" if canvas[0] == canvas[1] else f"'[{canvas[0]}, {canvas[1]}]'"
        found.append(Way(f"--data.image_size {value}", share(canvas, architecture)))
    replace = dataclasses.replace
    for scale in (2.0, 3.0, 4.0, 5.0, 6.0):
        if scale != architecture.anchor_scale:
            option = f"--model.architecture.anchor_scale {scale:g}"
            found.append(Way(option, share(canvas_hw, replace(architecture, anchor_scale=scale))))
    boxes = on_canvas(boxes_xywh, sizes_hw, canvas_hw)
    for shapes in ((*architecture.anchor_ratios, *_SLIM_RATIOS), *([fitted_ratios(boxes)] if len(boxes) else [])):
        option = f"--model.architecture.anchor_ratios '{[list(shape) for shape in shapes]}'"
        found.append(Way(option, share(canvas_hw, replace(architecture, anchor_ratios=shapes))))
    if architecture.min_level > 2:
        option = "--model.architecture.min_level 2"
        found.append(Way(option, share(canvas_hw, replace(architecture, min_level=2))))
    for level in range(architecture.max_level + 1, 10):
        option = f"--model.architecture.max_level {level}"
        found.append(Way(option, share(canvas_hw, replace(architecture, max_level=level))))
    # Of image sizes that reach as much the smallest comes first, as it costs least.
    better = sorted((way for way in found if way.share >= own + _BETTER), key=lambda way: -round(way.share, 3))
    sizes = [way for way in better if "image_size" in way.option][:1]
    scales = [way for way in better if "anchor_scale" in way.option][:1]
    rest = [way for way in better if "image_size" not in way.option and "anchor_scale" not in way.option]
    return sorted([*sizes, *scales, *rest[:2]], key=lambda way: -way.share)[:_MOST_REMEDIES]
