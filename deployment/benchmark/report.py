"""The figures as text, CSV, Markdown, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.study.text_tables import aligned, comma_separated, markdown
from deployment.benchmark.results import Row, advice, by_task, front
from engine.hardware.machine import in_words
from engine.outputs import atomic_path, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "benchmark"
_COLORS = {
    "torch": "#444444",
    "onnx": "#1f6fb2",
    "openvino": "#6b3fa0",
    "litert": "#d9822b",
    "executorch": "#b23a48",
    "pt2": "#3a8f5c",
}
_MARKERS = {"float32": "o", "bfloat16": "s", "float16": "^", "int8": "D"}
_HEADER = (
    "network", "threads", "Mparam", "GMACs", "MB", "accuracy", "read", "prepare", "network", "finish", "median",
    "p95", "fastest", "images/s", "peak MiB", "own MiB", "front",
)  # fmt: skip
_COLUMNS = (
    "label", "task", "source", "runtime", "precision", "height", "width", "batch", "threads", "parameters", "macs",
    "file_bytes", "ap", "miou", "top1", "map", "read_ms", "prepare_ms", "network_ms", "finish_ms", "median_ms",
    "p95_ms", "minimum_ms", "network_minimum_ms", "images_per_second", "peak_mib", "own_mib", "load_ms", "first_ms",
    "runs", "front",
)  # fmt: skip
NOTE = (
    "Milliseconds of a whole batch, medians; `network` of a detector's file holds the suppression unless it was left "
    "out. `front`: nothing else is as fast and worth as much. `own MiB`: the peak less a process with PyTorch loaded."
)


def table(rows: Sequence[Row]) -> str:
    """The table as aligned text."""
    return aligned(_HEADER, _cells(rows))


def write_report(
    folder: Path,
    rows: Sequence[Row],
    about: Mapping[str, object],
    failures: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """Write all forms into a folder: benchmark.txt, .csv, .md, .json and .png.

    Args:
        folder: the folder.
        rows: the figures.
        about: the machine and the settings.
        failures: why a candidate is not among the rows, by its label.
        notes: further lines.

    Returns:
        The text.

    Raises:
        InputError: a file cannot be written.
    """
    machine = about["machine"]
    assert isinstance(machine, dict)
    said = in_words(machine)
    left_out = [f"left out: {label}: {why}" for label, why in failures.items()]
    closing = advice(rows)
    text = "\n".join([said, *notes, "", table(rows), "", NOTE, *left_out, "", closing])
    head = [f"# {NAME.capitalize()}", said, *notes]
    page = [*head, markdown(_HEADER, _cells(rows)), NOTE, *left_out, f"![accuracy and time]({NAME}.png)", closing]
    write_text(folder / f"{NAME}.txt", text + "\n")
    write_text(folder / f"{NAME}.md", "\n\n".join(page) + "\n")
    best = _fronts(rows)
    entries = [_entry(row, row in best) for row in rows]
    write_text(folder / f"{NAME}.csv", comma_separated(_COLUMNS, [list(entry.values()) for entry in entries]))
    write_json(
        folder / f"{NAME}.json",
        {**about, "notes": list(notes), "rows": entries, "left_out": dict(failures), "advice": closing},
    )
    draw(folder / f"{NAME}.png", rows)
    return text


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw accuracy, or else multiply-accumulates, against time, a panel for each task, with its Pareto front.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    groups = {task: [row for row in group if row.worth is not None] for task, group in by_task(rows).items()}
    shown = {task: group for task, group in groups.items() if group}
    figure = Figure(figsize=(7.5 * max(1, len(shown)), 5.5), layout="constrained")
    for place, (task, group) in enumerate(shown.items(), start=1):
        _draw_task(figure.add_subplot(1, len(shown), place), task, group)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _draw_task(axes: Axes, task: str, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    scored = [row for row in rows if row.scores]
    group = scored or rows
    best = front(group)
    heights = {id(row): _height(row) for row in group}
    axes.plot(
        [row.ms_per_image for row in best],
        [heights[id(row)] for row in best],
        color="crimson", linewidth=1.2, alpha=0.6, drawstyle="steps-post", label="Pareto front", zorder=1,
    )  # fmt: skip
    named: set[tuple[str, str]] = set()
    for row in group:
        each = row.candidate
        kind = each.runtime, each.precision
        axes.scatter(
            [row.ms_per_image], [heights[id(row)]],
            color=_COLORS[each.runtime], marker=_MARKERS.get(each.precision, "o"), zorder=2,
            label="" if kind in named else " ".join(kind),
        )  # fmt: skip
        named.add(kind)
        if row in best or len(group) <= 12:
            name = f"{each.subject.name} {each.size_hw[0]}x{each.size_hw[1]}"
            axes.annotate(name, (row.ms_per_image, heights[id(row)]), xytext=(5, -10),
                          textcoords="offset points", fontsize=7)  # fmt: skip
    axes.set_xscale("log")
    if not scored:
        axes.set_yscale("log")
    for axis in [axes.xaxis] if scored else [axes.xaxis, axes.yaxis]:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds for one image, from the file to the answer, median")
    if scored:
        axes.set_ylabel(" and ".join(dict.fromkeys(name for row in scored for name in row.scores)))
    else:
        axes.set_ylabel("billions of multiply-accumulates; no accuracy was measured")
    axes.set_title(task)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)


def _height(row: Row) -> float:
    worth = row.worth
    assert worth is not None
    return worth if row.scores else worth / 1e9


def _fronts(rows: Sequence[Row]) -> list[Row]:
    return [row for group in by_task(rows).values() for row in front(group)]


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    best = _fronts(rows)
    return [
        [
            row.candidate.label,
            str(row.candidate.threads),
            _scaled(row.parameters, 1e6, 2),
            _scaled(row.macs, 1e9, 2),
            _scaled(row.file_bytes, 1e6, 1),
            " ".join(f"{name} {value:.3f}" for name, value in row.scores.items()) or "-",
            *(f"{value:.1f}" for value in row.stages_ms),
            f"{row.median_ms:.1f}",
            f"{row.p95_ms:.1f}",
            f"{row.minimum_ms:.1f}",
            f"{row.images_per_second:.2f}",
            f"{row.peak_mib:.0f}",
            f"{row.own_mib:.0f}",
            "*" if row in best else "",
        ]
        for row in rows
    ]


def _scaled(value: int | None, unit: float, decimals: int) -> str:
    return "-" if value is None else f"{value / unit:.{decimals}f}"


def _entry(row: Row, on_front: bool) -> dict[str, object]:
    each = row.candidate
    values: tuple[object, ...] = (
        each.label, each.subject.task, each.subject.source, each.runtime, each.precision, *each.size_hw, each.batch,
        each.threads, row.parameters, row.macs, row.file_bytes, row.scores.get("AP"), row.scores.get("mIoU"),
        row.scores.get("top-1"), row.scores.get("mAP"),
        *row.stages_ms, row.median_ms, row.p95_ms, row.minimum_ms, row.network_minimum_ms, row.images_per_second,
        row.peak_mib, row.own_mib, row.load_ms, row.first_ms, row.runs, on_front,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))
