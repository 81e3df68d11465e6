"""COCO annotation files as a `BoxSource`: the numbers go into flat arrays while the file is parsed."""

from __future__ import annotations

import logging
import mmap
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection.data.boxes import BoxTable, Floats, Ints, Rows, ends_of
from detection.data.classes import BoxClasses
from engine.annotations.json_text import NotFiniteError, NotJsonError, json_fault, python_json, utf8
from engine.errors import InputError
from engine.hardware.memory import return_freed_memory

Number = TypeVar("Number", bound=np.generic)

_log = logging.getLogger(__name__)

_REMEDY = "Give a COCO detection file: an object with 'images', 'annotations' and 'categories'."
_NO_CLASSES = BoxClasses(("",), (0,))  # for a set without categories, which only scoring accepts


@runtime_checkable
class CocoObject(Protocol):
    """A `pycocotools.coco.COCO`, or faster-coco-eval's."""

    dataset: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class CocoAnnotations(BoxTable):
    """One annotation file: images in file order, boxes ordered by image, as in `BoxTable`."""

    @classmethod
    def read(cls, path: str | Path, image_folder: str | Path | None = None) -> CocoAnnotations:
        """Parse an annotation file without building its Python objects.

        Fields that detection does not need, such as polygons, are skipped inside the parser. `iscrowd`, `area` and
        the sizes of images may be missing, and so may `annotations` as a whole (COCO's test sets); a missing area is
        the box's.

        Args:
            path: the JSON.
            image_folder: where its file names start from; without it the folder of the JSON.

        Raises:
            InputError: the file is missing, not JSON or not COCO; an image id occurs twice; an annotation names an
                unknown image or category, its box is not finite or of negative size, or its area is not finite.
        """
        columns, name = _parse_file(Path(path), labelled=False), _called(path)
        for what, entries in (("images", columns.image_ids), ("categories", columns.categories)):
            if not entries:
                _refuse(name, f"'{what}' is empty. {_REMEDY}")
        if columns.nameless:
            _refuse(name, f"image {columns.nameless[0]} has no 'file_name' ({len(columns.nameless)} such). {_REMEDY}")
        folder = Path(path).parent if image_folder is None else Path(image_folder)
        read = cls._of(columns, str(path), name, folder)
        del columns
        return_freed_memory()
        return read

    @classmethod
    def to_score(cls, given: str | Path | CocoObject) -> CocoAnnotations:
        """A file, or a COCO object, which stays unchanged; images need no names and the set may be empty.

        Raises:
            InputError: as `read`, or `annotations` is missing.
        """
        if isinstance(given, str | Path):
            return cls._of(_parse_file(Path(given), labelled=True), str(given), _called(given), Path(given).parent)
        name = "the COCO object"
        keys = ("images", "annotations", "categories")
        wanted = {key: given.dataset[key] for key in keys if key in given.dataset}
        raw = msgspec.json.encode(wanted, enc_hook=_plain)
        return cls._of(_parse(raw, name, labelled=True), name, name, Path())

    @classmethod
    def _of(cls, columns: _Columns, source: str, name: str, image_folder: Path) -> CocoAnnotations:
        try:
            classes = BoxClasses.in_order(columns.categories) if columns.categories else _NO_CLASSES
        except InputError as error:
            _refuse(name, str(error))
        image_ids = _array(columns.image_ids, np.int64)
        rows = _image_rows(name, columns, image_ids)
        order = np.argsort(rows, kind="stable")
        boxes, areas = _boxes_and_areas(name, columns)
        _note_ids(name, columns)
        return cls(
            source=source,
            image_folder=image_folder,
            classes=classes,
            image_ids=image_ids,
            sizes_hw=_array(columns.sizes_hw, np.int32).reshape(-1, 2),
            name_bytes=np.frombuffer(columns.names, np.uint8),
            name_ends=_array(columns.name_ends, np.int64),
            box_ends=ends_of(np.bincount(rows, minlength=len(image_ids))),
            boxes_xywh=boxes[order],
            class_ids=_class_rows(name, columns, classes)[order],
            areas=areas[order],
            crowd=_array(columns.crowd, np.bool_)[order],
        )


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str | None = None
    height: float | None = None
    width: float | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: list[float] | None
    id: int | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0


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
        self.nameless = array("q")
        self.annotation_ids = array("q")
        self.without_id = 0
        self.of_images = array("q")
        self.of_categories = array("q")
        self.boxes_xywh = array("d")
        self.areas = array("d")
        self.crowd = array("b")
        self.categories: list[tuple[str, int]] = []
        self.boxless = 0

    def add_image(self, image: _Image) -> None:
        height, width = image.height or 0, image.width or 0
        if not (0 <= height < 2**31 and 0 <= width < 2**31):
            msg = f"image {image.id} has the size {height} x {width} (height x width)"
            raise ValueError(msg)
        self.image_ids.append(image.id)
        self.sizes_hw.extend((int(height), int(width)))
        if image.file_name is None:
            self.nameless.append(image.id)
        else:
            self.names += image.file_name.encode()
        self.name_ends.append(len(self.names))
        image.file_name = ""

    def add_annotation(self, annotation: _Annotation) -> None:
        box, area = annotation.bbox, annotation.area
        if box is None:
            msg = f"annotation {annotation.id} has no 'bbox'"
            raise ValueError(msg)
        if len(box) != 4:
            if not box:  # some exporters write an annotation without a box for an image without objects
                self.boxless += 1
                return
            msg = f"annotation {annotation.id} has a 'bbox' of {len(box)} numbers in place of 4"
            raise ValueError(msg)
        self.annotation_ids.append(annotation.id or 0)
        self.without_id += annotation.id is None
        self.of_images.append(annotation.image_id)
        self.of_categories.append(annotation.category_id)
        self.boxes_xywh.extend(box)
        self.areas.append(box[2] * box[3] if area is None else area)
        self.crowd.append(bool(annotation.iscrowd))
        # The parser keeps the object to the end, so its content is dropped here.
        annotation.bbox = annotation.area = None
        annotation.id = annotation.image_id = annotation.category_id = 0

    def called(self, place: int) -> str:
        """The name of an annotation: its id, or its place where it has no id."""
        known = self.annotation_ids[place] or not self.without_id
        return f"annotation {self.annotation_ids[place]}" if known else f"annotations[{place}]"


