"""The faults of images alone, whatever their labels: of their files, of their names, and of copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.checking.findings import Finding
from engine.checking.image_files import ImageFacts
from engine.checking.names import name_findings
from engine.checking.twins import find_twins, twin_findings


def image_findings(
    paths: Sequence[Path], splits: Sequence[str], facts: Sequence[ImageFacts], group: str | None = None
) -> Iterator[Finding]:
    """All that is wrong with images; a file that is in several splits is told once.

    Args:
        paths: the files.
        splits: the split of each.
        facts: the facts of each.
        group: a regular expression; images whose names match it alike belong together.

    Raises:
        InputError: `group` is no regular expression.
    """
    yield from dict.fromkeys(found for fact in facts for found in fact.findings)
    yield from name_findings(paths, splits, group)
    yield from twin_findings([str(path) for path in paths], splits, list(find_twins(splits, facts)))
