"""Charts, matrices and sheets as pictures: what is in the data is in the pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.analysis.figures import draw_chart, draw_matrix
from engine.analysis.sheets import draw_sheet
from engine.prediction.pictures import class_color
from engine.reports.contents import Box, Chart, ImageCard, Mark, Matrix, Overlay, Series
from engine.reports.encoding import encode_image, encode_overlay

X = np.linspace(0, 1, 50)
CHART = Chart("Title", "x", "y", (Series("one", X, X**2), Series("two", X, 1 - X, class_name="two")))


def has(picture, color, far=12):
    """How many pixels have a colour."""
    return int((np.abs(picture.astype(int) - np.array(color)).max(axis=2) <= far).sum())


def test_curves_have_the_colours_of_their_classes():
    picture = draw_chart(CHART, ("one", "two"))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    darker = [round(0.85 * value) for value in class_color(1)]
    assert has(picture, darker) > 100
    assert has(draw_chart(replace(CHART, series=CHART.series[:1]), ("one", "two")), darker) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "bar"},
        {"diagonal": True},
        {"log_y": True},
        {"marks": (Mark(0.5, 0.5, "here"),)},
        {"note": "a note"},
        {"x_range": (0, 2)},
        {"title": "Other"},
        {"series": (Series("one", X[:1], X[:1] + 0.5),)},
        {"series": tuple(Series(f"c{n}", X, X / (n + 1), class_name=f"c{n}") for n in range(40))},
        {"series": (Series("gaps", X, np.where(X > 0.5, np.nan, X)),)},
    ],
)
def test_every_part_of_a_chart_is_drawn(change):
    first, second = draw_chart(CHART), draw_chart(replace(CHART, **change))
    assert first.shape != second.shape or (first != second).any()


def test_a_matrix_is_coloured_by_the_shares_of_its_rows():
    names = ("a", "b")
    counts = np.array([[10.0, 0.0], [0.0, 3.0]])
    picture = draw_matrix(Matrix("Title", "truth", "found", names, names, counts))
    brightest, darkest = (253, 231, 55), (0, 34, 77)  # the ends of cividis
    assert has(picture, brightest) > 1000
    assert has(picture, darkest) > 1000
    same = draw_matrix(Matrix("Title", "truth", "found", names, names, counts * [[1], [5]]))
    assert abs(has(same, brightest) - has(picture, brightest)) < 500
    large = draw_matrix(Matrix("Title", "truth", "found", tuple("ab" * 50), tuple("ab" * 50), np.eye(100)))
    assert large.shape[0] > picture.shape[0]


def test_a_sheet_shows_truth_beside_what_was_found():
    image = np.full((60, 80, 3), 128, np.uint8)
    rows = np.zeros((60, 80), np.uint8)
    rows[:, 40:] = 1
    colors = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    card = ImageCard(
        "a name that is longer than the picture is wide, and so is cut at its end" * 3, 80, 60, encode_image(image),
        boxes=(
            Box((5, 20, 30, 50), "one", "truth"),
            Box((40, 20, 70, 50), "two", "prediction", 0.5, "duplicate"),
        ),
        overlays=(Overlay("true classes", encode_overlay(rows, colors, alpha=255)),),
        score=0.25, note="1 duplicate",
    )  # fmt: skip
    classes = ("one", "two")
    sheet = draw_sheet([card] * 3, classes, 2, beside=True)
    first, second = class_color(0), class_color(1)
    left, right = sheet[:, : sheet.shape[1] // 4], sheet[:, sheet.shape[1] // 4 : sheet.shape[1] // 2]
    assert has(left, first) > 100
    assert has(left, second) == 0
    assert has(right, second) > 100
    assert has(right, first) == 0
    assert has(left, (255, 0, 0)) > 1000  # the overlay of what is true
    assert has(right, (255, 0, 0)) == 0
    only = draw_sheet([card], classes, 4, beside=False)
    assert only.shape[1] < sheet.shape[1] / 2
    assert has(only, second) == 0
