"""The splits of a data module that can be used, and the rows of label files that cannot, as findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from engine.annotations.files import BrokenRow
from engine.checking.findings import Finding
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError

Source = TypeVar("Source")


@runtime_checkable
class NamesRows(Protocol):
    """Data of label files whose rows that cannot be read are named, where they are asked to.

    Attributes:
        broken: where these are noted; None, as for a training, ends the reading at the first.
    """

    broken: list[BrokenRow] | None


def name_rows(data: object) -> None:
    """Let a data module name the rows that cannot be read, before it reads its label files."""
    if isinstance(data, NamesRows):
        data.broken = []


def rows_of(data: object) -> list[Finding]:
    """The rows that a data module has named, each once."""
    return row_findings(data.broken or []) if isinstance(data, NamesRows) else []


def row_findings(broken: Sequence[BrokenRow]) -> list[Finding]:
    """A finding for each row that cannot be read."""
    return [Finding("label.broken", "error", row.file, row.fault) for row in dict.fromkeys(broken)]


def left_out(findings: Sequence[Finding]) -> list[str]:
    """What a cleaned copy lacks for rows that cannot be read, in a line if there are any."""
    count = sum(found.name == "label.broken" for found in findings)
    return [f"  {count:,} rows of labels that cannot be read were left out"] if count else []


def sources_by_split(
    has: Callable[[SplitName], bool], source_of: Callable[[SplitName], Source], splits: Sequence[SplitName] = SPLITS
) -> tuple[dict[str, Source], list[Finding], InputError | None]:
    """What each split holds that was given, findings of splits that cannot be used, and the first such error.

    Args:
        has: whether a split was given.
        source_of: its images and labels.
        splits: the splits that are looked at.
    """
    sources: dict[str, Source] = {}
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


def apart_from_each_other(
    sources: Mapping[str, Source], files_of: Callable[[Source], object]
) -> tuple[dict[str, Source], list[Finding]]:
    """The splits without those that are another one again, and a finding for each that is train again.

    Args:
        sources: the splits.
        files_of: the files of one, which are compared.
    """
    kept: dict[str, Source] = {}
    findings = []
    files: dict[str, object] = {}
    for split, source in sources.items():
        own = files_of(source)
        again = next((other for other, known in files.items() if known == own), None)
        if again is None:
            kept[split], files[split] = source, own
        elif again == "train":  # a test on the images of val is usual
            findings.append(Finding("split.same", "error", split, f"has the very files of {again}"))
    return kept, findings
