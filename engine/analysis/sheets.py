"""Sheets of image cards as one picture: a training batch, or what is true beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.prediction.pictures import draw_boxes
from engine.reading.images import UInt8Array, open_picture
from engine.reports.contents import Box, ImageCard, Origin, Overlay

_CELL = 448  # pixels of the longer side of a picture on a sheet
_GAP = 6
_LINE = 16  # pixels of a line of text
_OF_TRUTH = ("true classes",)  # overlays of what is annotated
_UNSEEN = ("wrong pixels",)  # overlays that would hide what was found


def draw_sheet(cards: Sequence[ImageCard], classes: tuple[str, ...], columns: int, beside: bool) -> UInt8Array:
    """A picture (h, w, 3) with all cards.

    Args:
        cards: the images; at least one.
        classes: names in the order that chooses their colours.
        columns: cards in a row.
        beside: what is true on the left and what was found on the right, else only what is true.
    """
    cells = [_cell(card, classes, beside) for card in cards]
    columns = min(columns, len(cells))
    rows = [cells[begin : begin + columns] for begin in range(0, len(cells), columns)]
    widths = [max(row[column].width for row in rows if column < len(row)) for column in range(columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    size = sum(widths) + _GAP * (columns + 1), sum(heights) + _GAP * (len(rows) + 1)
    sheet = Image.new("RGB", size, "white")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        left = _GAP
        for cell, width in zip(row, widths, strict=False):  # the last row may be shorter
            sheet.paste(cell, (left, top))
            left += width + _GAP
        top += height + _GAP
    return np.asarray(sheet)


def _cell(card: ImageCard, classes: tuple[str, ...], beside: bool) -> Image.Image:
    """A card with a line of text above it."""
    origins: list[Origin] = ["truth", "prediction"] if beside else ["truth"]
    panels = [_panel(card, classes, origin) for origin in origins]
    width = sum(panel.width for panel in panels) + 2 * (len(panels) - 1)
    cell = Image.new("RGB", (width, panels[0].height + _LINE), "white")
    left = 0
    for panel in panels:
        cell.paste(panel, (left, _LINE))
        left += panel.width + 2
    score = "" if card.score is None else f"   {card.score_name} {card.score:.2f}"
    mistakes = "" if not card.note else f"   {card.note}"
    text = f"{card.name}{score}{mistakes}"
    font = ImageFont.load_default(12)
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2]}…"
    ImageDraw.Draw(cell).text((0, 0), text, fill="black", font=font)
    return cell


def _panel(card: ImageCard, classes: tuple[str, ...], origin: Origin) -> Image.Image:
    with open_picture(BytesIO(card.image.data)) as file:
        picture = file.convert("RGB")
    scale = _CELL / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    for overlay in card.overlays:
        if overlay.name not in _UNSEEN and (overlay.name in _OF_TRUTH) == (origin == "truth"):
            _lay(picture, overlay)
    boxes = [box for box in card.boxes if box.origin == origin]
    if not boxes:
        return picture
    corners = np.array([box.box_xyxy for box in boxes], np.float32)
    corners *= np.array([picture.width / card.width, picture.height / card.height] * 2, np.float32)
    places = [classes.index(box.class_name) if box.class_name in classes else len(classes) for box in boxes]
    return draw_boxes(np.asarray(picture), corners, places, [_caption(box) for box in boxes])


def _lay(picture: Image.Image, overlay: Overlay) -> None:
    with open_picture(BytesIO(overlay.image.data)) as file:
        colors = file.convert("RGBA").resize(picture.size, Image.Resampling.NEAREST)
    picture.paste(colors, mask=colors.getchannel("A"))


def _caption(box: Box) -> str:
    score = "" if box.score is None else f" {box.score:.2f}"
    return f"{box.class_name}{score}" + ("" if box.mistake is None else f": {box.mistake}")
