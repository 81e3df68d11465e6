"""Pixels as small image files, and a report's images within a budget of bytes."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.reports.contents import EncodedImage, Gallery, ImageCard, Report

LONG_SIDE = 640
BUDGET = 10_000_000  # bytes of all images before base64, which adds a third: a page stays below 15 MB
_QUALITY = 70
_METHOD = 4


def encode_image(pixels: NDArray[np.uint8], long_side: int = LONG_SIDE, quality: int = _QUALITY) -> EncodedImage:
    """A picture as WebP, no larger than `long_side`.

    Args:
        pixels: (H, W, 3) RGB.
        long_side: pixels of the longer side at most.
        quality: of WebP, 0 to 100.
    """
    return _webp(Image.fromarray(pixels), long_side, Image.Resampling.LANCZOS, quality=quality, method=_METHOD)


def encode_overlay(
    class_ids: NDArray[np.integer], colors: NDArray[np.uint8], alpha: int = 140, long_side: int = LONG_SIDE
) -> EncodedImage:
    """A label map as a picture with transparency, in lossless WebP: each pixel of the small map is one of the large.

    Args:
        class_ids: (H, W) rows of `colors`; a value beyond them is transparent.
        colors: (K, 3) RGB, or (K, 4) with the opacity of each.
        alpha: opacity of colours that state none, 0 to 255.
        long_side: pixels of the longer side at most.
    """
    table = np.zeros((256, 4), np.uint8)
    table[: len(colors), 3] = alpha
    table[: len(colors), : colors.shape[1]] = colors
    picture = Image.fromarray(class_ids.astype(np.uint8))
    picture.thumbnail((long_side, long_side), Image.Resampling.NEAREST)
    return _webp(Image.fromarray(table[np.asarray(picture)]), long_side, Image.Resampling.NEAREST, lossless=True)


def within_budget(report: Report, budget: int = BUDGET) -> Report:
    """The report with no more images than the budget allows; each gallery keeps its first ones, the worst.

    Args:
        report: a report.
        budget: bytes of all image files together.
    """
    galleries = [part for section in report.sections for part in section.parts if isinstance(part, Gallery)]
    if sum(_size(card) for gallery in galleries for card in gallery.cards) <= budget:
        return report
    kept = {id(gallery): 0 for gallery in galleries}
    left = budget
    for place in range(max(len(gallery.cards) for gallery in galleries)):  # one of each gallery in turn
        for gallery in galleries:
            if place == kept[id(gallery)] and place < len(gallery.cards) and _size(gallery.cards[place]) <= left:
                left -= _size(gallery.cards[place])
                kept[id(gallery)] += 1
    sections = tuple(
        replace(
            section,
            parts=tuple(
                replace(part, cards=part.cards[: kept[id(part)]]) if isinstance(part, Gallery) else part
                for part in section.parts
            ),
        )
        for section in report.sections
    )
    return replace(report, sections=sections)


def _size(card: ImageCard) -> int:
    return len(card.image.data) + sum(len(overlay.image.data) for overlay in card.overlays)


def _webp(
    picture: Image.Image,
    long_side: int,
    resampling: Literal[Image.Resampling.NEAREST, Image.Resampling.LANCZOS],
    **options: bool | int,
) -> EncodedImage:
    picture.thumbnail((long_side, long_side), resampling)  # never enlarges
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return EncodedImage("image/webp", file.getvalue(), *picture.size)
