"""The ground truth of a laid-out street: one outline per object, painted in order.

The outlines are the truth: they are traced once from an object's parts, rasterised by Pillow in painting order (as the
tools of Cityscapes do with its polygon files), and the picture of an object is cut to the pixels with its number.
The visible pixels of an object and its annotated pixels are therefore the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engine.scenes.shapes import Part
from engine.scenes.street import Camera, Placed

# Ids of the Cityscapes labels that are painted (cityscapesScripts, helpers/labels.py).
LABEL_IDS: dict[str, int] = {
    "static": 4, "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
# The classes whose instances Cityscapes tells apart.
INSTANCE_LABELS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
COUNTABLE_LABELS = (*INSTANCE_LABELS, "pole", "traffic light", "traffic sign")
# A countable object with fewer visible pixels, or a smaller visible share, is taken out of the scene completely.
MIN_VISIBLE_PIXELS = 20
MIN_VISIBLE_SHARE = 0.12

SHIFT = 4  # bits of sub-pixel accuracy in OpenCV's drawing
_REACH = 1 << 20  # OpenCV's fixed-point coordinates must stay far from overflow


@dataclass(frozen=True)
class SceneObject:
    """One polygon of the ground truth.

    Attributes:
        label: Cityscapes name; a group ends in `group`, as in the polygon files of Cityscapes.
        polygon: (x, y) pixel corners.
        label_id: Cityscapes id.
        instance_id: id * 1000 + k for the k-th single object of the eight instance classes, else the plain id.
        group: whether it is several objects of one class that cannot be told apart.
    """

    label: str
    polygon: tuple[tuple[int, int], ...]
    label_id: int
    instance_id: int
    group: bool


@dataclass
class Traced:
    """An object in pixels.

    Attributes:
        placed: the object in metres.
        outline: (P, 2) corners x, y of the polygon that is its ground truth.
        box: x0, y0, x1, y1 of the piece of the picture around it, half-open.
        corners: per part (N, 2) corners in 1/16 pixels from the box's top left.
        area: pixels inside the outline, hidden or not.
        scale: pixels per metre.
    """

    placed: Placed
    outline: NDArray[np.int32]
    box: tuple[int, int, int, int]
    corners: list[NDArray[np.int32]]
    area: int
    scale: float


def trace(placed: Placed, camera: Camera) -> Traced | None:
    """Project an object and trace the outline of its solid parts; None if nothing of it lies in the picture."""
    height, width = camera.size_hw
    points = chain.from_iterable(part.points for part in placed.parts)
    metres = np.fromiter(chain.from_iterable(points), np.float64).reshape(-1, 3)
    sine, cosine = math.sin(placed.yaw), math.cos(placed.yaw)
    right, up, away = metres.T
    scale = camera.focal / np.maximum(placed.z - sine * right + cosine * away, 0.5)
    columns = camera.centre_x + scale * (placed.x + cosine * right + sine * away)
    rows = camera.horizon + scale * (camera.height - up)
    x0, x1 = max(math.floor(columns.min()) - 1, 0), min(math.ceil(columns.max()) + 2, width)
    y0, y1 = max(math.floor(rows.min()) - 1, 0), min(math.ceil(rows.max()) + 2, height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    fixed = np.stack([columns - x0, rows - y0], axis=1) * (1 << SHIFT)
    fixed = np.minimum(np.maximum(fixed, -_REACH), _REACH).astype(np.int32)
    ends = list(accumulate(len(part.points) for part in placed.parts))
    corners = [fixed[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    size = float(scale.mean())
    for part, course in zip(placed.parts, corners, strict=True):
        if part.solid:
            draw_part(mask, part, course, 1, size, cv2.LINE_8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    if not contours:
        return None
    contour = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 0.7, True)[:, 0]
    if len(contour) < 3:
        return None
    return Traced(placed, contour, (x0, y0, x1, y1), corners, cv2.countNonZero(mask), size)


def draw_part(
    layer: NDArray[np.uint8], part: Part, points: NDArray[np.int32], colour: Any, scale: float, line: int
) -> None:
    """Draw a part, filled or as a line that is at least a pixel wide; `points` are in 1/16 pixels of the layer."""
    if part.width:
        thickness = max(1, round(part.width * scale))
        cv2.polylines(layer, [points], False, colour, thickness, line, SHIFT)
    else:
        cv2.fillPoly(layer, [points], colour, line, SHIFT)


def rasterise(outlines: Sequence[NDArray[np.int32]], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Paint outlines in order; a pixel holds 1 + the index of the outline that it shows, 0 where there is none."""
    assert len(outlines) < 256, "a street has far fewer things than a byte has values"
    canvas = Image.new("L", (size_hw[1], size_hw[0]))
    draw = ImageDraw.Draw(canvas)
    for number, outline in enumerate(outlines, start=1):
        draw.polygon(outline.ravel().tolist(), fill=number)
    return np.asarray(canvas)


def truth(things: list[Traced], size_hw: tuple[int, int]) -> tuple[list[Traced], NDArray[np.uint8]]:
    """The objects of which enough is visible, and the map of their numbers (from 1, in painting order)."""
    while True:
        numbers = rasterise([thing.outline for thing in things], size_hw)
        visible = np.bincount(numbers.ravel(), minlength=len(things) + 1)[1:]
        kept = [thing for thing, seen in zip(things, visible.tolist(), strict=True) if _enough(thing, seen)]
        if len(kept) == len(things):
            return things, numbers
        # Objects that are taken out uncover others, which can only grow: the second round is the last.
        things = kept


def _enough(thing: Traced, visible: int) -> bool:
    if thing.placed.label not in COUNTABLE_LABELS:
        return visible > 0
    return visible >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * thing.area)


def look_up(values: Sequence[float], numbers: NDArray[np.uint8], dtype: Any = np.float32) -> NDArray[Any]:
    """The value of each pixel's object; the first of `values` is that of pixels without one."""
    table = np.zeros(256, dtype)
    table[: len(values)] = values
    return np.asarray(cv2.LUT(numbers, table))


def scene_objects(things: list[Traced]) -> list[SceneObject]:
    """Number the instances in painting order, as `json2instanceImg.py` of cityscapesScripts does."""
    counts: dict[str, int] = {}
    objects = []
    for thing in things:
        label, group = thing.placed.label, thing.placed.group
        label_id = instance_id = LABEL_IDS[label]
        if label in INSTANCE_LABELS and not group:
            instance_id = label_id * 1000 + counts.get(label, 0)
            counts[label] = counts.get(label, 0) + 1
        name = f"{label}group" if group else label
        objects.append(
            SceneObject(name, tuple((x, y) for x, y in thing.outline.tolist()), label_id, instance_id, group)
        )
    return objects
