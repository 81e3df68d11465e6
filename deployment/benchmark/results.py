"""From rounds to figures: a row for each candidate, the Pareto front, and which one to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deployment.benchmark.candidates import Candidate
from deployment.benchmark.rounds import Measured
from deployment.benchmark.stages import Stages

CLOSE = 0.01  # of AP, mIoU or top-1: a difference that hardly ever decides


@dataclass(frozen=True)
class Row:
    """The figures of a candidate. Times are in milliseconds of a whole batch.

    Attributes:
        candidate: the candidate.
        parameters: trainable values of the network; None where its file does not say enough.
        macs: multiply-accumulates of one image.
        file_bytes: of the file or checkpoint; None for an untrained network in PyTorch.
        scores: AP, mIoU or both, top-1 or mAP, where data is given.
        stages_ms: median of each stage.
        median_ms: from files to answers.
        p95_ms: 95 of 100 runs take no longer.
        minimum_ms: the fastest run.
        network_minimum_ms: the fastest run of the network's stage.
        runs: counted runs.
        peak_mib: the largest resident memory of its process.
        own_mib: what it added to a process with PyTorch loaded.
        load_ms: until it is opened.
        first_ms: the first run.
    """

    candidate: Candidate
    parameters: int | None
    macs: int | None
    file_bytes: int | None
    scores: Mapping[str, float]
    stages_ms: Stages
    median_ms: float
    p95_ms: float
    minimum_ms: float
    network_minimum_ms: float
    runs: int
    peak_mib: float
    own_mib: float
    load_ms: float | None
    first_ms: float | None

    @property
    def images_per_second(self) -> float:
        """Throughput: images of a batch by its median time."""
        return 1000 * self.candidate.batch / self.median_ms

    @property
    def ms_per_image(self) -> float:
        """Median time by the images of a batch."""
        return self.median_ms / self.candidate.batch

    @property
    def accuracy(self) -> float | None:
        """AP, mIoU or top-1, of a joint network the mean of those that were measured; None where none was."""
        known = [value for value in self.scores.values() if not math.isnan(value) and value >= 0]
        return sum(known) / len(known) if known else None

    @property
    def worth(self) -> float | None:
        """What the front weighs against time: accuracy where it was measured, or else multiply-accumulates."""
        return self.accuracy if self.scores else self.macs


def row_of(
    candidate: Candidate,
    measured: Measured,
    *,
    parameters: int | None,
    macs: int | None,
    file_bytes: int | None,
    scores: Mapping[str, float],
) -> Row:
    """The figures of a candidate that ran at least once."""
    seconds = 1000 * np.array(measured.runs)
    totals = seconds.sum(1)
    return Row(
        candidate,
        parameters,
        macs,
        file_bytes,
        scores,
        Stages(*np.median(seconds, axis=0).tolist()),
        float(np.median(totals)),
        float(np.quantile(totals, 0.95)),
        float(totals.min()),
        float(seconds[:, 2].min()),
        len(seconds),
        measured.peak_mib,
        measured.peak_mib - measured.before_mib,
        None if measured.load_s is None else 1000 * measured.load_s,
        None if measured.first_s is None else 1000 * measured.first_s,
    )


def by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each task: figures of different tasks are not compared."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.candidate.subject.task, []).append(row)
    return groups


def front(rows: Sequence[Row]) -> list[Row]:
    """The Pareto front, fastest first: rows of which none other is at least as fast and worth at least as much.

    Rows whose worth is not known are left out. Of equal ones the first is taken.
    """
    known = [
        (row.ms_per_image, -worth, place, row) for place, row in enumerate(rows) if (worth := row.worth) is not None
    ]
    best = math.inf
    found = []
    for _, less, _, row in sorted(known, key=lambda entry: entry[:3]):
        if less < best:
            best = less
            found.append(row)
    return found


def advice(rows: Sequence[Row]) -> str:
    """Which one to take, and why: a sentence for each task, which begins with its name where there are several."""
    groups = by_task(rows)
    return "\n".join(
        f"{task}: {_advice(group)}" if len(groups) > 1 else _advice(group) for task, group in groups.items()
    )


def _advice(rows: Sequence[Row]) -> str:
    scored = [(accuracy, row) for row in rows if (accuracy := row.accuracy) is not None]
    if not scored:
        return _of_speed(rows)
    best, most = max(scored, key=lambda entry: (entry[0], -entry[1].ms_per_image))
    near = [(row.ms_per_image, accuracy, row) for accuracy, row in scored if accuracy >= best - CLOSE]
    _, accuracy, chosen = min(near, key=lambda entry: entry[0])
    about = f"Take {_called(chosen)}, because with {_ms(chosen)} an image and {_scores(chosen)}"
    if chosen is most:
        cheaper = [row for _, row in scored if row.ms_per_image < chosen.ms_per_image]
        if not cheaper:
            return f"{about} it is both the most accurate and the fastest."
        fastest = min(cheaper, key=lambda row: row.ms_per_image)
        return f"{about} it is the most accurate; what is faster, such as {_called(fastest)} with {_ms(fastest)}, " \
               f"has only {_scores(fastest)}."  # fmt: skip
    less = f"it lacks {best - accuracy:.3f}" if accuracy < best else "it lacks nothing"
    return f"{about} {less} of the most accurate, {_called(most)}, and takes {_ratio(chosen, most)} of its time."


def _of_speed(rows: Sequence[Row]) -> str:
    """Without accuracy, networks cannot be compared, but runtimes can, in the number type that changes no answer."""
    exact = [row for row in rows if row.candidate.precision == "float32"] or list(rows)
    networks: dict[tuple[str, tuple[int, int], int, int], list[Row]] = {}
    for row in exact:
        each = row.candidate
        networks.setdefault((each.subject.name, each.size_hw, each.batch, each.threads), []).append(row)
    note = "no accuracy was measured: give --annotations, --masks or --labels"
    if len(networks) == 1:
        ordered = sorted(exact, key=lambda row: row.ms_per_image)
        chosen = ordered[0]
        if len(ordered) == 1:
            return f"Take {_called(chosen)}, because nothing else was measured; {note}."
        second = f"{_called(ordered[1])} takes {_ratio(ordered[1], chosen)} of its time"
        return f"Take {_called(chosen)}, because it is the fastest with {_ms(chosen)} an image, and {second}; {note}."
    wins: dict[str, int] = {}
    for group in networks.values():
        quickest = min(group, key=lambda row: row.ms_per_image)
        wins[quickest.candidate.runtime] = wins.get(quickest.candidate.runtime, 0) + 1
    runtime = max(wins, key=lambda name: wins[name])
    if len({row.candidate.runtime for row in exact}) == 1:
        chosen = min(exact, key=lambda row: row.ms_per_image)
        why = f"it is the fastest with {_ms(chosen)} an image"
        return f"Take {_called(chosen)} if speed alone counts, because {why}; {note}."
    return (
        f"Take {runtime}, because it is the fastest for {wins[runtime]} of {len(networks)} networks and sizes; which "
        f"network is another question, as {note}."
    )


def _called(row: Row) -> str:
    threads = row.candidate.threads
    return f"{row.candidate.label} on {threads} thread{'s' * (threads > 1)}"


def _ms(row: Row) -> str:
    return f"{row.ms_per_image:.3g} ms"


def _ratio(row: Row, other: Row) -> str:
    return f"{row.ms_per_image / other.ms_per_image:.2f}"


def _scores(row: Row) -> str:
    return " and ".join(f"{name} {value:.3f}" for name, value in row.scores.items())
