"""Masks as people see them: index images with the classes' colours as palette, overlays with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from engine.errors import InputError
from engine.reading.images import UInt8Array
from segmentation.data.classes import IGNORED, MaskClasses

Shares = npt.NDArray[np.float64]


def index_image(class_ids: UInt8Array, classes: MaskClasses) -> Image.Image:
    """An image whose values are the label ids; viewers show the classes' colours.

    Args:
        class_ids: (H, W) rows of the class list; 255, which is no class, stays 255.
        classes: names, label ids and colours.

    Returns:
        Palette image of 8 bits; as an array it holds the label ids.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[list(classes.label_ids)] = classes.colors
    picture = Image.fromarray(classes.label_by_class[class_ids])
    # On a grey image this changes what the values mean, not the values.
    picture.putpalette(palette.tobytes())
    return picture


def class_pixels(class_ids: UInt8Array, classes: MaskClasses) -> npt.NDArray[np.int64]:
    """(K,) number of pixels of each row; pixels of no class are not counted."""
    return np.bincount(class_ids.ravel(), minlength=256)[: len(classes)]


def overlay(
    image: UInt8Array, class_ids: UInt8Array, classes: MaskClasses, opacity: float = 0.5, legend: bool = True
) -> Image.Image:
    """The image tinted with the colours of its classes, above a legend of the classes that occur.

    Args:
        image: (H, W, 3) RGB.
        class_ids: (H, W) rows of the class list; the image is left as it is where they are 255.
        classes: names and colours.
        opacity: of the colours, 0 to 1.
        legend: whether to add one, with each class's share of the image, below the image.

    Returns:
        RGB; as wide as the image, or as the longest entry of the legend if that is wider.

    Raises:
        InputError: image and mask differ in size, or the opacity is out of range.
    """
    tinted = tint(image, class_ids, classes, opacity)
    if not legend:
        return tinted
    pixels = class_pixels(class_ids, classes)
    rows = np.flatnonzero(pixels)
    return with_legend(tinted, legend_image(classes, rows.tolist(), tinted.width, (pixels / class_ids.size)[rows]))


def tint(image: UInt8Array, class_ids: UInt8Array, classes: MaskClasses, opacity: float = 0.5) -> Image.Image:
    """`overlay` without a legend."""
    # torchvision's `draw_segmentation_masks` gives the same pixels from one mask per class: seventy times slower for
    # the nineteen of a street scene, and with torch imported.
    if image.shape[:2] != class_ids.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, class_ids.shape)]
        msg = f"the image is {sizes[0]} (width x height) but its mask {sizes[1]}. Give the image that was segmented."
        raise InputError(msg)
    if not 0 <= opacity <= 1:
        msg = f"opacity is {opacity}; allowed are 0 to 1."
        raise InputError(msg)
    picture = Image.fromarray(image)
    colors = Image.fromarray(class_ids)
    colors.putpalette(classes.color_by_class.tobytes())
    blended = Image.blend(picture, colors.convert("RGB"), opacity)
    ignored = class_ids == IGNORED
    if ignored.any():
        blended.paste(picture, mask=Image.fromarray(ignored))
    return blended


def legend_image(classes: MaskClasses, rows: Sequence[int], width: int, shares: Shares | None = None) -> Image.Image:
    """Colours and names in lines.

    Args:
        classes: names and colours.
        rows: the classes to name, in order.
        width: pixels; the result is wider if an entry needs more.
        shares: of each class in the image, 0 to 1, shown after its name.
    """
    captions = [classes.names[row] for row in rows]
    if shares is not None:
        captions = [f"{name} {_percent(share)}" for name, share in zip(captions, shares.tolist(), strict=True)]
    size = min(32, max(11, round(width / 80)))
    font, gap = _font(size), size // 2
    places: list[tuple[int, int]] = []
    x, y, widest = gap, gap, width
    for caption in captions:
        needed = size + gap + int(font.getlength(caption)) + 1
        if x > gap and x + needed + gap > width:
            x, y = gap, y + size + gap
        places.append((x, y))
        x += needed + 2 * gap
        widest = max(widest, places[-1][0] + needed + gap)
    picture = Image.new("RGB", (widest, y + size + gap if places else 1), "white")
    draw = ImageDraw.Draw(picture)
    for row, caption, (left, top) in zip(rows, captions, places, strict=True):
        draw.rectangle((left, top, left + size, top + size), fill=classes.colors[row], outline="black")
        draw.text((left + size + gap, top + size / 2), caption, fill="black", font=font, anchor="lm")
    return picture


def with_legend(picture: Image.Image, legend: Image.Image) -> Image.Image:
    """A legend below a picture."""
    both = Image.new("RGB", (max(picture.width, legend.width), picture.height + legend.height), "white")
    both.paste(picture, (0, 0))
    both.paste(legend, (0, picture.height))
    return both


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
