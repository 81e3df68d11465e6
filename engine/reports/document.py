"""A report as JSON and back: the page carries it, draws from it, and two pages are compared by it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from engine.errors import InputError
from engine.reports.contents import Chart, Figure, Gallery, Matrix, Part, Provenance, Report, Section, Table

FORMAT = 1
OPENING = '<script type="application/json" id="report-data">'
CLOSING = "</script>"
_DIGITS = 6  # of a curve's points: more than a screen shows
Kind: TypeAlias = Literal["chart", "matrix", "table", "gallery"]
_TYPES: dict[Kind, type[Part]] = {"chart": Chart, "matrix": Matrix, "table": Table, "gallery": Gallery}


def kind_of(part: Part) -> Kind:
    """The name of a part's type."""
    return next(kind for kind, type_ in _TYPES.items() if isinstance(part, type_))


@dataclass(frozen=True)
class _Part:
    """A part with its type, which tells how the rest is read."""

    kind: Kind
    value: msgspec.Raw


@dataclass(frozen=True)
class _Section:
    title: str
    parts: tuple[_Part, ...]
    note: str


@dataclass(frozen=True)
class _Document:
    format: int
    title: str
    subtitle: str
    classes: tuple[str, ...]
    class_colors: tuple[str, ...]
    figures: tuple[Figure, ...]
    sections: tuple[_Section, ...]
    provenance: Provenance
    score_threshold: float


def to_json(report: Report) -> str:
    """The report as JSON that can stand in a `<script>` element: no name in it can end the element or begin another."""
    sections = tuple(
        _Section(
            section.title,
            tuple(_Part(kind_of(part), msgspec.Raw(_encode(part))) for part in section.parts),
            section.note,
        )
        for section in report.sections
    )
    whole = _Document(
        FORMAT, report.title, report.subtitle, report.classes, report.class_colors, report.figures, sections,
        report.provenance, report.score_threshold,
    )  # fmt: skip
    text = _encode(whole).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def from_json(text: str) -> Report:
    """The report of `to_json`.

    Raises:
        ValueError: it is none, or of another format.
    """
    found = msgspec.json.decode(text.encode(), type=_Document)
    if found.format != FORMAT:
        msg = f"its format is {found.format}, not {FORMAT}"
        raise ValueError(msg)
    sections = tuple(
        Section(section.title, tuple(_decode(part) for part in section.parts), section.note)
        for section in found.sections
    )
    return Report(
        found.title, found.subtitle, found.classes, found.class_colors, found.figures, sections, found.provenance,
        found.score_threshold,
    )  # fmt: skip


def read_report(path: Path) -> Report:
    """The report that a page holds.

    Raises:
        InputError: the file cannot be read, or is no report of this version.
    """
    try:
        text = path.read_text("utf-8")
        _, found, rest = text.partition(OPENING)
        if not found:
            msg = "it holds no data of a report"
            raise ValueError(msg)
        return from_json(rest.partition(CLOSING)[0])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        msg = f"'{path}' cannot be read as a report ({reason}). Write it again with the command `report RUN`."
        raise InputError(msg) from error


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: object) -> object:
    if not isinstance(value, np.ndarray):
        msg = f"a report cannot hold {type(value).__name__}"
        raise TypeError(msg)
    rounded = [float(f"{number:.{_DIGITS}g}") for number in value.ravel().tolist()]  # NaN is null in msgspec's JSON
    return rounded if value.ndim == 1 else [row.tolist() for row in np.reshape(rounded, value.shape)]


def _decode(part: _Part) -> Part:
    return msgspec.json.decode(part.value, type=_TYPES[part.kind], dec_hook=_array)


def _array(_: type, value: object) -> object:
    return np.array(value, np.float64)  # None becomes NaN


assert {field.name for field in fields(_Document)} == {"format", *(field.name for field in fields(Report))}
