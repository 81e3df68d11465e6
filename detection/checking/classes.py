"""What is wrong with the classes of a set: lists that differ between splits, and classes that are rare or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from detection.data.boxes import BoxSource, Ints
from engine.checking.findings import Finding
from engine.names import plain_name, shown_names

RARE = 100.0  # the most frequent class has so many times the objects of a rare one
FEW = 10  # objects of a class, below which nothing is learned
DOMINANT = 0.8  # share of all objects that one class has
SHIFTED = 0.1  # difference of a class's share between splits
_ENOUGH = 50  # objects of a split whose shares mean something


def class_findings(splits: Mapping[str, BoxSource]) -> Iterator[Finding]:
    """The faults of classes; splits are compared with the first, which is that of training if there is one."""
    first = next(iter(splits))
    trained = _counts(splits[first])
    for split, source in splits.items():
        yield from _list(split, source)
        counts = _counts(source)
        if split != first:
            yield from _lists_differ(split, source, first, splits[first])
            yield from _not_trained(split, counts, first, trained)
        yield from _balance(split, counts, training=split == first)


def _counts(source: BoxSource) -> dict[str, int]:
    """Objects of each class; rows without a name are gaps of a list by ids."""
    counts: Ints = np.bincount(source.class_ids[~source.crowd], minlength=len(source.classes.names))
    return {name: int(count) for name, count in zip(source.classes.names, counts, strict=True) if name}


def _list(split: str, source: BoxSource) -> Iterator[Finding]:
    alike: dict[str, list[str]] = {}
    for name in source.classes.names:
        if name:
            alike.setdefault(plain_name(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield Finding("class.twice", "warning", split, f"{shown_names(names)} are spelled nearly alike")


def _lists_differ(split: str, source: BoxSource, first: str, other: BoxSource) -> Iterator[Finding]:
    ids = dict(zip(source.classes.names, source.classes.category_ids, strict=True))
    others = dict(zip(other.classes.names, other.classes.category_ids, strict=True))
    unknown = [name for name in ids if name and name not in others]
    missing = [name for name in others if name and name not in ids]
    moved = [name for name in ids if name and name in others and others[name] != ids[name]]
    if unknown:
        yield Finding("class.unknown", "error", split, f"{first} has no class {shown_names(unknown)}")
    if missing:
        yield Finding("class.missing", "warning", split, f"its list lacks {shown_names(missing)} of {first}")
    if moved:
        yield Finding("class.ids", "warning", split, f"{shown_names(moved)} have other ids than in {first}")


def _not_trained(split: str, counts: Mapping[str, int], first: str, trained: Mapping[str, int]) -> Iterator[Finding]:
    absent = [name for name, count in counts.items() if count and trained.get(name) == 0]
    if absent:
        yield Finding("class.not_trained", "warning", split, f"{first} has no object of {shown_names(absent)}")
    total, others = sum(counts.values()), sum(trained.values())
    if min(total, others) < _ENOUGH:
        return
    shifted = [
        f"'{name}' {trained[name] / others:.0%} and {count / total:.0%}"
        for name, count in counts.items()
        if name in trained and abs(count / total - trained[name] / others) > SHIFTED
    ]
    if shifted:
        yield Finding("class.shifted", "note", split, f"shares of objects in {first} and here: {', '.join(shifted)}")


def _balance(split: str, counts: Mapping[str, int], *, training: bool) -> Iterator[Finding]:
    total, most = sum(counts.values()), max(counts.values(), default=0)
    for name, count in counts.items():
        if count == 0:
            yield Finding("class.unused", "warning", split, f"'{name}' has no object")
        elif most >= RARE * count:
            yield Finding("class.rare", "warning", split, f"'{name}' has {count:,} objects of {total:,}")
        elif training and count < FEW:
            yield Finding("class.few", "note", split, f"'{name}' has {_objects(count)}")
    used: Sequence[int] = [count for count in counts.values() if count]
    if len(used) > 1 and total >= _ENOUGH and most > DOMINANT * total:
        name = max(counts, key=counts.__getitem__)
        yield Finding("class.dominant", "note", split, f"'{name}' has {most / total:.0%} of {total:,} objects")


def _objects(count: int) -> str:
    return f"{count} object{'s' * (count != 1)}"
