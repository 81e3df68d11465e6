"""Images and boxes of all splits, each file read once, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.checking.anchors import REACHED, best_iou, on_canvas, reach_findings
from detection.checking.boxes import box_findings, conflicts, frames_hw, size_findings
from detection.checking.classes import class_findings
from detection.data.boxes import BoxSource
from detection.network.family import DetectorArchitecture
from engine.checking.findings import Finding
from engine.checking.image_files import ImageFacts, read_all
from engine.checking.names import name_findings
from engine.checking.twins import Twin, find_twins
from engine.reading.reader import PixelReader


def paths_of(source: BoxSource) -> list[Path]:
    """The files of a source's images."""
    return [source.image_path(place) for place in range(len(source.image_ids))]


@dataclass(frozen=True)
class ReadBoxes:
    """A set whose images have been read.

    Attributes:
        sources: images and boxes by the name of the split.
        paths: the images of each split.
        images: facts of the images.
    """

    sources: Mapping[str, BoxSource]
    paths: Mapping[str, Sequence[Path]]
    images: Mapping[str, Sequence[ImageFacts]]

    @classmethod
    def of(
        cls,
        sources: Mapping[str, BoxSource],
        read: PixelReader = PixelReader(),
        known: Mapping[Path, ImageFacts] | None = None,
    ) -> ReadBoxes:
        """Read all images.

        Args:
            sources: images and boxes by the name of the split.
            read: reads rasters.
            known: facts of images that have been read already.
        """
        paths = {split: paths_of(source) for split, source in sources.items()}
        facts = dict(known or {})
        missing = [path for path in dict.fromkeys(path for own in paths.values() for path in own) if path not in facts]
        facts |= zip(missing, read_all(missing, read), strict=True)
        return cls(sources, paths, {split: [facts[path] for path in own] for split, own in paths.items()})

    @property
    def all_paths(self) -> list[Path]:
        """The images of all splits, in their order."""
        return [path for own in self.paths.values() for path in own]

    @property
    def owners(self) -> list[str]:
        """The split of each image."""
        return [split for split, own in self.paths.items() for _ in own]

    @property
    def facts(self) -> list[ImageFacts]:
        """The facts of each image."""
        return [fact for facts in self.images.values() for fact in facts]

    def twins(self) -> list[Twin]:
        """Images that are there twice."""
        return list(find_twins(self.owners, self.facts))

    def box_findings(self, canvas_hw: tuple[int, int], architecture: DetectorArchitecture) -> Iterator[Finding]:
        """The faults of boxes and classes.

        Args:
            canvas_hw: height and width of the canvas in training, in pixels.
            architecture: of the network that will be trained.
        """
        for split, source in self.sources.items():
            facts, names = self.images[split], [str(path) for path in self.paths[split]]
            yield from size_findings(source, names, facts)
            yield from _of_split(split, source, names, frames_hw(source, facts), canvas_hw, architecture)
        yield from class_findings(self.sources)
        places = [(source, place) for source in self.sources.values() for place in range(len(source.image_ids))]
        pairs = [(twin.place, twin.other) for twin in self.twins() if twin.exact]
        yield from conflicts(places, [str(path) for path in self.all_paths], pairs)

    def measures(self, canvas_hw: tuple[int, int], architecture: DetectorArchitecture) -> Iterator[str]:
        """What each split is like, in a line: its objects' number, sizes and shapes, and how many anchors reach."""
        for split, source in self.sources.items():
            sizes_hw = frames_hw(source, self.images[split])
            counts = np.diff(source.box_ends)
            owners = np.repeat(np.arange(len(counts)), counts)
            boxes = on_canvas(source.boxes_xywh[~source.crowd], sizes_hw[owners[~source.crowd]], canvas_hw)
            line = f"{split}: {len(counts):,} images"
            if len(boxes):
                sides = boxes[:, 2:] - boxes[:, :2]
                low, mid, high = np.percentile(np.sqrt(sides.prod(axis=1)), (1, 50, 99))
                thin, usual, wide = np.percentile(sides[:, 0] / sides[:, 1], (1, 50, 99))
                reached = (best_iou(boxes, canvas_hw, architecture) >= REACHED).mean()
                line += (
                    f" with {counts.min()} to {counts.max()} objects, median {np.median(counts):g}; on "
                    f"{canvas_hw[1]} x {canvas_hw[0]} sides of {low:.0f} to {high:.0f} pixels, median {mid:.0f}, "
                    f"width to height {thin:.2f} to {wide:.2f}, median {usual:.2f}; anchors of {architecture.name} "
                    f"reach {reached:.1%}"
                )
            yield line


def quick_findings(
    sources: Mapping[str, BoxSource], canvas_hw: tuple[int, int], architecture: DetectorArchitecture
) -> list[Finding]:
    """What the annotations alone tell, without reading an image.

    Args:
        sources: images and boxes by the name of the split.
        canvas_hw: height and width of the canvas in training, in pixels.
        architecture: of the network that will be trained.
    """
    findings: list[Finding] = []
    paths: list[Path] = []
    owners: list[str] = []
    for split, source in sources.items():
        own = paths_of(source)
        sizes_hw = np.array(source.sizes_hw, np.int64).reshape(-1, 2)
        findings += _of_split(split, source, [str(path) for path in own], sizes_hw, canvas_hw, architecture)
        paths += own
        owners += [split] * len(own)
    return [*findings, *class_findings(sources), *name_findings(paths, owners)]


def _of_split(
    split: str,
    source: BoxSource,
    names: Sequence[str],
    sizes_hw: np.ndarray,
    canvas_hw: tuple[int, int],
    architecture: DetectorArchitecture,
) -> Iterator[Finding]:
    found = list(box_findings(split, source, names, sizes_hw, canvas_hw))
    yield from found
    # The remedies that are tried are EfficientDet's settings, which mean other things to other heads, or nothing.
    if architecture.head == "efficientdet" and not any(one.name.startswith("boxes.") for one in found):
        rows = np.flatnonzero(~source.crowd)
        owners = np.repeat(np.arange(len(names)), np.diff(source.box_ends))[rows]
        yield from reach_findings(split, source.boxes_xywh[rows], sizes_hw[owners], canvas_hw, architecture)
