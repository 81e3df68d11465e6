"""The small grid search of the paper: which (α, β, γ) at φ = 1 double the work of B0, and what they really cost.

Tan and Le, "EfficientNet" (arXiv:1905.11946), section 3.3, step 1: with φ = 1, search α, β, γ ≥ 1 such that
α·β²·γ² ≈ 2, and take the most accurate network. That needs every candidate trained on ImageNet. Without it, this search
shows the set of admissible triples and what each costs; it cannot say which is the most accurate. `score` is the place
for a reader's own measurements. In its absence candidates are sorted by `evenness`, which is no measure of accuracy.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from backbones import networks
from backbones.scaling import BASE_HEAD, BASE_STEM, PAPER, Coefficients, Point, Rounding, round_channels
from backbones.study.cost import Cost, count
from backbones.study.text_tables import comma_separated
from engine.errors import InputError
from engine.outputs import write_text

Score = Callable[[Coefficients], float | None]

TARGET = 2.0  # work at φ = 1 in units of B0's, by the paper's constraint


@dataclass(frozen=True)
class Candidate:
    """One triple of the grid.

    Attributes:
        coefficients: α, β, γ.
        image_size: side of its images in pixels.
        cost: cost of the network at φ = 1, counted on the network.
        growth: its multiply-accumulates in units of B0's; without the rounding to whole blocks, channels and pixels it
            would be `coefficients.cost`.
        score: its score, where larger is better; None if it was not scored.
    """

    coefficients: Coefficients
    image_size: int
    cost: Cost
    growth: float
    score: float | None


def evenness(coefficients: Coefficients) -> float:
    """How evenly depth, width and resolution share the growth of the work: 1 for equal parts, 0 for one alone.

    It is the entropy of the shares log α, 2·log β and 2·log γ of log(α·β²·γ²), in units of log 3. The paper's second
    observation, that all dimensions are to be balanced, makes it a sensible order; it measures no accuracy.
    """
    logs = (math.log(coefficients.alpha), 2 * math.log(coefficients.beta), 2 * math.log(coefficients.gamma))
    shares = [value / sum(logs) for value in logs if value > 0]
    return -sum(share * math.log(share) for share in shares) / math.log(3) if shares else 0.0


def admissible(step: float = 0.05, tolerance: float = 0.1) -> list[Coefficients]:
    """All triples on a grid from 1 upwards with |α·β²·γ² - 2| ≤ tolerance.

    The paper's 1.2, 1.1, 1.15 gives 1.92, so it is among them from a tolerance of 0.08 on.

    Raises:
        InputError: the step or the tolerance is outside its range.
    """
    if not 0.01 <= step <= 0.5:
        msg = f"step is {step}; it must lie between 0.01 and 0.5."
        raise InputError(msg)
    if not 0 < tolerance < TARGET - 1:
        msg = f"tolerance is {tolerance}; it must be above 0 and below {TARGET - 1:g}"
        raise InputError(msg)

    def values(most: float) -> list[float]:
        # Rounded, because 1 + 4 * 0.05 is not 1.2.
        return [round(1 + index * step, 10) for index in range(int((most - 1) / step + 1e-9) + 1)]

    most = TARGET + tolerance
    triples = (
        Coefficients(alpha, beta, gamma)
        for alpha in values(most)
        for beta in values(math.sqrt(most))
        for gamma in values(math.sqrt(most))
    )
    return [triple for triple in triples if abs(triple.cost - TARGET) <= tolerance + 1e-9]


def grid(
    step: float = 0.05,
    tolerance: float = 0.1,
    *,
    rounding: Rounding = "nearest",
    score: Score | None = None,
    progress: bool = False,
) -> list[Candidate]:
    """Search the grid: count what every admissible triple costs, and put the best first.

    Args:
        step: distance of neighbouring values of each coefficient.
        tolerance: largest distance of α·β²·γ² from 2.
        rounding: rounding of blocks and multipliers, as in `Coefficients.at`.
        score: returns the score of a triple, such as the top-1 of the network `scaling.scaled_name(1, coefficients)`
            that the reader trained, or None if it has no score; by default the score is `evenness`.
        progress: whether to show a bar on a terminal.

    Returns:
        The candidates, best first, those without a score last.

    Raises:
        InputError: the step or the tolerance is outside its range, or nothing is admissible.
    """
    from tqdm import tqdm

    triples = admissible(step, tolerance)
    if not triples:
        msg = f"no triple on a grid of {step} has α·β²·γ² within {tolerance} of 2; give a smaller step."
        raise InputError(msg)
    counted = _Counter()
    base = counted.cost(PAPER.at(0, rounding)).macs
    bar = tqdm(triples, desc="grid search", unit="triple", leave=False, disable=None if progress else True)
    candidates = []
    for triple in bar:
        point = triple.at(1, rounding)
        cost = counted.cost(point)
        candidates.append(Candidate(triple, point.resolution, cost, cost.macs / base, (score or evenness)(triple)))
    return sorted(candidates, key=lambda each: -math.inf if each.score is None else each.score, reverse=True)


def leading(candidates: Sequence[Candidate], part: float = 0.1) -> list[Candidate]:
    """The best tenth of the scored candidates, or another part: the region that a search can recommend."""
    scored = [each for each in candidates if each.score is not None]
    return scored[: max(1, math.ceil(part * len(scored)))]


def find(candidates: Sequence[Candidate], coefficients: Coefficients = PAPER) -> int | None:
    """The place of a triple in the list, from 0; None if it is not on the grid."""
    wanted = _values(coefficients)
    for index, each in enumerate(candidates):
        if all(math.isclose(a, b) for a, b in zip(_values(each.coefficients), wanted, strict=True)):
            return index
    return None


def read_scores(path: str | Path) -> Score:
    """Read scores from a CSV file with the columns alpha, beta, gamma and score, as `write_csv` writes it.

    Raises:
        InputError: the file cannot be read, lacks a column, holds no score, or holds something that is no number.
    """
    names = ("alpha", "beta", "gamma", "score")
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot read the scores '{path}': {reason}. Give the CSV file that `--search` wrote."
        raise InputError(msg) from error
    missing = [name for name in names if not lines or lines[0].get(name) is None]
    if missing:
        msg = f"the scores '{path}' lack the column {missing[0]}; needed are {', '.join(names)}"
        raise InputError(msg)
    scores: dict[tuple[float, ...], float] = {}
    for number, line in enumerate(lines, start=2):
        if not (line["score"] or "").strip():
            continue
        try:
            alpha, beta, gamma, score = (float(line[name]) for name in names)
        except (TypeError, ValueError) as error:
            msg = f"line {number} of the scores '{path}' holds something that is no number. Correct it."
            raise InputError(msg) from error
        if not math.isfinite(score):
            msg = f"line {number} of the scores '{path}' has the score {score}; it must be a finite number."
            raise InputError(msg)
        scores[_key(alpha, beta, gamma)] = score
    if not scores:
        msg = f"the scores '{path}' hold no score; fill in the column score. Give it a number in each line."
        raise InputError(msg)
    return lambda coefficients: scores.get(_key(*_values(coefficients)))


def write_csv(path: str | Path, candidates: Sequence[Candidate], *, scored: bool) -> None:
    """Write the candidates; without own scores the column score is left empty, to be filled in for `read_scores`."""
    header = ("alpha", "beta", "gamma", "cost", "growth", "macs", "parameters", "image_size", "evenness", "score")
    lines = [
        [
            *_values(each.coefficients),
            f"{each.coefficients.cost:.4f}",
            f"{each.growth:.4f}",
            each.cost.macs,
            each.cost.parameters,
            each.image_size,
            f"{evenness(each.coefficients):.4f}",
            each.score if scored and each.score is not None else "",
        ]
        for each in candidates
    ]
    write_text(path, comma_separated(header, lines))


class _Counter:
    """Counts each network only once, because many triples are rounded to the same blocks."""

    def __init__(self) -> None:
        self._networks: dict[tuple[int, ...], torch.nn.Module] = {}
        self._costs: dict[tuple[int, ...], Cost] = {}

    def cost(self, point: Point) -> Cost:
        ends = (round_channels(BASE_STEM, point.width), round_channels(BASE_HEAD, point.width))
        blocks = (*ends, *point.channels, *point.repeats)
        key = (*blocks, point.resolution)
        if key not in self._costs:
            if blocks not in self._networks:
                with torch.device("meta"):
                    self._networks[blocks] = networks.create_classifier(point)
            self._costs[key] = count(self._networks[blocks], (point.resolution, point.resolution))
        return self._costs[key]


def _values(coefficients: Coefficients) -> tuple[float, float, float]:
    return coefficients.alpha, coefficients.beta, coefficients.gamma


def _key(alpha: float, beta: float, gamma: float) -> tuple[float, ...]:
    return round(alpha, 6), round(beta, 6), round(gamma, 6)
