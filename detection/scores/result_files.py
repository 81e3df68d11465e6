"""The annotation side of a COCO evaluation, read and checked into flat arrays."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
JsonId: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
JsonBox: TypeAlias = tuple[float, float, float, float]
Decoded = TypeVar("Decoded")

_log = logging.getLogger(__name__)


class _Image(msgspec.Struct, gc=False):
    id: JsonId


class _Category(msgspec.Struct, gc=False):
    id: JsonId
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: JsonId
    category_id: JsonId
    bbox: JsonBox
    id: JsonId | None = None
    area: float | None = None
    iscrowd: bool | int | None = 0


class _AnnotationFile(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What the COCO evaluation asks of an annotation file, G annotations; polygons and sizes are left behind.

    The ids of the annotations play no part. pycocotools marks matches with them, so that there an annotation
    with id 0 can never be found and a repeated id hides its first bearer; here they are numbered anew.

    Attributes:
        image_ids: ids of all images, in the order of the file.
        category_names: name by category id; names borne by several categories carry their id.
        annotation_image_ids: (G,) image of each annotation.
        annotation_category_ids: (G,) category of each annotation.
        boxes_xywh: (G, 4) pixels of the original image.
        areas: (G,) square pixels, of the mask where the file gives it; decides small, medium and large.
        crowd: (G,) regions in which any number of detections is neither right nor wrong.
    """

    image_ids: tuple[int, ...]
    category_names: Mapping[int, str]
    annotation_image_ids: Ints
    annotation_category_ids: Ints
    boxes_xywh: Floats
    areas: Floats
    crowd: NDArray[np.bool_]

    @classmethod
    def of(cls, source: GroundTruth | str | Path | Any) -> GroundTruth:
        """Read a COCO annotation file, or copy from a `pycocotools.coco.COCO`, which stays unchanged.

        A missing `area` is the box's, a missing `iscrowd` is 0.

        Raises:
            InputError: the file is missing or is not a COCO annotation file, or an annotation has a box that
                is negative or not finite, or an image or a category that the file does not list.
        """
        if isinstance(source, GroundTruth):
            return source
        if isinstance(source, str | Path):
            content = read_json(Path(source), _AnnotationFile, "a COCO annotation file")
            return cls._from_content(content, f"'{source}'")
        dataset = source.dataset
        wanted = {key: dataset[key] for key in _AnnotationFile.__struct_fields__ if key in dataset}
        raw = msgspec.json.encode(wanted, enc_hook=lambda number: number.item())  # for NumPy's numbers
        content = _decode_json(raw, _AnnotationFile, "the COCO object", "a set of COCO annotations")
        return cls._from_content(content, "the COCO object")

    @classmethod
    def _from_content(cls, content: _AnnotationFile, name: str) -> GroundTruth:
        annotations = content.annotations
        areas = [a.bbox[2] * a.bbox[3] if a.area is None else a.area for a in annotations]
        truth = cls(
            image_ids=tuple(image.id for image in content.images),
            category_names=_unique_names(content.categories, name),
            annotation_image_ids=np.array([a.image_id for a in annotations], np.int64),
            annotation_category_ids=np.array([a.category_id for a in annotations], np.int64),
            boxes_xywh=np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4),
            areas=np.array(areas, np.float64),
            crowd=np.array([bool(a.iscrowd) for a in annotations], np.bool_),
        )
        check_boxes(truth.boxes_xywh, truth.areas, "area", f"{name}: annotations")
        where = f"the annotations of {name}"
        check_known(truth.annotation_image_ids, truth.image_ids, "image", where)
        check_known(truth.annotation_category_ids, truth.category_names, "category", where)
        ids = [a.id for a in annotations if a.id is not None]
        if 0 in ids or len(set(ids)) < len(ids):
            fault = "the id 0" if 0 in ids else "the same id twice"
            note = "%s: annotations bear %s; pycocotools alone would miscount them, so they are numbered anew"
            _log.warning(note, name, fault)
        return truth


def read_json(path: Path, kind: type[Decoded], what: str) -> Decoded:
    """Read a JSON file into typed values; keys that `kind` does not name are skipped without being built.

    Raises:
        InputError: the file cannot be read, is not JSON, or lacks what `kind` asks for; `what` names the
            wanted kind of file in the message.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        msg = f"cannot read '{path}': {error.strerror or error}. Give {what}."
        raise InputError(msg) from error
    return _decode_json(raw, kind, f"'{path}'", what)


def _decode_json(raw: bytes, kind: type[Decoded], name: str, what: str) -> Decoded:
    try:
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.DecodeError as error:
            if isinstance(error, msgspec.ValidationError) and "out of range" not in str(error):
                raise
            # NaN and Infinity are not JSON, but Python writes them: read on, so that a check names the entry.
            return msgspec.convert(json.loads(raw), type=kind)
    except msgspec.ValidationError as error:
        msg = f"{name} is not {what}: {_fault(str(error))}."
        raise InputError(msg) from error
    except ValueError as error:
        broken = isinstance(error, json.JSONDecodeError)
        msg = f"{name} is not JSON ({str(error).lower() if broken else 'it is not text'}). Give {what}."
        raise InputError(msg) from error


def _fault(message: str) -> str:
    """Rephrase msgspec's finding as a short clause, e.g. `annotations[3] has no 'bbox'`."""
    text, _, path = message.partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    place = f"entry {place}" if place.startswith("[") else place or "it"
    if match := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f"{place} has no '{match[1]}'"
    return f"{place}: {text[0].lower()}{text[1:].replace('`', '')}"


def check_boxes(boxes_xywh: Floats, values: Floats, value_name: str, where: str) -> None:
    """Refuse boxes and values that are not finite, and negative sizes; `where` names their list.

    Raises:
        InputError: names the first such entry.
    """
    finite = np.asarray(np.isfinite(boxes_xywh).all(axis=1))
    faulty = ~finite | (boxes_xywh[:, 2:] < 0).any(axis=1)
    if faulty.any():
        index = int(faulty.argmax())
        fault = "a negative width or height" if finite[index] else "a number that is not finite"
        msg = (
            f"{where}[{index}] has {fault}: bbox {boxes_xywh[index].tolist()} ({int(faulty.sum())} such)."
            " Boxes are [x, y, width, height]."
        )
        raise InputError(msg)
    if not np.isfinite(values).all():
        index = int((~np.isfinite(values)).argmax())
        msg = f"{where}[{index}] has the {value_name} {values[index]}. Give a finite number."
        raise InputError(msg)


def check_known(given: Ints, known: Iterable[int], what: str, where: str) -> None:
    """Refuse ids that the annotation file does not list.

    Raises:
        InputError: tells how many ids, and the first of them.
    """
    unknown = sorted(set(np.unique(given).tolist()) - set(known))
    if unknown:
        listed = ", ".join(map(str, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        count = f"{len(unknown)} {what} id{'s' * (len(unknown) > 1)}"
        msg = f"{where} name {count} that the annotation file does not list: {listed}. Give files that belong together."
        raise InputError(msg)


def _unique_names(categories: Sequence[_Category], name: str) -> dict[int, str]:
    ids = Counter(category.id for category in categories)
    if twice := [category_id for category_id, count in ids.items() if count > 1]:
        msg = f"{name} lists category id {twice[0]} more than once. Give every category an id of its own."
        raise InputError(msg)
    bearers = Counter(category.name for category in categories)
    return {c.id: c.name if bearers[c.name] == 1 else f"{c.name} ({c.id})" for c in categories}
