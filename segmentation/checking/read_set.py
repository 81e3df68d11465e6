"""Images and masks of all splits, each file read once, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.checking.findings import Finding
from engine.checking.image_files import ImageFacts, read_all
from engine.checking.images import image_findings
from engine.checking.twins import Twin, find_twins
from engine.reading.reader import PixelReader
from segmentation.checking.mask_files import MaskFacts, class_pixels, read_masks
from segmentation.checking.splits import PairedSource, class_findings, conflicts, mask_findings, pair_findings
from segmentation.data.classes import IGNORED

_MOST_CLASSES = 8  # of a measure's line


@dataclass(frozen=True)
class ReadMasks:
    """A set whose files have been read.

    Attributes:
        sources: images and masks by the name of the split.
        images: facts of the images, in the order of the pairs.
        masks: facts of the masks.
    """

    sources: Mapping[str, PairedSource]
    images: Mapping[str, Sequence[ImageFacts]]
    masks: Mapping[str, Sequence[MaskFacts]]

    @classmethod
    def of(
        cls,
        sources: Mapping[str, PairedSource],
        read: PixelReader = PixelReader(),
        known: Mapping[Path, ImageFacts] | None = None,
    ) -> ReadMasks:
        """Read all images and masks.

        Args:
            sources: images and masks by the name of the split.
            read: reads rasters.
            known: facts of images that have been read already.
        """
        facts = dict(known or {})
        wanted = dict.fromkeys(pair.image for files in sources.values() for pair in files.pairs)
        missing = [path for path in wanted if path not in facts]
        facts |= zip(missing, read_all(missing, read), strict=True)
        images = {split: [facts[pair.image] for pair in files.pairs] for split, files in sources.items()}
        return cls(sources, images, {split: read_masks(files) for split, files in sources.items()})

    @property
    def paths(self) -> list[Path]:
        """The images of all splits, in their order."""
        return [pair.image for files in self.sources.values() for pair in files.pairs]

    @property
    def owners(self) -> list[str]:
        """The split of each image."""
        return [split for split, files in self.sources.items() for _ in files.pairs]

    @property
    def facts(self) -> list[ImageFacts]:
        """The facts of each image."""
        return [fact for facts in self.images.values() for fact in facts]

    def twins(self) -> list[Twin]:
        """Images that are there twice."""
        return list(find_twins(self.owners, self.facts))

    def image_findings(self, group: str | None = None) -> Iterator[Finding]:
        """The faults of images alone: of their files, their names, and of copies.

        Args:
            group: a regular expression; images whose names match it alike belong together.

        Raises:
            InputError: `group` is no regular expression.
        """
        yield from image_findings(self.paths, self.owners, self.facts, group)

    def mask_findings(self) -> Iterator[Finding]:
        """The faults of masks, pairs and classes."""
        for split, files in self.sources.items():
            yield from pair_findings(split, files)
            yield from mask_findings(split, files, self.images[split], self.masks[split])
        yield from class_findings(self.sources, self.masks)
        files_of = [
            (pair.mask, fact)
            for split, files in self.sources.items()
            for pair, fact in zip(files.pairs, self.masks[split], strict=True)
        ]
        yield from conflicts(files_of, [(twin.place, twin.other) for twin in self.twins() if twin.exact])

    def measures(self) -> Iterator[str]:
        """What each split is like, in a line: how many pairs, and the classes' shares of the pixels."""
        for split, files in self.sources.items():
            pixels = class_pixels(self.masks[split], files.classes)
            ignored = sum(int(fact.counts[IGNORED]) for fact in self.masks[split] if fact.counts is not None)
            total = max(1, int(pixels.sum()) + ignored)
            order = pixels.argsort(kind="stable")[::-1][:_MOST_CLASSES].tolist()
            shares = [f"{files.classes.names[row]} {pixels[row] / total:.1%}" for row in order]
            more = len(pixels) - len(order)
            shares += [f"{more} more classes"] if more > 0 else []
            yield f"{split}: {len(files.pairs):,} images; {', '.join(shares)}; not counted {ignored / total:.1%}"
