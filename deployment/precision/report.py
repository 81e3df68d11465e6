"""What a smaller number type costs in accuracy, as JSON and as a short table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from deployment.precision.guard import Report
from engine.outputs import write_json

_SUFFIX = ".accuracy.json"


def write_report(report: Report, path: Path) -> Path:
    """Write a report as JSON beside the file that it is about.

    Args:
        report: the report.
        path: the file.

    Raises:
        OutputError: it cannot be written.
    """
    beside = report_beside(path)
    write_json(beside, asdict(report))
    return beside


def report_beside(path: Path) -> Path:
    """The report of a file, whose whole name it has: `d.onnx` and `d.xml` each have their own.

    >>> report_beside(Path("made", "d_int8.onnx")).as_posix()
    'made/d_int8.onnx.accuracy.json'
    """
    return path.with_name(f"{path.name}{_SUFFIX}")


def table(report: Report) -> str:
    """A few lines: the scores, the loss, and what stays in float because of which loss."""
    names = list(report.float32)
    kept, precision = report.kept, report.precision
    rows = [("", *names, "loss")]
    rows.append(("float32", *(f"{report.float32[name]:.4f}" for name in names), ""))
    if kept:
        rows.append(_row(f"all {precision}", report, names, whole=True))
    rows.append(_row(precision, report, names, whole=False))
    lines = _aligned(rows)
    if kept:
        lines += ["", f"{len(kept)} of {report.groups} groups of layers stay in float:", *_aligned([
            ("group", "deviation", "loss without", "layer that moves the results most"),
            *(
                (each.group, f"{each.deviation:.3f}", f"{each.loss_without:.4f}", next(iter(each.layers)))
                for each in kept
            ),
        ])]  # fmt: skip
    return "\n".join(lines)


def _row(title: str, report: Report, names: list[str], *, whole: bool) -> tuple[str, ...]:
    scores = report.whole if whole else report.scores
    return title, *(f"{scores[name]:.4f}" for name in names), f"{report.loss_of(scores):.4f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
