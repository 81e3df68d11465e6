"""Rounds in which every candidate has a turn, kept as they end, so that an interrupted measurement goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path

from deployment.benchmark.candidates import Candidate
from deployment.benchmark.stages import Stages
from deployment.benchmark.worker import Order, Worker
from engine.errors import InputError
from engine.hardware.machine import available_mib
from engine.outputs import make_folder, write_json
from engine.prediction.manifest import Manifest

JOURNAL, SETTINGS = "rounds.jsonl", "settings.json"
MOST_ALIVE = 16  # processes that wait for their turn
_LEAST_FREE_MIB = 2048.0  # memory that a further process should find


@dataclass
class Measured:
    """What is known of a candidate.

    Attributes:
        runs: every counted run.
        rounds: the numbers of its rounds.
        load_s: seconds until it was opened, the least.
        first_s: seconds of the first run, the least.
        peak_mib: the largest resident memory of its process.
        before_mib: that before it was opened.
    """

    runs: list[Stages] = field(default_factory=list)
    rounds: set[int] = field(default_factory=set)
    load_s: float | None = None
    first_s: float | None = None
    peak_mib: float = 0.0
    before_mib: float = 0.0


class Journal:
    """What a folder knows already: rounds, and facts that are worth keeping.

    Args:
        folder: the output folder, which is made if it is missing.
        settings: plain values that decide what the figures are.
        overwrite: whether to start over.

    Raises:
        InputError: the folder cannot be written, or holds rounds of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], *, overwrite: bool = False) -> None:
        self.folder = make_folder(folder)
        self._manifest = Manifest(folder / JOURNAL)
        own = json.loads(json.dumps(settings))
        if overwrite:
            self._manifest.path.unlink(missing_ok=True)
        known = _read(folder / SETTINGS)
        if known is not None and self._manifest.path.exists():
            for name in [*own, *known]:
                if known.get(name) != own.get(name):
                    msg = (
                        f"'{folder}' holds rounds of another measurement: {name} was {_short(known.get(name))}, now "
                        f"{_short(own.get(name))}. Give another --output, or --overwrite true."
                    )
                    raise InputError(msg)
        write_json(folder / SETTINGS, own)

    def measured(self) -> dict[str, Measured]:
        """What the rounds so far say, by the candidates' keys."""
        found: dict[str, Measured] = {}
        for entry in self._manifest.entries():
            key, number, seconds = entry.get("key"), entry.get("round"), entry.get("seconds")
            if not isinstance(key, str) or not isinstance(number, int) or not isinstance(seconds, list):
                continue
            one = found.setdefault(key, Measured())
            if number in one.rounds:
                continue
            one.rounds.add(number)
            one.runs += [Stages(*run) for run in seconds]
            one.peak_mib = max(one.peak_mib, _number(entry, "peak_mib") or 0.0)
            one.before_mib = max(one.before_mib, _number(entry, "before_mib") or 0.0)
            one.load_s = _least(one.load_s, _number(entry, "load_s"))
            one.first_s = _least(one.first_s, _number(entry, "first_s"))
        return found

    def add(self, entry: Mapping[str, object]) -> None:
        """Keep a line."""
        self._manifest.add(entry)

    def kept(self, what: str, key: str, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Numbers that are computed once.

        Args:
            what: their kind.
            key: what they belong to.
            compute: gives them.
        """
        for entry in self._manifest.entries():
            numbers = entry.get(what)
            if entry.get("of") == key and isinstance(numbers, dict):
                return {name: float(value) for name, value in numbers.items()}
        numbers = compute()
        self.add({"of": key, what: numbers})
        return numbers


class Workers:
    """The processes of the candidates. As many stay alive as memory allows; the one that waits longest goes first."""

    def __init__(self) -> None:
        self._alive: dict[str, Worker] = {}
        self._largest = 0.0

    def of(self, order: Order) -> tuple[Worker, bool]:
        """The process of a candidate, and whether it is new.

        Raises:
            InputError: the candidate cannot be opened or computed.
        """
        key = order.candidate.key
        known = self._alive.pop(key, None)
        if known is None:
            while self._alive and not self._is_room():
                self._alive.pop(next(iter(self._alive))).stop()
        worker = known or Worker(order)
        self._alive[key] = worker  # now the last
        return worker, known is None

    def note(self, peak_mib: float) -> None:
        """Learn how much memory a process may take."""
        self._largest = max(self._largest, peak_mib)

    def drop(self, candidate: Candidate) -> None:
        """Forget a process that ended."""
        self._alive.pop(candidate.key, None)

    def stop(self) -> None:
        """End all of them."""
        while self._alive:
            self._alive.popitem()[1].stop()

    def _is_room(self) -> bool:
        free = available_mib()
        return len(self._alive) < MOST_ALIVE and (free is None or free > max(_LEAST_FREE_MIB, 1.5 * self._largest))


@contextmanager
def workers() -> Iterator[Workers]:
    """Processes that are ended at the end."""
    found = Workers()
    try:
        yield found
    finally:
        found.stop()


def run_rounds(
    orders: Sequence[Order],
    journal: Journal,
    pool: Workers,
    *,
    rounds: int,
    repeats: int,
    failures: dict[str, str],
    progress: bool = True,
) -> None:
    """Measure what is missing. Each round visits every candidate once, in an order of its own.

    Where there are more candidates than processes that may wait, they are measured in groups, one after the other; a
    network stays together with itself in all its runtimes.

    Args:
        orders: the candidates.
        journal: where each turn is kept as it ends.
        pool: their processes.
        rounds: rounds in all, those of earlier runs included.
        repeats: counted runs of a turn.
        failures: candidates that fail are added to it, with the reason, and left out from then on.
        progress: whether to show a bar on a terminal.
    """
    from tqdm import tqdm

    known = journal.measured()
    done = {order.candidate.key: known.get(order.candidate.key, Measured()).rounds for order in orders}
    missing = sum(len(set(range(rounds)) - numbers) for numbers in done.values())
    with tqdm(total=missing, desc="rounds", unit="turn", leave=False, disable=None if progress else True) as bar:
        for group, number in product(grouped(orders), range(rounds)):
            turn = [order for order in group if number not in done[order.candidate.key]]
            random.Random(number).shuffle(turn)
            for order in turn:
                if order.candidate.key not in failures:
                    _visit(order, number, journal, pool, repeats, failures)
                bar.update()


def grouped(orders: Sequence[Order], most: int = MOST_ALIVE) -> list[list[Order]]:
    """The orders in their sequence, in groups of at most `most`, or all of one network if it has more."""
    groups: list[list[Order]] = []
    for _, each in groupby(orders, key=lambda order: order.candidate.subject):
        same = list(each)
        if groups and len(groups[-1]) + len(same) <= most:
            groups[-1] += same
        else:
            groups.append(same)
    return groups


def _visit(order: Order, number: int, journal: Journal, pool: Workers, repeats: int, failures: dict[str, str]) -> None:
    candidate = order.candidate
    try:
        worker, is_new = pool.of(order)
        visit = worker.runs(repeats)
    except InputError as error:
        failures[candidate.key] = str(error)
        pool.drop(candidate)
        return
    pool.note(visit["peak_mib"])
    started = worker.started if is_new else {"before_mib": worker.started["before_mib"]}
    journal.add({"key": candidate.key, "round": number, **visit, **started})


def _read(path: Path) -> dict[str, object] | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _number(entry: Mapping[str, object], name: str) -> float | None:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) else None


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
