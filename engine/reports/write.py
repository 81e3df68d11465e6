"""A report as one HTML file that needs no network: template, styles, scripts, data and images in one page.

Tables are sorted by DataTables and curves drawn by uPlot, both under the MIT licence; `page/vendor/` has their files
as their authors published them, with their licences.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine.outputs import write_text
from engine.reports.contents import Cell, ColumnKind, Matrix, Report, Series
from engine.reports.document import CLOSING, OPENING, kind_of, to_json

_PAGE = Path(__file__).parent / "page"
_VENDOR = _PAGE / "vendor"
_SCRIPTS = (_VENDOR / "uPlot.iife.min.js", _VENDOR / "dataTables.min.js", _PAGE / "report.js")
_STYLES = (_VENDOR / "uPlot.min.css", _PAGE / "report.css")
_LICENCES = {"DataTables": _VENDOR / "dataTables.LICENSE.txt", "uPlot": _VENDOR / "uPlot.LICENSE.txt"}
_POINTS = 21  # rows of a curve's table of numbers
_NONE = "–"


@dataclass(frozen=True)
class _Assets:
    """What every page holds, whatever the report."""

    styles: str
    scripts: tuple[str, ...]
    hashes: str
    licences: str
    versions: dict[str, str]


def render(report: Report) -> str:
    """The report as an HTML page.

    Every text of the report is escaped. The page's own policy lets it run its own scripts only and load nothing.
    """
    assets = _assets()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            styles=Markup(assets.styles),  # noqa: S704 - our own file
            scripts=[Markup(script) for script in assets.scripts],  # noqa: S704 - our own files
            script_hashes=Markup(assets.hashes),  # noqa: S704 - digests
            licences=assets.licences,
            versions=assets.versions,
            data=Markup(OPENING + to_json(report) + CLOSING),  # noqa: S704 - `to_json` has escaped it
        )
    )


def write_report(report: Report, path: str | Path) -> None:
    """Write the page.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, render(report))


@cache
def _assets() -> _Assets:
    scripts = tuple(path.read_text("utf-8") for path in _SCRIPTS)
    assert not any("</script" in script.lower() for script in scripts)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return _Assets(
        styles="\n".join(path.read_text("utf-8") for path in _STYLES),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{digest}'" for digest in digests),
        licences="\n\n".join(f"{name}\n\n{path.read_text('utf-8')}" for name, path in _LICENCES.items()),
        versions={"uPlot": _version(scripts[0]), "dataTables": _version(scripts[1])},
    )


def _version(script: str) -> str:
    """The version that a library states in its first line."""
    found = re.search(r"\d+\.\d+\.\d+", script[:200])
    assert found is not None
    return found[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": _number,
        "count": _count,
        "cell": _cell,
        "order": _order,
        "kind": kind_of,
        "shares": _shares,
        "thinned": _thinned,
    }
    return environment


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return _NONE
    return _count(value) if value == int(value) and abs(value) >= 10 else f"{value:.3f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _cell(value: Cell, kind: ColumnKind) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _NONE
    if isinstance(value, str):
        return value
    if kind == "count":
        return _count(value)
    return f"{value:.3f}" if kind in ("score", "share") else f"{value:,.4g}"


def _order(value: Cell) -> str:
    """What a cell is sorted by; a number that does not exist comes before all others."""
    return "-1e99" if value is None else str(value)


def _shares(matrix: Matrix) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Each row's name, and its counts with their shares of the row."""
    for name, row in zip(matrix.rows, matrix.counts, strict=True):
        total = max(float(row.sum()), 1e-12)
        yield name, [(count, count / total) for count in row.tolist()]


def _thinned(series: Series) -> list[tuple[float, float]]:
    """Points of a curve, as many as a reader of a table wants."""
    places = np.unique(np.linspace(0, len(series.x) - 1, min(_POINTS, len(series.x))).astype(int))
    return list(zip(series.x[places].tolist(), series.y[places].tolist(), strict=True))
