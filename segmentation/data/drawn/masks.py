"""Sets of images with drawn objects as `MaskSource`s, one for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from engine.annotations.files import BrokenRow, SetFiles
from engine.annotations.recognised import DRAWN_TOOLS, DrawnWord, counted, recognised
from engine.annotations.shapes import Shape, ShapeImage, area_of
from engine.annotations.splits import ALL, parts_by_name, shares_of
from engine.annotations.tools import yolo
from engine.data.contracts import SPLITS, SplitName
from engine.errors import InputError, did_you_mean
from engine.reading.images import UInt8Array, image_size
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.drawn.drawing import drawn
from segmentation.data.pairs import Pair

Overlap = Literal["later", "smaller"]


@dataclass(frozen=True)
class DrawnData:
    """What becomes of the objects in a set's label files.

    Attributes:
        format: the format of the set in data.root, where it holds several; null recognises it.
        split: shares of train, val and test, such as 0.8/0.1/0.1, for a set without splits.
        group: a regular expression for names of images; those that it matches alike stay in one split.
        classes: names of the objects' classes in their order, without the background; by default those of the files.
        background: name of the first class, of pixels without an object; null leaves these uncounted.
        overlap: which of two objects lies above: the one that is later in the file, or the smaller one.
    """

    format: DrawnWord | None = None
    split: str | None = None
    group: str | None = None
    classes: tuple[str, ...] = ()
    background: str | None = "background"
    overlap: Overlap = "later"


class _Drawn(NamedTuple):
    """An image whose objects are packed, so that processes share them and none is unpacked before it is asked for."""

    image: Path
    size_hw: tuple[int, int] | None
    start: int
    end: int


class DrawnMasks:
    """Images with their objects as label maps.

    Args:
        source: what messages call the set.
        root: its folder.
        classes: the class list; the background, if there is one, is its first.
        images: the images with their objects.
        background: whether pixels without an object are of the first class, and not left uncounted.
        overlap: which of two objects lies above.
        leave_out: whether images that are not there are left out (`unpaired` names them).

    Raises:
        InputError: images are not there.
    """

    def __init__(
        self,
        source: str,
        root: Path,
        classes: MaskClasses,
        images: Sequence[ShapeImage],
        *,
        background: bool = True,
        overlap: Overlap = "later",
        leave_out: bool = False,
    ) -> None:
        self.source = source
        self.classes = classes
        self._rows = {name: row for row, name in enumerate(classes.names) if row or not background}
        self._unlabelled = 0 if background else IGNORED
        there = [(root / image.image).is_file() for image in images]
        self.unpaired = tuple(str(root / i.image) for i, is_there in zip(images, there, strict=True) if not is_there)
        if self.unpaired and not (leave_out and any(there)):
            msg = (
                f"{len(self.unpaired):,} of {len(images):,} images of '{source}' are not there, the first is "
                f"'{self.unpaired[0]}'. Bring them, or give --data.on_bad_image skip."
            )
            raise InputError(msg)
        self._packed = bytearray()
        self._drawn: dict[Path, _Drawn] = {}
        pairs = []
        for image, is_there in zip(images, there, strict=True):
            if not is_there:
                continue
            path = root / image.image
            pairs.append(Pair(path, root / image.label / image.image))  # no file: a name for messages, and a key
            shapes = image.shapes
            if overlap == "smaller":
                shapes = tuple(sorted(shapes, key=area_of, reverse=True))
            start = len(self._packed)
            self._packed += msgspec.msgpack.encode(shapes)
            self._drawn[pairs[-1].mask] = _Drawn(path, image.size_hw, start, len(self._packed))
        self.pairs = tuple(pairs)
        self.unused: tuple[Path, ...] = ()  # what is drawn is drawn on an image

    def read_leniently(self, path: Path) -> UInt8Array:
        """As `read_mask`, which knows no pixels of no class."""
        return self.read_mask(path)

    def read_mask(self, path: Path) -> UInt8Array:
        """(H, W) rows of `classes`; `IGNORED` in crowds, and without a background where no object is.

        Raises:
            InputError: an object lies far outside of its image, or the size of the image cannot be read.
        """
        found = self._drawn[path]
        shapes = msgspec.msgpack.decode(memoryview(self._packed)[found.start : found.end], type=tuple[Shape, ...])
        try:
            return drawn(shapes, self._rows, found.size_hw or image_size(found.image), self._unlabelled)
        except InputError as error:
            msg = f"'{path}': {error}"
            raise InputError(msg) from error


class DrawnSet(NamedTuple):
    """A set that was recognised and read.

    Attributes:
        root: its folder.
        splits: its train, val and test.
        lines: what it is in one line, and what a user should know of the reading.
    """

    root: Path
    splits: Mapping[SplitName, DrawnMasks]
    lines: tuple[str, ...]


def read_drawn(
    root: str | Path, options: DrawnData, *, leave_out: bool = False, broken: list[BrokenRow] | None = None
) -> DrawnSet:
    """Recognise what lies in a folder, and read its splits.

    Args:
        root: the folder of a set, or one label file of it.
        options: what the files leave open.
        leave_out: whether images that are not there are left out.
        broken: where rows that cannot be read are noted; None ends the reading at the first.

    Raises:
        InputError: no format or several are recognised, a label file cannot be used, nothing but boxes is drawn, or
            the set has no splits and none are asked for.
    """
    files = SetFiles.below(root, broken)
    word, labels = recognised(files, DRAWN_TOOLS, options.format, "--data.drawn.format")
    tool = DRAWN_TOOLS[word]
    found = yolo.read(files, labels, options.classes) if word == "yolo" else tool.read(files, labels)
    images = list(found.images)
    _check_shapes(files, tool.name, images)
    classes = _classes(files, found.names, images, options)
    parts = _parts(files, tool.name, images, options)
    counts = ", ".join(f"{split} {len(part):,}" for split, part in parts.items())
    objects = sum(len(image.shapes) for image in images)
    line = f"{tool.name}, {counted(len(images), 'image')}, {counted(objects, 'object')} ({counts})"
    notes = (f"{count:,} {what}" if count else what for what, count in files.notes.items())
    splits = {
        split: DrawnMasks(
            f"{files.root} ({split})",
            files.root,
            classes,
            part,
            background=options.background is not None,
            overlap=options.overlap,
            leave_out=leave_out,
        )
        for split, part in parts.items()
    }
    return DrawnSet(files.root, splits, (line, *notes))


def _check_shapes(files: SetFiles, name: str, images: Sequence[ShapeImage]) -> None:
    kinds = [shape.kind for image in images for shape in image.shapes]
    boxes = sum(kind in ("box", "turned box") for kind in kinds)
    if not kinds:
        msg = f"'{files.root}' is {name}, but no object is drawn in it. Export it again."
        raise InputError(msg)
    if boxes == len(kinds):
        msg = f"'{files.root}' is {name} with boxes alone, which are no masks. Train on boxes with python -m detection."
        raise InputError(msg)
    if boxes:
        files.note("boxes were drawn as rectangles", boxes)


def _classes(files: SetFiles, names: Sequence[str], images: Sequence[ShapeImage], options: DrawnData) -> MaskClasses:
    used = dict.fromkeys(shape.label for image in images for shape in image.shapes if not shape.crowd)
    chosen = list(options.classes) or [*names, *sorted(name for name in used if name not in names)]
    missing = [name for name in used if name not in chosen]
    if missing:
        msg = (
            f"'{files.root}' has objects of the class '{missing[0]}', which --data.drawn.classes lacks."
            f"{did_you_mean(missing[0], chosen)} Add it there."
        )
        raise InputError(msg)
    if options.background is not None and options.background in chosen:
        msg = (
            f"'{files.root}' has objects of the class '{options.background}', which is the name of pixels without an "
            "object. Give --data.drawn.background another name, or null."
        )
        raise InputError(msg)
    return MaskClasses((*([] if options.background is None else [options.background]), *chosen))


def _parts(
    files: SetFiles, name: str, images: Sequence[ShapeImage], options: DrawnData
) -> Mapping[SplitName, list[ShapeImage]]:
    found: dict[str, list[ShapeImage]] = {}
    for image in images:
        found.setdefault(image.split, []).append(image)
    if options.split is None:
        if options.group is not None:
            msg = "group keeps images together that split would part. Give --data.drawn.split too, such as 0.8/0.1/0.1."
            raise InputError(msg)
        if ALL in found:
            msg = f"'{files.root}' ({name}) has no splits. Give --data.drawn.split, such as 0.8/0.1/0.1."
            raise InputError(msg)
        return {split: found[split] for split in SPLITS if split in found}
    if len(found) > 1:
        msg = f"'{files.root}' has the splits {', '.join(found)} already. Leave --data.drawn.split out."
        raise InputError(msg)
    paths = [files.path(image.image) for image in images]
    parts = parts_by_name(paths, files.root, shares_of(options.split), options.group, str(files.root))
    return {split: [images[int(place)] for place in np.sort(places)] for split, places in parts.items()}