def _parse_file(path: Path, *, labelled: bool) -> _Columns:
    name = _called(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _parse(mapped, name, labelled=labelled)
    except FileNotFoundError as error:
        msg = f"{name} does not exist. Check the path."
        raise InputError(msg) from error
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        _refuse(name, f"it cannot be read: {reason}. {_REMEDY}", error)


def _parse(raw: bytes | mmap.mmap, name: str, *, labelled: bool) -> _Columns:
    columns, text = _Columns(), utf8(raw)
    try:
        try:
            _decode(text, columns, labelled=labelled)
        except msgspec.DecodeError as error:
            if isinstance(error, msgspec.ValidationError) and "out of range" not in str(error):
                raise
            # NaN, Infinity and 1e999 are not JSON, but Python writes and reads them.
            content = python_json(text, error)
            columns = _Columns()
            msgspec.convert(content, type=_file_type(text, columns, labelled=labelled), strict=False)
    except msgspec.ValidationError as error:
        _refuse(name, f"{json_fault(str(error))}. {_REMEDY}", error)
    except NotJsonError as error:
        _refuse(name, f"it is not valid JSON: {error}. {_REMEDY}", error)
    except NotFiniteError as error:
        _refuse(name, str(error), error)
    except RecursionError as error:
        _refuse(name, f"it is not valid JSON for annotations: lists lie too deep in each other. {_REMEDY}", error)
    except OverflowError as error:
        _refuse(name, "an id or size is too large for 64 bits. Number images and annotations from 1.", error)
    return columns


def _decode(raw: bytes | mmap.mmap, columns: _Columns, *, labelled: bool) -> None:
    # Not strict: some exporters write ids and sizes as text.
    msgspec.json.decode(raw, type=_file_type(raw, columns, labelled=labelled), strict=False)


def _file_type(raw: bytes | mmap.mmap, columns: _Columns, *, labelled: bool) -> type[msgspec.Struct]:
    """A type whose parts go to the columns as soon as they are parsed from `raw`."""

    class Image(_Image):
        def __post_init__(self) -> None:
            columns.add_image(self)

    class Category(_Category):
        def __post_init__(self) -> None:
            if not self.name.strip():
                msg = f"category {self.id} has an empty name"
                raise ValueError(msg)
            columns.categories.append((self.name, self.id))

    class Annotation(_Annotation):
        def __post_init__(self) -> None:
            columns.add_annotation(self)
            if isinstance(raw, mmap.mmap) and len(columns.crowd) % 16384 == 0 and hasattr(mmap, "MADV_DONTNEED"):
                # What is parsed need not stay in memory; the last megabytes are read again from the page cache.
                raw.madvise(mmap.MADV_DONTNEED)

    always = [("images", list[Image]), ("categories", list[Category])]
    type_of = msgspec.defstruct
    if labelled:
        return type_of("File", [*always, ("annotations", list[Annotation])])
    return type_of("File", [*always, ("annotations", list[Annotation], [])])


def _plain(number: object) -> object:
    """Turn NumPy's numbers, which JSON does not know, into Python's."""
    if isinstance(number, np.generic | np.ndarray):
        return number.tolist()
    msg = f"{type(number).__name__} is not a number"
    raise TypeError(msg)


def _called(path: str | Path) -> str:
    return f"annotation file '{path}'"


def _refuse(name: str, reason: str, cause: Exception | None = None) -> NoReturn:
    msg = f"{name}: {reason}"
    raise InputError(msg) from cause


def _image_rows(name: str, columns: _Columns, image_ids: Ints) -> Ints:
    ascending = np.argsort(image_ids, kind="stable")
    ordered = image_ids[ascending]
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        _refuse(name, f"image id {twice[0]} occurs more than once ({twice.size} such). Give every image its own id.")
    return ascending[_look_up(name, columns, columns.of_images, ordered, "image")]


def _class_rows(name: str, columns: _Columns, classes: BoxClasses) -> Rows:
    known = np.array(classes.category_ids if columns.categories else (), dtype=np.int64)
    return _look_up(name, columns, columns.of_categories, known, "category").astype(np.int32)


def _look_up(name: str, columns: _Columns, given: array[int], ordered: Ints, kind: str) -> Ints:
    """Position of each given id in the ascending ids of the file."""
    ids = _array(given, np.int64)
    rows = np.searchsorted(ordered, ids)
    known = ordered[np.minimum(rows, len(ordered) - 1)] == ids if len(ordered) else np.zeros(len(ids), np.bool_)
    unknown = np.flatnonzero(~known)
    if unknown.size:
        _refuse(
            name,
            f"{unknown.size} annotations whose {kind}_id the file does not list, the first is "
            f"{columns.called(unknown[0])} with {kind}_id {ids[unknown[0]]}. Add it or remove them.",
        )
    return rows


def _boxes_and_areas(name: str, columns: _Columns) -> tuple[Floats, Floats]:
    boxes, areas = _array(columns.boxes_xywh, np.float64).reshape(-1, 4), _array(columns.areas, np.float64)
    # No image has 2**31 pixels on a side, and float32 would turn the largest numbers into infinity.
    broken = np.flatnonzero(~(np.abs(boxes) < 2**31).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1))
    if broken.size:
        first = boxes[broken[0]].tolist()
        _refuse(
            name,
            f"{columns.called(broken[0])} has the box {first}; allowed is [x, y, width, height] in pixels with width "
            f"and height of at least 0 ({broken.size} such). Correct or remove it.",
        )
    broken = np.flatnonzero(~np.isfinite(areas))
    if broken.size:
        called = columns.called(broken[0])
        _refuse(name, f"{called} has the area {areas[broken[0]]}. Give a finite number, or leave it out.")
    return boxes, areas


def _note_ids(name: str, columns: _Columns) -> None:
    """Log a warning if pycocotools, which marks matches with the ids of annotations, would not count all of them."""
    ids = _array(columns.annotation_ids, np.int64)
    named = ids[ids != 0]
    if np.count_nonzero(ids == 0) > columns.without_id:
        fault = "the id 0"
    elif len(np.unique(named)) < len(named):
        fault = "the same id twice"
    else:
        return
    note = "%s: annotations have %s; pycocotools alone would miscount them, so they get new ids"
    _log.warning(note, name, fault)


def _array(column: array[int] | array[float], kind: type[Number]) -> NDArray[Number]:
    """The column's own memory as an array."""
    return np.frombuffer(column, dtype=kind)
