"""What a training says of its masks before it begins: the pairs, and a few masks of each split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import nn

from engine.checking.findings import CheckReport, Finding
from engine.checking.given import sources_by_split
from engine.checking.names import name_findings
from engine.data.contracts import OF_TRAINING
from engine.errors import InputError
from engine.reading.images import image_size, opened
from segmentation.checking.given import MaskData, apart
from segmentation.checking.mask_files import read_mask_facts
from segmentation.checking.splits import PairedSource, pair_findings

HEADERS = 64  # pairs of a split whose sizes are compared
READ = 12  # of them those whose masks are read; a mask of a street takes some hundredths of a second


def quick_check(data: object, network: nn.Module | None = None) -> CheckReport | None:
    """The faults of the masks of a data module that a few files tell; None for one of another kind.

    Args:
        data: the data module.
        network: the segmenter that is trained, which does not matter.
    """
    if not isinstance(data, MaskData):
        return None
    sources, unusable, _ = sources_by_split(data.has, lambda split: data.files(split, leave_out=True), OF_TRAINING)
    if not sources:
        return None
    own, same = apart(sources)
    return quick_look(own, [*unusable, *same])


def quick_look(sources: Mapping[str, PairedSource], before: list[Finding]) -> CheckReport:
    """The same of splits that have been found.

    Args:
        sources: images and masks by the name of the split.
        before: findings of the search.
    """
    findings = list(before)
    for split, files in sources.items():
        findings += [*pair_findings(split, files), *_of_some(files)]
    paths = [pair.image for files in sources.values() for pair in files.pairs]
    owners = [split for split, files in sources.items() for _ in files.pairs]
    findings += name_findings(paths, owners)
    looked = sum(min(READ, len(files.pairs)) for files in sources.values())
    return CheckReport(f"pairs of {len(paths):,} images, and {looked} of their masks", tuple(findings))


def _of_some(files: PairedSource) -> Iterator[Finding]:
    step = max(1, math.ceil(len(files.pairs) / HEADERS))
    some = files.pairs[::step]
    for pair in some:
        try:
            high, wide = image_size(pair.image)
            with opened(pair.mask, "mask") as mask:
                width, height = mask.size
            with opened(pair.image) as image:
                stored = image.size
        except InputError:
            continue  # a raster, or a file that the training itself will name
        if (width, height) not in ((wide, high), stored):
            detail = f"is {width} x {height}, its image {wide} x {high} (width x height)"
            yield Finding("mask.size", "error", str(pair.mask), detail)
    for pair in some[:: max(1, math.ceil(len(some) / READ))]:
        yield from read_mask_facts(pair.mask, files).findings
