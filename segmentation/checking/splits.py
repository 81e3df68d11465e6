"""What is wrong with the masks of a split, and between splits, from the facts of its images and masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.checking.findings import Finding
from engine.checking.image_files import ImageFacts
from engine.names import plain_name, shown_names
from engine.reading.images import UInt8Array
from segmentation.checking.mask_files import MaskFacts, class_pixels
from segmentation.data.classes import MaskClasses
from segmentation.data.pairs import MaskSource

RARE = 0.0005  # share of the counted pixels, below which a class is hardly learned
DOMINANT = 0.98  # share of the counted pixels that one class has
SHIFTED = 0.1  # difference of a class's share between splits
REPEATED = 5  # images with the very same mask
_ENOUGH = 10  # masks of a split whose shares mean something


class PairedSource(MaskSource, Protocol):
    """A `MaskSource` that tells what it left out, and that can read masks with pixels of no class."""

    @property
    def unpaired(self) -> tuple[str, ...]:
        """Images without a mask."""
        ...

    @property
    def unused(self) -> tuple[Path, ...]:
        """Masks without an image."""
        ...

    def read_leniently(self, path: Path) -> UInt8Array:
        """As `read_mask`, with pixels of no class as pixels that are not counted."""
        ...


def pair_findings(split: str, files: PairedSource) -> Iterator[Finding]:
    """Images without a mask, masks without an image, and one list of classes for all."""
    for image in files.unpaired:
        detail = "has no mask" if Path(image).is_file() else "is listed and does not exist"
        yield Finding("mask.missing", "error", image, detail)
    for mask in files.unused:
        yield Finding("mask.without_image", "warning", str(mask), "has no image")
    alike: dict[str, list[str]] = defaultdict(list)
    for name in files.classes.names:
        alike[plain_name(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield Finding("class.twice", "warning", split, f"{shown_names(names)} are spelled nearly alike")


def mask_findings(
    split: str, files: MaskSource, images: Sequence[ImageFacts], masks: Sequence[MaskFacts]
) -> Iterator[Finding]:
    """The faults of a split's masks.

    Args:
        split: its name.
        files: its images and masks.
        images: facts of its images, in the order of the pairs.
        masks: facts of its masks.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)
    for place, (pair, image, mask) in enumerate(zip(files.pairs, images, masks, strict=True)):
        yield from mask.findings
        yield from _size(str(pair.mask), image, mask)
        if mask.digest is not None and mask.counts is not None and (mask.counts > 0).sum() > 1:
            alike[mask.digest].append(place)
    for places in alike.values():
        if len(places) >= REPEATED:
            for place in places[1:]:
                detail = f"is the very mask of {len(places) - 1:,} other images"
                twin = str(files.pairs[places[0]].mask)
                yield Finding("mask.repeated", "warning", str(files.pairs[place].mask), detail, twin=twin)
    yield from _values(split, files.classes, masks)


def _size(name: str, image: ImageFacts, mask: MaskFacts) -> Iterator[Finding]:
    if mask.size_hw is None or image.size_hw is None or mask.size_hw in (image.size_hw, image.stored_hw):
        return
    (height, width), (high, wide) = mask.size_hw, image.size_hw
    detail = f"is {width} x {height}, its image {wide} x {high} (width x height)"
    turned = mask.size_hw == (wide, high)
    yield Finding("mask.turned" if turned else "mask.size", "error", name, detail)


def _values(split: str, classes: MaskClasses, masks: Sequence[MaskFacts]) -> Iterator[Finding]:
    """Values that are shifted by one: the first class never occurs, and a value behind the last does in many masks."""
    pixels = class_pixels(masks, classes)
    strange = [found for mask in masks for found in mask.findings if found.name == "mask.values"]
    behind = max(classes.label_ids) + 1
    shifted = [found for found in strange if found.detail.startswith(f"has {behind} (")]
    if classes.label_ids == tuple(range(len(classes))) and shifted and pixels[0] == 0 and len(shifted) == len(strange):
        detail = (
            f"the values of its masks begin at 1 and end at {behind}, where the class list has 0 to {behind - 1}: give "
            f"label_ids {list(range(1, behind + 1))}"
        )
        yield Finding("masks.from_one", "error", split, detail)


def class_findings(splits: Mapping[str, MaskSource], masks: Mapping[str, Sequence[MaskFacts]]) -> Iterator[Finding]:
    """Classes that are absent or rare, or that differ between splits.

    Args:
        splits: images and masks by the name of the split; all are compared with the first.
        masks: facts of the masks of each.
    """
    first = next(iter(splits))
    shares: dict[str, np.ndarray] = {}
    for split, files in splits.items():
        pixels, names = class_pixels(masks[split], files.classes), files.classes.names
        total = int(pixels.sum())
        if not total:
            continue
        shares[split] = pixels / total
        for row, share in enumerate(shares[split].tolist()):
            if share == 0:
                yield Finding("class.absent", "warning", split, f"no pixel is '{names[row]}'")
            elif share < RARE and split == first:
                yield Finding("class.rare", "note", split, f"'{names[row]}' has {share:.4%} of the pixels")
        if shares[split].max() > DOMINANT and split == first and len(names) > 1:
            name = names[int(shares[split].argmax())]
            yield Finding("class.dominant", "note", split, f"'{name}' has {shares[split].max():.1%} of the pixels")
        if split != first and first in shares:
            yield from _between(split, names, shares[split], first, shares[first])
            enough = min(len(masks[split]), len(masks[first])) >= _ENOUGH
            if enough:
                yield from _shifted(split, names, shares[split], first, shares[first])


def _between(
    split: str, names: Sequence[str], shares: np.ndarray, first: str, trained: np.ndarray
) -> Iterator[Finding]:
    absent = [names[row] for row in np.flatnonzero((shares > 0) & (trained == 0)).tolist()]
    if absent:
        yield Finding("class.not_trained", "warning", split, f"{first} has no pixel of {shown_names(absent)}")


def _shifted(
    split: str, names: Sequence[str], shares: np.ndarray, first: str, trained: np.ndarray
) -> Iterator[Finding]:
    moved = np.flatnonzero(np.abs(shares - trained) > SHIFTED).tolist()
    if moved:
        listed = ", ".join(f"'{names[row]}' {trained[row]:.0%} and {shares[row]:.0%}" for row in moved)
        yield Finding("class.shifted", "note", split, f"shares of pixels in {first} and here: {listed}")


def conflicts(files: Sequence[tuple[Path, MaskFacts]], pairs: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Copies of one picture that have other masks.

    Args:
        files: the mask of each image, and its facts.
        pairs: two images of the same bytes.
    """
    for place, other in pairs:
        (path, mask), (twin, copy) = files[place], files[other]
        if mask.digest is not None and copy.digest is not None and mask.digest != copy.digest:
            detail = f"is another mask than {twin}, of a copy of the same image"
            yield Finding("label.conflict", "warning", str(path), detail, twin=str(twin))
