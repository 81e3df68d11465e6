"""What the check asks of a data module with boxes, and the splits of one that can be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from detection.checking.read_set import paths_of
from detection.data.boxes import BoxSource
from engine.checking.findings import Finding
from engine.checking.given import apart_from_each_other, name_rows, rows_of, sources_by_split
from engine.data.contracts import SplitName
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


def apart(sources: Mapping[str, BoxSource]) -> tuple[dict[str, BoxSource], list[Finding]]:
    """The splits without those that are another one again, and a finding for each that is train again."""
    return apart_from_each_other(sources, paths_of)


def sources_of(data: BoxData) -> tuple[dict[str, BoxSource], list[Finding]]:
    """The splits of a data module, and findings: rows that cannot be read, and splits that cannot be used.

    Raises:
        InputError: no split was given, or none can be used.
    """
    name_rows(data)
    sources, unusable, first = sources_by_split(data.has, data.box_source)
    if not sources:
        msg = "no split was given. Give --data.root of a set, or --data.train_images and --data.train_annotations."
        raise first or InputError(msg)
    return sources, [*rows_of(data), *unusable]
