"""Charts and matrices of a report, drawn as pictures with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.prediction.pictures import class_color
from engine.reading.images import UInt8Array
from engine.reports.contents import Chart, Matrix, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which people with any colour vision tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DASHES = ("-", "--", "-.", ":")
_DPI = 100
_MOST_INSIDE = 6  # names in a legend within the axes
_MOST_NAMED = 16  # curves with a name in the legend
_MOST_WRITTEN = 20  # classes of a matrix whose numbers are written into it
_MOST_LABELLED = 60


def draw_chart(chart: Chart, classes: tuple[str, ...] = ()) -> UInt8Array:
    """A picture (h, w, 3) of a chart; the colour of a class is the one of its boxes.

    Args:
        chart: what to draw.
        classes: names in the order that chooses their colours.
    """
    outside = len(chart.series) > _MOST_INSIDE
    figure = Figure(figsize=(9.5 if outside else 7.5, 4.8), dpi=_DPI)
    # A layout by hand: matplotlib's own measures every label twice, which takes as long as the drawing.
    axes = figure.add_axes((0.09, 0.17, 0.62 if outside else 0.88, 0.74))
    draw = _bars if chart.kind == "bar" else _lines
    draw(axes, chart, classes)
    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    for mark in chart.marks:
        if mark.class_name is None:
            axes.plot([mark.x], [mark.y], marker="o", color="black", markersize=5)
            axes.annotate(mark.text, (mark.x, mark.y), xytext=(6, 4), textcoords="offset points", fontsize=8)
    if chart.log_y:
        axes.set_yscale("log")
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.x_range is not None:
        axes.set_xlim(*chart.x_range)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    axes.grid(visible=True, alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 0:
        place = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if outside else {"loc": "best"}
        axes.legend(handles, labels, fontsize=8, frameon=False, **place)
    _note(figure, chart.note)
    return _pixels(figure)


def draw_matrix(matrix: Matrix) -> UInt8Array:
    """A picture (h, w, 3) of a matrix, coloured by the share of each count in its row."""
    rows, columns = matrix.counts.shape
    side = float(np.clip(0.45 * max(rows, columns) + 2.5, 5, 16))
    figure = Figure(figsize=(side + 1, side), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    total = matrix.counts.sum(axis=1, keepdims=True)
    shares = np.divide(matrix.counts, total, out=np.zeros_like(matrix.counts, dtype=np.float64), where=total > 0)
    picture = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    if max(rows, columns) <= _MOST_LABELLED:
        axes.set_xticks(range(columns), matrix.columns, rotation=90 if columns > 4 else 0, fontsize=8)
        axes.set_yticks(range(rows), matrix.rows, fontsize=8)
    if max(rows, columns) <= _MOST_WRITTEN:
        for row, column in np.ndindex(rows, columns):
            count = float(matrix.counts[row, column])
            if count:
                color = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, _short(count), ha="center", va="center", fontsize=8, color=color)
    axes.set(title=matrix.title, xlabel=matrix.column_label, ylabel=matrix.row_label)
    figure.colorbar(picture, ax=axes, label="share of the row", fraction=0.05)
    if matrix.note:
        figure.supxlabel(matrix.note, fontsize=7, color="dimgrey")  # the layout makes room for it
    return _pixels(figure)


def _lines(axes: Axes, chart: Chart, classes: tuple[str, ...]) -> None:
    named = len(chart.series) <= _MOST_NAMED
    marks = {mark.class_name: f": {mark.text}" for mark in chart.marks if mark.class_name is not None}
    plain = 0
    for series in chart.series:
        if series.class_name is None:
            color, width, label = _COLORS[plain % len(_COLORS)], 2.0, series.name
            dash = _DASHES[plain // len(_COLORS) % len(_DASHES)]
            plain += 1
        else:
            color, dash, width = _color_of(series, classes), "-", 1.2
            label = (
                f"{series.name}{marks.get(series.class_name, '')}" if named else "_"
            )  # matplotlib leaves names out that begin so
        marker = "o" if np.count_nonzero(np.isfinite(series.y)) == 1 else None
        axes.plot(series.x, series.y, dash, color=color, linewidth=width, label=label, marker=marker, markersize=4)


def _bars(axes: Axes, chart: Chart, classes: tuple[str, ...]) -> None:
    centres = np.unique(np.concatenate([series.x for series in chart.series])) if chart.series else np.empty(0)
    width = 0.85 * float(np.diff(centres).min()) if len(centres) > 1 else 0.8
    for number, series in enumerate(chart.series):
        color = _COLORS[number % len(_COLORS)] if series.class_name is None else _color_of(series, classes)
        axes.bar(series.x, np.nan_to_num(series.y), width=width, color=color, label=series.name)
    if len(chart.series) == len(centres):  # one bar with one name each: the number says nothing
        axes.set_xticks([])


def _color_of(series: Series, classes: tuple[str, ...]) -> str:
    place = classes.index(series.class_name) if series.class_name in classes else len(classes)
    red, green, blue = (round(0.85 * value) for value in class_color(place))  # on white, a little darker
    return f"#{red:02x}{green:02x}{blue:02x}"


def _note(figure: Figure, note: str) -> None:
    if note:
        figure.text(0.5, 0.015, note, fontsize=7, color="dimgrey", ha="center")


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 10_000 else f"{count:.2g}"


def _pixels(figure: Figure) -> UInt8Array:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
