"""What a report holds: figures, charts, matrices, tables and images as plain data, whatever the task.

Nothing here knows how a report looks. Texts are plain text, never HTML; the page escapes them. A number that does not
exist is NaN in an array and None elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Better: TypeAlias = Literal["max", "min"]
Origin: TypeAlias = Literal["truth", "prediction"]
ColumnKind: TypeAlias = Literal["text", "class", "mistake", "score", "share", "number", "count"]
Mime: TypeAlias = Literal["image/webp", "image/png", "image/jpeg"]
Cell: TypeAlias = "str | int | float | None"


@dataclass(frozen=True)
class Figure:
    """A number that stands at the top.

    Attributes:
        name: what it is called, such as `AP`.
        value: the number itself, not rounded; None if it does not exist.
        detail: what it means, in a few words.
        better: whether a larger or a smaller value is better; None if neither, such as a count.
    """

    name: str
    value: float | None
    detail: str = ""
    better: Better | None = "max"


@dataclass(frozen=True, eq=False)
class Series:
    """A curve, or the bars of a bar chart.

    Attributes:
        name: its name in the legend.
        x: (P,) ascending; for bars their centres. At most some hundred points: bin what has more.
        y: (P,) values; NaN leaves a gap.
        class_name: the class that it belongs to, for the filter of classes; None belongs to all.
        color: its place in the page's colours; None is its place among the series.
        dashed: whether it is drawn dashed, as the second of two runs.
    """

    name: str
    x: Floats
    y: Floats
    class_name: str | None = None
    color: int | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A point in a chart that is named, such as the threshold of best F1."""

    x: float
    y: float
    text: str
    class_name: str | None = None


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes.

    Attributes:
        title: what it shows.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        series: the curves.
        kind: lines, or bars.
        x_range: lower and upper end; None fits the data.
        y_range: lower and upper end; None fits the data.
        diagonal: draw y = x, as in a reliability diagram.
        log_y: a logarithmic vertical axis.
        marks: named points.
        note: conventions that a reader must know, such as the IoU of a match.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "bar"] = "line"
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    diagonal: bool = False
    log_y: bool = False
    marks: tuple[Mark, ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Counts of pairs, such as a confusion matrix.

    Attributes:
        title: what it shows.
        row_label: what a row is, such as `truth`.
        column_label: what a column is, such as `prediction`.
        rows: R names.
        columns: C names.
        counts: (R, C) counts. The page colours each by its share of its row.
        note: conventions that a reader must know, such as score and IoU of a match.
    """

    title: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Floats
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: decides how a cell is written, and which filter works on it: `class` and `mistake` hold names that the
            page's filters choose from, `score` a number in [0, 1] that the slider of scores cuts, `share` a number in
            [0, 1] that is no score, `count` a whole number.
        detail: what it means, in a few words.
        better: whether a larger or a smaller value is better; None if neither.
    """

    name: str
    kind: ColumnKind = "text"
    detail: str = ""
    better: Better | None = None


@dataclass(frozen=True)
class Table:
    """Rows that a reader sorts and filters.

    Attributes:
        title: what it shows.
        columns: its columns.
        rows: a cell for each column; None for what does not exist.
        note: conventions that a reader must know.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class EncodedImage:
    """An image file in memory.

    Attributes:
        mime: its format.
        data: the bytes of the file.
        width: in its own pixels.
        height: in its own pixels.
    """

    mime: Mime
    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """A box on an image.

    Attributes:
        box_xyxy: left, top, right, bottom in pixels of the original image.
        class_name: its class.
        origin: whether it is annotated or predicted.
        score: of a prediction; None for ground truth.
        mistake: the kind of mistake, such as `missed`, `wrong class`, `badly placed`; None if it is right.
    """

    box_xyxy: tuple[float, float, float, float]
    class_name: str
    origin: Origin
    score: float | None = None
    mistake: str | None = None


@dataclass(frozen=True)
class Overlay:
    """A picture with transparency that lies on an image and can be switched on and off.

    Attributes:
        name: what it shows, such as `ground truth`, `prediction`, `mistakes`; equal names share a switch.
        image: PNG or lossless WebP of the image's aspect.
    """

    name: str
    image: EncodedImage


@dataclass(frozen=True)
class ImageCard:
    """An image with what was found on it.

    Attributes:
        name: the file's name.
        width: of the original image, in pixels; the frame of the boxes.
        height: of the original image, in pixels.
        image: the picture, of the original's aspect and usually smaller.
        boxes: annotated and predicted boxes.
        overlays: masks, from the lowest to the highest.
        score: a number by which images are sorted, the worst first; None if there is none.
        score_name: what that number is, such as `F1`.
        class_names: classes on it beyond those of its boxes, for the filter.
        mistakes: kinds of mistakes on it beyond those of its boxes, for the filter.
        note: a line on it.
    """

    name: str
    width: int
    height: int
    image: EncodedImage
    boxes: tuple[Box, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    score: float | None = None
    score_name: str = "score"
    class_names: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Image cards in the order of showing, usually the worst first.

    Attributes:
        title: what they are.
        cards: the images that are shown.
        total: how many there are; the page says `40 of 1,312 shown`.
        note: how they were chosen.
    """

    title: str
    cards: tuple[ImageCard, ...]
    total: int
    note: str = ""


Part: TypeAlias = "Chart | Matrix | Table | Gallery"


@dataclass(frozen=True)
class Section:
    """A chapter of the report.

    Attributes:
        title: its heading.
        parts: what it shows, in order; charts that follow each other stand side by side where there is room.
        note: a sentence below the heading.
    """

    title: str
    parts: tuple[Part, ...]
    note: str = ""


@dataclass(frozen=True)
class Provenance:
    """How a run came about; it stands at the end.

    Attributes:
        command: the command line.
        config: the configuration as text.
        versions: of the program, its libraries and the machine.
    """

    command: str = ""
    config: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        title: its heading, such as `Lite0 on blood cells`.
        subtitle: a line below it: the run's folder, the split, how many images.
        classes: the class list in its order, which chooses the colours; names beyond it get further colours.
        class_colors: a colour for each of `classes`, such as `#80ff00`; empty leaves them to the page.
        figures: the key figures.
        sections: the chapters.
        provenance: configuration, versions and command line.
        score_threshold: where the page's slider of scores stands at first.
    """

    title: str
    subtitle: str = ""
    classes: tuple[str, ...] = ()
    class_colors: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    sections: tuple[Section, ...] = ()
    provenance: Provenance = Provenance()
    score_threshold: float = 0.0
