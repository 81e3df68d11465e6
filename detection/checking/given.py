"""What the check asks of a data module with boxes, and the splits of one that can be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from detection.checking.read_set import paths_of
from detection.data.boxes import BoxSource
from engine.checking.findings import Finding
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError
from engine.reading.reader import PixelReader


@runtime_checkable
class BoxData(Protocol):
    """What the check asks of a data module with boxes."""

    image_size: int | tuple[int, int] | None

    @property
    def reader(self) -> PixelReader:
        """Reads the images."""
        ...

    def has(self, split: SplitName) -> bool:
        """Whether a split was given."""
        ...

    def box_source(self, split: SplitName) -> BoxSource:
        """Its images and boxes."""
        ...


def apart_from_each_other(sources: Mapping[str, BoxSource]) -> tuple[dict[str, BoxSource], list[Finding]]:
    """The splits without those that are another one again, and a finding for each of those."""
    kept: dict[str, BoxSource] = {}
    findings = []
    files: dict[str, list[Path]] = {}
    for split, source in sources.items():
        own = paths_of(source)
        again = next((other for other, known in files.items() if known == own), None)
        if again is None:
            kept[split], files[split] = source, own
        elif again == "train":  # a test on the images of val is usual
            findings.append(Finding("split.same", "error", split, f"has the very files of {again}"))
    return kept, findings


def sources_of(data: BoxData) -> tuple[dict[str, BoxSource], list[Finding]]:
    """The splits of a data module, and a finding for each that cannot be used.

    Raises:
        InputError: no split was given, or none can be used.
    """
    sources, findings, first = sources_by_split(data.has, data.box_source)
    if not sources:
        msg = "no split was given. Give --data.root of a set, or --data.train_images and --data.train_annotations."
        raise first or InputError(msg)
    return sources, findings


def sources_by_split(
    has: Callable[[SplitName], bool], source_of: Callable[[SplitName], BoxSource], splits: Sequence[SplitName] = SPLITS
) -> tuple[dict[str, BoxSource], list[Finding], InputError | None]:
    """The boxes of each split that was given, findings of splits that cannot be used, and the first such error.

    Args:
        has: whether a split was given.
        source_of: its images and boxes.
        splits: the splits that are looked at.
    """
    sources: dict[str, BoxSource] = {}
    findings = []
    first: InputError | None = None
    for split in splits:
        if not has(split):
            continue
        try:
            sources[split] = source_of(split)
        except InputError as error:
            first = first or error
            findings.append(Finding("split.unusable", "error", split, str(error)))
    return sources, findings, first
