"""Pictures for people: boxes with labels drawn on an image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Rgb = tuple[int, int, int]


def class_color(class_id: int) -> Rgb:
    """The colour of a class. The hues of successive classes are a golden angle apart, so that they differ most."""
    red, green, blue = colorsys.hsv_to_rgb((0.07 + class_id * 0.618034) % 1.0, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float32],
    class_ids: Sequence[int],
    captions: Sequence[str],
) -> Image.Image:
    """A copy of an image with boxes and captions; the first box is drawn last, on top.

    Args:
        image: (H, W, 3) RGB.
        boxes_xyxy: (N, 4) pixels of the image.
        class_ids: N numbers that choose the colours.
        captions: N texts.
    """
    # torchvision's `draw_bounding_boxes` writes at one small size unless it is given a font file, always in black, and
    # over the content of a low box; it also needs torch.
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    side = max(picture.size)
    width = max(1, round(side / 400))
    font = _font(max(10, round(side / 60)))
    for box, class_id, caption in reversed(list(zip(boxes_xyxy.tolist(), class_ids, captions, strict=True))):
        color = class_color(int(class_id))
        draw.rectangle(box, outline=color, width=width)
        _draw_caption(draw, caption, (box[0], box[1]), color, font)
    return picture


def draw_captions(
    image: npt.NDArray[np.uint8], class_ids: Sequence[int], captions: Sequence[str], least: int = 160
) -> Image.Image:
    """A copy of an image with captions below each other at the top left.

    Args:
        image: (H, W, 3) RGB.
        class_ids: numbers that choose the colours of the captions.
        captions: texts, as many.
        least: pixels of the longer side that the copy has at least, so that captions can be read.
    """
    picture = Image.fromarray(image)
    if max(picture.size) < least:
        scale = least / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    draw = ImageDraw.Draw(picture)
    size = max(10, round(max(picture.size) / 40))
    for row, (class_id, caption) in enumerate(zip(class_ids, captions, strict=True)):
        _draw_caption(draw, caption, (0, (size + 6) * row), class_color(int(class_id)), _font(size), inside=True)
    return picture


def draw_masks(
    image: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8], class_ids: Sequence[int]
) -> npt.NDArray[np.uint8]:
    """A copy of an image with objects tinted; the first object is drawn last, on top.

    Args:
        image: (H, W, 3) RGB.
        masks: (N, H, W) of 0 and 1.
        class_ids: N numbers that choose the colours.
    """
    shown = image.copy()
    for mask, class_id in reversed(list(zip(masks, class_ids, strict=True))):
        inside = mask > 0
        shown[inside] = (shown[inside].astype(np.uint16) + np.array(class_color(int(class_id)), np.uint16)) // 2
    return shown


def _draw_caption(
    draw: ImageDraw.ImageDraw,
    caption: str,
    corner: tuple[float, float],
    color: Rgb,
    font: ImageFont.FreeTypeFont,
    *,
    inside: bool = False,
) -> None:
    left, _, right, bottom = draw.textbbox((0, 0), caption, font=font)
    # Above the box where there is room, else inside it.
    y = corner[1] if inside or corner[1] < bottom + 2 else corner[1] - (bottom + 2)
    draw.rectangle((corner[0], y, corner[0] + right - left + 3, y + bottom + 1), fill=color)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    draw.text((corner[0] + 1 - left, y), caption, fill="black" if luminance > 110 else "white", font=font)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
