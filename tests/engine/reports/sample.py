"""A report with every kind of part, and names that would be code in a page that does not escape them."""

from __future__ import annotations

import numpy as np

from engine.reports.contents import (
    Box,
    Chart,
    Column,
    Figure,
    Gallery,
    ImageCard,
    Mark,
    Matrix,
    Overlay,
    Provenance,
    Report,
    Section,
    Series,
    Table,
)
from engine.reports.encoding import encode_image, encode_overlay

HOSTILE = '</script><script>window.broken = 1</script><img src=x onerror="window.broken = 2">'
CLASSES = ("cell", HOSTILE, "platelet")
MISTAKES = ("missed", "wrong class", None)


def card(number: int, name: str | None = None) -> ImageCard:
    """A grey picture with two boxes of one class and a mask over its left half."""
    pixels = np.full((120, 160, 3), 40 * (number % 5) + 40, np.uint8)
    pixels[20:60, 20:80] = (200, 80, 80)
    mask = np.zeros((120, 160), np.uint8)
    mask[:, 80:] = 255
    class_name, mistake = CLASSES[number % 3], MISTAKES[number % 3]
    return ImageCard(
        name or f"image {number}.png",
        160,
        120,
        encode_image(pixels),
        (
            Box((20.0, 20.0, 80.0, 60.0), class_name, "truth", mistake="missed" if mistake == "missed" else None),
            Box((22.0, 18.0, 82.0, 61.0), class_name, "prediction", 0.3 + 0.1 * (number % 7), mistake),
        ),
        (Overlay("classes", encode_overlay(mask, np.array([[0, 90, 200]], np.uint8))),),
        score=number / 10,
        score_name="F1",
    )


def sample_report() -> Report:
    """Twelve images, three classes, a chart of lines and one of bars, a matrix and a table."""
    x = np.linspace(0, 1, 101)
    curves = tuple(Series(name, x, (1 - x) ** (place + 1), name) for place, name in enumerate(CLASSES))
    chart = Chart(
        "Precision and recall", "recall", "precision", (*curves, Series("all", x, 1 - x)), x_range=(0.0, 1.0),
        y_range=(0.0, 1.0), diagonal=True, marks=(Mark(0.5, 0.5, "best F1 0.50", CLASSES[1]),), note="IoU 0.5",
    )  # fmt: skip
    bars = Chart("Scores", "score", "count", (Series("right", x[::10], 10 * x[::10]),), kind="bar")
    kinds = Chart(
        "Gains", "", "gain", tuple(Series(f"kind {n}", np.array([float(n)]), np.array([0.1 * n])) for n in range(3)),
        kind="bar",
    )  # fmt: skip
    counts = Chart(
        "Counts", "score", "count", (Series("all", x[::10], np.array([0.0, 3, 900, *range(8)])),), kind="bar",
        log_y=True,
    )  # fmt: skip
    loss = Chart("Loss", "step", "loss", (Series("train", 10 * x, np.where(x > 0.5, np.nan, 2 - x)),), log_y=True)
    matrix = Matrix(
        "Confusion", "truth", "prediction", (*CLASSES, "background"), (*CLASSES, "background"),
        np.arange(16.0).reshape(4, 4) ** 2,
    )  # fmt: skip
    columns = (
        Column("class", "class"), Column("AP", "score", "mean over IoU", "max"), Column("objects", "count"),
        Column("worst mistake", "mistake"),
    )  # fmt: skip
    rows = tuple((name, 0.1234567 + 0.3 * place, 1000 * place, MISTAKES[place]) for place, name in enumerate(CLASSES))
    cards = (*(card(number) for number in range(11)), card(11, HOSTILE))
    return Report(
        title=f"Cells {HOSTILE}",
        subtitle="runs/detection/cells, val, 12 images",
        classes=CLASSES,
        figures=(Figure("AP", 0.4321), Figure("AP50", None), Figure("images", 1234.0, HOSTILE, None)),
        sections=(
            Section("Scores", (chart, bars, loss, matrix, kinds, counts, Table("Classes", columns, rows))),
            Section("Images", (Gallery("Worst images", cards, 300),), note=HOSTILE),
        ),
        provenance=Provenance("python -m detection fit", f"name: {HOSTILE}\n", {"torch": "2.15", HOSTILE: HOSTILE}),
    )
