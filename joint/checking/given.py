"""Boxes and masks of a joint data module, each file of them read once, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from detection.checking.boxes import frames_hw
from detection.checking.given import apart
from detection.checking.read_set import ReadBoxes, paths_of
from detection.data.boxes import BoxSource
from engine.checking.findings import Finding
from engine.checking.given import name_rows, rows_of, sources_by_split
from engine.checking.image_files import ImageFacts, read_all
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError
from engine.reading.reader import PixelReader
from segmentation.checking.given import apart as masks_apart
from segmentation.checking.read_set import ReadMasks
from segmentation.checking.splits import PairedSource


class MasksFormat(Protocol):
    """What is said of where the masks are."""

    @property
    def format(self) -> str:
        """Whether they are Cityscapes, any folders, or objects in label files."""
        ...


@runtime_checkable
class JointSets(Protocol):
    """What the check asks of a data module with boxes and masks."""

    format: str
    canvas_size: int | tuple[int, int] | None
    masks: MasksFormat

    @property
    def reader(self) -> PixelReader:
        """Reads the images."""
        ...

    def has_boxes(self, split: SplitName) -> bool:
        """Whether boxes were given for a split."""
        ...

    def has_masks(self, split: SplitName) -> bool:
        """Whether masks were given for a split."""
        ...

    def box_source(self, split: SplitName) -> BoxSource:
        """The images and boxes of a split."""
        ...

    def mask_source(self, split: SplitName, *, leave_out: bool | None = None) -> PairedSource:
        """The images and masks of a split."""
        ...


@dataclass(frozen=True)
class Given:
    """The splits of a joint data module.

    Attributes:
        boxes: images and boxes by the name of the split.
        masks: images and masks by the name of the split.
        findings: of splits that cannot be used, or that are others again.
        both: whether the images of a split are to have boxes and masks.
    """

    boxes: Mapping[str, BoxSource]
    masks: Mapping[str, PairedSource]
    findings: tuple[Finding, ...]
    both: bool

    @classmethod
    def of(cls, data: JointSets, splits: Sequence[SplitName] = SPLITS, *, name_broken: bool = False) -> Given:
        """Find the splits.

        Args:
            data: the data module.
            splits: the splits that are looked at.
            name_broken: whether rows that cannot be read are named, and the rest is looked at.

        Raises:
            InputError: no split was given, or none can be used.
        """
        if name_broken:
            name_rows(data)
        boxes, unusable, no_boxes = sources_by_split(data.has_boxes, data.box_source, splits)
        masks, broken, no_masks = sources_by_split(
            data.has_masks, lambda split: data.mask_source(split, leave_out=True), splits
        )
        if not boxes and not masks:
            msg = "no split was given. Give --data.root, or the paths below --data.boxes and --data.masks."
            raise no_boxes or no_masks or InputError(msg)
        own_boxes, same_boxes = apart(boxes)
        own_masks, same_masks = masks_apart(masks)
        # What is the same in both kinds is told once.
        findings = dict.fromkeys((*rows_of(data), *unusable, *broken, *same_boxes, *same_masks))
        return cls(own_boxes, own_masks, tuple(findings), data.format == "both")

    @property
    def splits(self) -> list[str]:
        """The names of the splits."""
        return [split for split in SPLITS if split in self.boxes or split in self.masks]

    def images(self) -> dict[Path, str]:
        """Every image once, with its split; one that has boxes and masks may be spelled in two ways."""
        found: dict[Path, str] = {}
        for split in self.splits:
            source, files = self.boxes.get(split), self.masks.get(split)
            paths = [] if source is None else paths_of(source)
            paths += [] if files is None else [pair.image for pair in files.pairs]
            for path in paths:
                found.setdefault(plain(path), split)
        return found

    def unmatched(self) -> Iterator[Finding]:
        """Images with a mask that no annotation names, where all are to have both."""
        for split in self.splits if self.both else ():
            source, files = self.boxes.get(split), self.masks.get(split)
            if source is None or files is None:
                continue
            known = {plain(path) for path in paths_of(source)}
            for pair in files.pairs:
                if plain(pair.image) not in known:
                    detail = "has a mask, but no entry in the annotations of boxes"
                    yield Finding("image.without_labels", "error", str(pair.image), detail)


@dataclass(frozen=True)
class ReadJoint:
    """The same with all images and masks read.

    Attributes:
        given: the splits.
        facts: facts of each image.
        boxes: the sets with boxes.
        masks: the sets with masks.
    """

    given: Given
    facts: Mapping[Path, ImageFacts]
    boxes: ReadBoxes
    masks: ReadMasks

    @classmethod
    def of(cls, given: Given, read: PixelReader) -> ReadJoint:
        """Read each image and each mask once."""
        paths = list(given.images())
        facts = dict(zip(paths, read_all(paths, read), strict=True))
        own = [path for source in given.boxes.values() for path in paths_of(source)]
        own += [pair.image for files in given.masks.values() for pair in files.pairs]
        known = {path: facts[plain(path)] for path in own}
        return cls(given, facts, ReadBoxes.of(given.boxes, read, known), ReadMasks.of(given.masks, read, known))

    def frames(self) -> Iterator[Finding]:
        """Images whose boxes were drawn on the stored pixels and whose masks on the upright ones, or the reverse."""
        for split in self.given.splits if self.given.both else ():
            source, files = self.given.boxes.get(split), self.given.masks.get(split)
            if source is None or files is None:
                continue
            sizes = frames_hw(source, self.boxes.images[split]).tolist()
            of_boxes = {plain(path): tuple(size) for path, size in zip(self.boxes.paths[split], sizes, strict=True)}
            for pair, fact, mask in zip(files.pairs, self.masks.images[split], self.masks.masks[split], strict=True):
                frame = of_boxes.get(plain(pair.image))
                fits = mask.size_hw in (fact.size_hw, fact.stored_hw)
                if mask.size_hw is not None and frame is not None and fits and frame != mask.size_hw:
                    detail = (
                        f"its boxes are for {frame[1]} x {frame[0]}, its mask is {mask.size_hw[1]} x {mask.size_hw[0]}"
                    )
                    yield Finding("label.frames", "error", str(pair.image), detail)


def plain(path: Path) -> Path:
    """A path without `..`, by which the images of boxes and of masks are matched, as in training."""
    return Path(os.path.normpath(path))
