"""Tables for people: aligned text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def aligned(header: Sequence[str], rows: Cells) -> str:
    """A table in aligned columns: the first is aligned to the left, numbers to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def markdown(header: Sequence[str], rows: Cells) -> str:
    """The same as a Markdown table."""
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comma_separated(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
