"""Pictures of the family: accuracy against cost, and the grid search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.scaling import PAPER
from backbones.study.search import Candidate, find, leading
from backbones.study.table import Row
from engine.errors import InputError
from engine.outputs import atomic_path, make_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = {"B": "#1f6fb2", "Lite": "#d9822b", "V2": "#3a8f5c"}
_SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def check_picture(path: str | Path) -> None:
    """Do nothing if a picture can be drawn into a file; it is called before the work whose result is drawn.

    Raises:
        InputError: the suffix of the file is unknown, its folder cannot be written, or matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        msg = f"the picture '{path}' has no known ending; allowed: {', '.join(_SUFFIXES)}"
        raise InputError(msg)
    make_folder(Path(path).parent)
    _figure(1, 1)


def draw_table(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw published top-1 against counted MACs, and against latency if it was measured, with one line per family.

    Networks without a published figure are left out.

    Raises:
        InputError: no row has a published top-1, or the picture cannot be written.
    """
    shown = [row for row in rows if row.published]
    if not shown:
        msg = "none of these networks has a published top-1 to draw; name some of b0 ... b7, lite0 ... lite4, v2_s ..."
        raise InputError(msg)
    costs: list[tuple[str, Callable[[Row], float]]] = [
        ("billions of multiply-accumulates", lambda row: row.cost.macs / 1e9)
    ]
    if all(row.latency for row in shown):
        costs.append(("milliseconds for one image on this device, median", _median))
    figure = _figure(7 * len(costs), 5)
    from matplotlib.ticker import LogLocator, NullFormatter

    for index, (label, cost) in enumerate(costs):
        axes = figure.add_subplot(1, len(costs), index + 1)
        _draw_families(axes, shown, cost)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel("top-1 on ImageNet as published, %")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def _draw_families(axes: Any, rows: Sequence[Row], cost: Callable[[Row], float]) -> None:
    for family, color in _COLORS.items():
        own = [row for row in rows if row.published and row.published.family == family]
        points = [(cost(row), row.published.top1[0].value) for row in own if row.published]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), marker="o", color=color, label=f"EfficientNet {family}")
        for row, point in zip(own, points, strict=True):
            short = row.name.rpartition("_")[2].capitalize()
            axes.annotate(short, point, xytext=(5, -11), textcoords="offset points", fontsize=8, color=color)


def _median(row: Row) -> float:
    assert row.latency is not None
    return row.latency.median_ms


def draw_search(path: str | Path, candidates: Sequence[Candidate]) -> None:
    """Draw the admissible triples, the leading tenth among them, and the effect of whole blocks on their cost.

    Raises:
        InputError: the picture cannot be written.
    """
    figure = _figure(14, 5.5)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    place = find(candidates)
    best = {id(each) for each in leading(candidates)}
    triples = [each.coefficients for each in candidates]
    edges = ["black" if id(each) in best else "none" for each in candidates]

    # Triples with the same β and γ differ in α alone; they are drawn beside each other.
    same: dict[tuple[float, float], list[int]] = {}
    for index, triple in enumerate(triples):
        same.setdefault((triple.beta, triple.gamma), []).append(index)
    shift = {
        index: (position - (len(group) - 1) / 2) * 0.011
        for group in same.values()
        for position, index in enumerate(sorted(group, key=lambda index: triples[index].alpha))
    }
    betas = [triple.beta + shift[index] for index, triple in enumerate(triples)]
    gammas = [triple.gamma for triple in triples]
    dots = left.scatter(betas, gammas, c=[triple.alpha for triple in triples], s=70, edgecolors=edges, linewidths=1.6)
    figure.colorbar(dots, ax=left, label="α, depth")
    left.set_xlabel("β, width")
    left.set_ylabel("γ, resolution")
    left.set_title("admissible triples, α·β²·γ² ≈ 2; ringed: the leading tenth")

    asked = [triple.cost for triple in triples]
    growth = [each.growth for each in candidates]
    right.scatter(asked, growth, c=[triple.alpha for triple in triples], s=45, edgecolors=edges, linewidths=1.2)
    ends = [min(asked), max(asked)]
    right.plot(ends, ends, color="grey", linestyle="--", label="no rounding")
    right.set_xlabel("α·β²·γ², asked")
    right.set_ylabel("MACs in units of B0's, counted at φ = 1")
    right.set_title("what whole blocks, channels and pixels cost")
    if place is not None:
        label = f"the paper's {PAPER.alpha:g}, {PAPER.beta:g}, {PAPER.gamma:g}"
        star: dict[str, Any] = {
            "marker": "*",
            "s": 320,
            "color": "crimson",
            "edgecolors": "white",
            "label": label,
            "zorder": 3,
        }
        left.scatter([betas[place]], [gammas[place]], **star)
        right.scatter([asked[place]], [growth[place]], **star)
        left.legend(loc="upper right")
    right.legend(loc="upper left")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "pictures need matplotlib, which is not installed. Run: pip install matplotlib"
        raise InputError(msg) from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
