"""What the check asks of a data module with masks, and the splits of one that can be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from engine.checking.findings import Finding
from engine.data.contracts import SPLITS, SplitName
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


def usable_sources(data: MaskData) -> tuple[dict[str, PairedSource], list[Finding]]:
    """The pairs of each split, and a finding for each split that cannot be used or that is another one again.

    Raises:
        InputError: no split was given, or none can be used.
    """
    # What has no mask is left out, so that it is named and the rest is looked at.
    sources, findings, first = sources_by_split(data.has, lambda split: data.files(split, leave_out=True))
    if not sources:
        msg = "no split was given. Give --data.folder.train_images and train_masks, or --data.root of Cityscapes."
        raise first or InputError(msg)
    return sources, findings


def sources_by_split(
    has: Callable[[SplitName], bool],
    files_of: Callable[[SplitName], PairedSource],
    splits: Sequence[SplitName] = SPLITS,
) -> tuple[dict[str, PairedSource], list[Finding], InputError | None]:
    """The pairs of each split that was given, findings of splits that cannot be used, and the first such error.

    Args:
        has: whether a split was given.
        files_of: its images and masks.
        splits: the splits that are looked at.
    """
    sources: dict[str, PairedSource] = {}
    findings: list[Finding] = []
    first: InputError | None = None
    for split in splits:
        if not has(split):
            continue
        try:
            files = files_of(split)
        except InputError as error:
            first = first or error
            findings.append(Finding("split.unusable", "error", split, str(error)))
            continue
        again = next((other for other, known in sources.items() if known.pairs == files.pairs), None)
        if again is None:
            sources[split] = files
        elif again == "train":  # a test on the images of val is usual
            findings.append(Finding("split.same", "error", split, f"has the very files of {again}"))
    return sources, findings, first
