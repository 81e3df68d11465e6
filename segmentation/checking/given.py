"""What the check asks of a data module with masks, and the splits of one that can be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from engine.checking.findings import Finding
from engine.checking.given import apart_from_each_other, name_rows, rows_of, sources_by_split
from engine.data.contracts import SplitName
from engine.errors import InputError
from engine.reading.reader import PixelReader
from segmentation.checking.splits import PairedSource


@runtime_checkable
class MaskData(Protocol):
    """What the check asks of a data module with masks."""

    format: str

    @property
    def reader(self) -> PixelReader:
        """Reads the images."""
        ...

    def has(self, split: SplitName) -> bool:
        """Whether a split was given."""
        ...

    def files(self, split: SplitName, *, leave_out: bool | None = None) -> PairedSource:
        """Its images and masks."""
        ...


def apart(sources: Mapping[str, PairedSource]) -> tuple[dict[str, PairedSource], list[Finding]]:
    """The splits without those that are another one again, and a finding for each that is train again."""
    return apart_from_each_other(sources, lambda files: files.pairs)


def usable_sources(data: MaskData) -> tuple[dict[str, PairedSource], list[Finding]]:
    """The pairs of each split, and findings: broken rows of label files, and splits of no use or that are train again.

    Raises:
        InputError: no split was given, or none can be used.
    """
    name_rows(data)
    # What has no mask is left out, so that it is named and the rest is looked at.
    sources, unusable, first = sources_by_split(data.has, lambda split: data.files(split, leave_out=True))
    if not sources:
        msg = "no split was given. Give --data.folder.train_images and train_masks, or --data.root of Cityscapes."
        raise first or InputError(msg)
    own, same = apart(sources)
    return own, [*rows_of(data), *unusable, *same]
