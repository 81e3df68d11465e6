"""Which groups of layers stay in float so that a file in int8 loses no more accuracy than it may."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deployment.precision.layers import Group, in_float
from engine.errors import InputError

Scores = Mapping[str, float]  # by the metric's name, such as `AP`


class Int8(Protocol):
    """A float file that can be written in int8, whole or in parts."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups of layers, from the image on."""

    def write(self, path: Path, floats: Collection[str]) -> None:
        """Write the file in int8.

        Args:
            path: the file.
            floats: names of the operations that stay in float.
        """

    def deviations(self, many: Sequence[Collection[str]]) -> list[float]:
        """How far int8 moves the results of the last layers on some pictures, as a share of their root mean square.

        Args:
            many: for each result, names of the operations that stay in float.
        """


@dataclass(frozen=True)
class Kept:
    """A group of layers that stays in float.

    Attributes:
        group: its name.
        deviation: of the last layers' results, when this group alone is int8.
        loss_without: the loss with this group, too, in int8 and the others of the report in float.
        layers: the deviation when this layer alone is int8, by its name; the largest first.
    """

    group: str
    deviation: float
    loss_without: float
    layers: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """What a smaller number type costs in accuracy, and what stays in float because of it.

    Attributes:
        precision: the number type.
        bound: the largest loss allowed.
        float32: scores of the float file.
        whole: scores of the file in which every group of layers has the smaller type.
        scores: scores of the file that is written.
        groups: how many groups there are.
        kept: those that stay in float; the ones that move the results most come first.
        deviations: of the last layers' results when one group alone is int8, by its name; empty where none had to stay.
    """

    precision: str
    bound: float
    float32: Scores
    whole: Scores
    scores: Scores
    groups: int = 0
    kept: tuple[Kept, ...] = ()
    deviations: Mapping[str, float] = field(default_factory=dict)

    def loss_of(self, scores: Scores) -> float:
        """The largest loss of a score."""
        return loss_of(self.float32, scores)


def loss_of(float32: Scores, scores: Scores) -> float:
    """The largest loss of a score."""
    return max(value - scores[name] for name, value in float32.items())


def guarded(
    source: Int8,
    float32: Scores,
    measure: Callable[[Path], Scores],
    path: Path,
    bound: float,
    tell: Callable[[str], None],
) -> Report:
    """Write a file in int8 that loses no more than allowed.

    If all of it in int8 loses more, every group is tried alone, on some pictures: how far it moves the results of the
    last layers. In that order the groups go back to float, one at a time, and the file is measured each time, until the
    bound holds. Then each of them is measured once more in int8, and stays so where the bound holds without it.

    Args:
        source: the float file.
        float32: its scores.
        measure: returns the scores of a file.
        path: the file to write.
        bound: the largest loss allowed, such as 0.01.
        tell: takes a line about what happens.

    Raises:
        InputError: the bound does not hold with half of the groups in float.
    """
    groups = {group.name: group for group in source.groups}
    tried: dict[frozenset[str], Scores] = {}

    def scores(kept: Collection[str]) -> Scores:
        wanted = frozenset(kept)
        if wanted not in tried:
            source.write(path, in_float(source.groups, wanted))
            tried[wanted] = measure(path)
        return tried[wanted]

    def loss(kept: Collection[str]) -> float:
        return loss_of(float32, scores(kept))

    found = loss(())
    tell(f"all int8: {in_words(scores(()))}; loss {found:.4f}, {bound:g} is allowed")
    if found <= bound:
        return Report("int8", bound, float32, scores(()), scores(()), len(groups))

    deviations = _alone(source, groups)
    order = sorted(deviations, key=lambda name: -deviations[name])
    kept: list[str] = []
    while found > bound:
        if len(kept) >= max(1, len(order) // 2):
            msg = (
                f"int8 loses {found:.4f} with {len(kept)} of {len(order)} groups of layers in float; {bound:g} is "
                "allowed. Nothing is written. Give more pictures for calibration, or a larger --bound."
            )
            raise InputError(msg)
        kept.append(order[len(kept)])
        found = loss(kept)
        tell(f"{kept[-1]} in float: loss {found:.4f}")
    for name in kept[:-1]:
        without = [other for other in kept if other != name]
        if (less := loss(without)) <= bound:
            kept = without
            tell(f"{name} in int8 again: loss {less:.4f}")
    entries = tuple(
        Kept(name, deviations[name], loss([other for other in kept if other != name]), _layers(source, groups[name]))
        for name in kept
    )
    source.write(path, in_float(source.groups, kept))
    return Report("int8", bound, float32, scores(()), scores(kept), len(groups), entries, deviations)


def in_words(scores: Scores) -> str:
    """Scores as text."""
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _alone(source: Int8, groups: Mapping[str, Group]) -> dict[str, float]:
    every = in_float(source.groups, groups)
    found = source.deviations([every - group.operations for group in groups.values()])
    return dict(zip(groups, found, strict=True))


def _layers(source: Int8, group: Group) -> dict[str, float]:
    every = in_float(source.groups, [each.name for each in source.groups])
    found = source.deviations([every - frozenset(layer.operations) for layer in group.layers])
    names = [layer.name for layer in group.layers]
    return dict(sorted(zip(names, found, strict=True), key=lambda entry: -entry[1]))
