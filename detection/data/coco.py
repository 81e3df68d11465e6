"""COCO annotation files in flat arrays that every loader worker shares.

A list of Python dictionaries costs gigabytes for COCO, and once more in every worker, as reading an object counts
a reference in it and so copies its memory page. Here the numbers go into one tensor per column while the file is
parsed; torch moves tensors to shared memory when a worker is spawned, and forked workers never write to them.
"""

from __future__ import annotations

import json
import math
import mmap
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detection.data.classes import BoxClasses
from engine.errors import InputError

_REMEDY = "Give a COCO detection file: an object with 'images', 'annotations' and 'categories'."


class ImageBoxes(NamedTuple):
    """The annotations of one image, crowds and boxes without area included.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the original image as annotated, not clipped.
        class_ids: (N,) int32 rows of `CocoAnnotations.classes`.
        iscrowd: (N,) bool.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int32]
    iscrowd: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CocoAnnotations:
    """One annotation file: I images in file order, N boxes ordered by image.

    Attributes:
        path: the file, for messages.
        classes: its categories in ascending order of id.
        image_ids: (I,) int64.
        sizes_hw: (I, 2) int32 as the file states them; 0 where it does not.
        name_bytes: the file names, UTF-8, one after the other.
        name_ends: (I + 1,) int64; name i lies between ends i and i + 1.
        box_ends: (I + 1,) int64; the boxes of image i lie between ends i and i + 1.
        boxes_xyxy: (N, 4) float32 pixels of the original images, as annotated.
        class_ids: (N,) int32 rows of `classes`.
        iscrowd: (N,) bool.
    """

    path: str
    classes: BoxClasses
    image_ids: Tensor
    sizes_hw: Tensor
    name_bytes: Tensor
    name_ends: Tensor
    box_ends: Tensor
    boxes_xyxy: Tensor
    class_ids: Tensor
    iscrowd: Tensor

    def __len__(self) -> int:
        return len(self.image_ids)

    def file_name(self, index: int) -> str:
        """File name of an image, as the annotations state it."""
        start, end = self.name_ends[index : index + 2].tolist()
        return bytes(self.name_bytes[start:end].numpy()).decode()

    def size_hw(self, index: int) -> tuple[int, int] | None:
        """Height and width of an image, if the annotations state them."""
        height, width = self.sizes_hw[index].tolist()
        return (height, width) if height > 0 and width > 0 else None

    def boxes_of(self, index: int) -> ImageBoxes:
        """The annotations of an image, as views into the shared arrays."""
        start, end = self.box_ends[index : index + 2].tolist()
        columns = (self.boxes_xyxy, self.class_ids, self.iscrowd)
        return ImageBoxes(*(column[start:end].numpy() for column in columns))

    @classmethod
    def read(cls, path: str | Path) -> CocoAnnotations:
        """Parse an annotation file without building its Python objects.

        Fields that detection does not need, such as polygons, are skipped inside the parser. `iscrowd`, `area` and
        the sizes of images may be missing, and so may `annotations` as a whole (COCO's test sets).

        Raises:
            InputError: the file is missing, no JSON or not COCO; an image id stands twice; an annotation names an
                unknown image or category, or its box is not finite or of negative size.
        """
        columns = _parse(Path(path))
        for name, entries in (("images", columns.image_ids), ("categories", columns.categories)):
            if not entries:
                _refuse(path, f"'{name}' is empty. {_REMEDY}")
        try:
            classes = BoxClasses.from_categories(columns.categories)
        except InputError as error:
            _refuse(path, str(error))
        image_ids = np.array(columns.image_ids, dtype=np.int64)
        rows = _image_rows(path, columns, image_ids)
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=len(image_ids))
        return cls(
            path=str(path),
            classes=classes,
            image_ids=torch.from_numpy(image_ids),
            sizes_hw=torch.from_numpy(np.array(columns.sizes_hw, dtype=np.int32).reshape(-1, 2)),
            name_bytes=torch.from_numpy(np.array(columns.names, dtype=np.uint8)),
            name_ends=torch.from_numpy(np.array(columns.name_ends, dtype=np.int64)),
            box_ends=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
            boxes_xyxy=torch.from_numpy(_boxes_xyxy(path, columns)[order]),
            class_ids=torch.from_numpy(_class_rows(path, columns, classes)[order]),
            iscrowd=torch.from_numpy(np.array(columns.iscrowd, dtype=np.bool_)[order]),
        )


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    height: float | None = None
    width: float | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None
    id: int = 0
    iscrowd: int | bool = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Columns:
    """The file's numbers, appended while it is parsed."""

    def __init__(self) -> None:
        self.image_ids = array("q")
        self.sizes_hw = array("i")
        self.names = bytearray()
        self.name_ends = array("q", [0])
        self.annotation_ids = array("q")
        self.of_images = array("q")
        self.of_categories = array("q")
        self.boxes_xywh = array("d")
        self.iscrowd = array("b")
        self.categories: list[dict[str, Any]] = []

    def add_image(self, image: _Image) -> None:
        self.image_ids.append(image.id)
        self.sizes_hw.extend((int(image.height or 0), int(image.width or 0)))
        self.names += image.file_name.encode()
        self.name_ends.append(len(self.names))
        image.file_name = ""

    def add_annotation(self, annotation: _Annotation) -> None:
        if annotation.bbox is None:
            msg = f"annotation {annotation.id} has no 'bbox'"
            raise ValueError(msg)
        self.annotation_ids.append(annotation.id)
        self.of_images.append(annotation.image_id)
        self.of_categories.append(annotation.category_id)
        self.boxes_xywh.extend(annotation.bbox)
        self.iscrowd.append(bool(annotation.iscrowd))
        # The parser keeps the object to the end; let it hold nothing.
        annotation.bbox = None
        annotation.id = annotation.image_id = annotation.category_id = 0


def _parse(path: Path) -> _Columns:
    columns = _Columns()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            columns.categories = _decode(mapped, columns)
    except FileNotFoundError as error:
        msg = f"annotation file '{path}' does not exist. Check the path."
        raise InputError(msg) from error
    except msgspec.ValidationError as error:
        _refuse(path, f"{error}. {_REMEDY}", error)
    except msgspec.DecodeError as error:
        _refuse(path, _not_json(path, error), error)
    except OverflowError as error:
        _refuse(path, "an id or size is too large for 64 bits. Number images and annotations from 1.", error)
    except (OSError, ValueError) as error:
        _refuse(path, f"it cannot be read: {getattr(error, 'strerror', None) or error}. {_REMEDY}", error)
    return columns


def _decode(mapped: mmap.mmap, columns: _Columns) -> list[dict[str, Any]]:
    class Image(_Image):
        def __post_init__(self) -> None:
            columns.add_image(self)

    class Annotation(_Annotation):
        def __post_init__(self) -> None:
            columns.add_annotation(self)
            if len(columns.iscrowd) % 16384 == 0 and hasattr(mmap, "MADV_DONTNEED"):
                # What is parsed need not stay in memory; the last megabytes are read again from the page cache.
                mapped.madvise(mmap.MADV_DONTNEED)

    file_type = msgspec.defstruct(
        "File",
        [("images", list[Image]), ("categories", list[_Category]), ("annotations", list[Annotation], [])],
    )
    file: Any = msgspec.json.decode(mapped, type=file_type)
    return [{"id": category.id, "name": category.name} for category in file.categories]


def _refuse(path: str | Path, reason: str, cause: Exception | None = None) -> NoReturn:
    msg = f"annotation file '{path}': {reason}"
    raise InputError(msg) from cause


def _not_json(path: Path, error: msgspec.DecodeError) -> str:
    """Why a file is no JSON; Python writes NaN, which JSON does not know, so that the box at fault is looked up."""
    try:
        annotations = json.loads(path.read_bytes())["annotations"]
        number, broken = next(
            (number, entry)
            for number, entry in enumerate(annotations)
            if not all(math.isfinite(side) for side in entry["bbox"])
        )
    except (ValueError, LookupError, TypeError, StopIteration):
        return f"it is not valid JSON: {error}. {_REMEDY}"
    return f"annotation {broken.get('id', number)} has the box {broken['bbox']}. Correct or remove it."


def _image_rows(path: str | Path, columns: _Columns, image_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    ascending = np.argsort(image_ids, kind="stable")
    ordered = image_ids[ascending]
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        _refuse(path, f"image id {twice[0]} stands more than once ({twice.size} such). Give every image its own id.")
    return ascending[_look_up(path, columns, columns.of_images, ordered, "image")]


def _class_rows(path: str | Path, columns: _Columns, classes: BoxClasses) -> npt.NDArray[np.int32]:
    known = np.array(classes.category_ids, dtype=np.int64)
    return _look_up(path, columns, columns.of_categories, known, "category").astype(np.int32)


def _look_up(
    path: str | Path, columns: _Columns, given: array[int], ordered: npt.NDArray[np.int64], kind: str
) -> npt.NDArray[np.int64]:
    """Position of each given id in the ascending ids of the file."""
    ids = np.frombuffer(given, dtype=np.int64)
    rows = np.searchsorted(ordered, ids)
    unknown = np.flatnonzero(ordered[np.minimum(rows, len(ordered) - 1)] != ids)
    if unknown.size:
        _refuse(
            path,
            f"{unknown.size} annotations whose {kind}_id the file does not list, the first is annotation "
            f"{columns.annotation_ids[unknown[0]]} with {kind}_id {ids[unknown[0]]}. Add it or remove them.",
        )
    return rows


def _boxes_xyxy(path: str | Path, columns: _Columns) -> npt.NDArray[np.float32]:
    boxes = np.array(columns.boxes_xywh, dtype=np.float64).reshape(-1, 4)
    # Beyond 2**31 pixels nothing is an image, and float32 would turn the largest numbers into infinity.
    broken = np.flatnonzero(~(np.abs(boxes) < 2**31).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1))
    if broken.size:
        first = boxes[broken[0]].tolist()
        _refuse(
            path,
            f"annotation {columns.annotation_ids[broken[0]]} has the box {first}; allowed is [x, y, width, height] "
            f"in pixels with width and height of at least 0 ({broken.size} such). Correct or remove it.",
        )
    boxes[:, 2:] += boxes[:, :2]
    return boxes.astype(np.float32)
