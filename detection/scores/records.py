"""Detections on their way to the evaluation: collected over batches and processes, read, written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.data.boxes import BoxSource, Floats, Ints
from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.scores.result_files import Result, ResultEntry, check_boxes, read_results
from engine.distributed import all_gather_objects
from engine.errors import InputError
from engine.outputs import atomic_path

Numbers: TypeAlias = NDArray[np.integer | np.floating]
_KEYS = Result.__struct_fields__


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """D detections as columns; among equal scores in an image the order of rows decides, as in pycocotools.

    Attributes:
        image_ids: (D,) ids of the annotation file.
        category_ids: (D,) ids of the annotation file.
        boxes_xywh: (D, 4) left, top, width and height in pixels of the original image.
        scores: (D,) a higher score means a more certain detection.
    """

    image_ids: Ints
    category_ids: Ints
    boxes_xywh: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def of(cls, detections: Found) -> DetectionTable:
        """Take rows `[image_id, x, y, w, h, score, category_id]`, shape (D, 7), or COCO result entries.

        Raises:
            InputError: the array has another shape or ids that floats cannot hold, or an entry lacks a key.
        """
        if isinstance(detections, DetectionTable):
            return detections
        if isinstance(detections, np.ndarray):
            if detections.ndim != 2 or detections.shape[1] != 7:
                row = "[image_id, x, y, w, h, score, category_id]"
                msg = f"detections must be (D, 7) rows {row}; got shape {detections.shape}"
                raise InputError(msg)
            return cls._build(detections[:, 0], detections[:, 6], detections[:, 1:5], detections[:, 5])
        for index, entry in enumerate(detections):
            if missing := [key for key in _KEYS if key not in entry]:
                msg = f"detections[{index}] has no '{missing[0]}'. Give each of {', '.join(_KEYS)}."
                raise InputError(msg)
        image_ids, category_ids, boxes, scores = (np.array([entry[key] for entry in detections]) for key in _KEYS)
        return cls._build(image_ids, category_ids, boxes, scores)

    @classmethod
    def read(cls, path: str | Path) -> DetectionTable:
        """Read a COCO results file: entries with image_id, category_id, bbox [x, y, w, h] and score.

        Raises:
            InputError: the file is missing or not such a list, a number is not finite, or a size is negative.
        """
        results = read_results(Path(path))
        table = cls._build(
            [result.image_id for result in results],
            [result.category_id for result in results],
            [result.bbox for result in results],
            [result.score for result in results],
        )
        check_boxes(table.boxes_xywh, table.scores, "score", f"'{path}': entry ")
        return table

    @classmethod
    def _build(
        cls, image_ids: ArrayLike, category_ids: ArrayLike, boxes_xywh: ArrayLike, scores: ArrayLike
    ) -> DetectionTable:
        boxes, count = np.array(boxes_xywh, np.float64), len(np.asarray(image_ids))
        if boxes.size and boxes.shape != (count, 4):
            msg = f"boxes must be [x, y, width, height]; got shape {boxes.shape} for {count} of them."
            raise InputError(msg)
        return cls(
            image_ids=_whole(image_ids, "image"),
            category_ids=_whole(category_ids, "category"),
            boxes_xywh=boxes.reshape(-1, 4),
            scores=np.array(scores, np.float64),
        )

    def as_results(self) -> list[ResultEntry]:
        """COCO result entries; the numbers are not rounded, so that a file of them scores the same."""
        columns = (self.image_ids, self.category_ids, self.boxes_xywh, self.scores)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
            for image_id, category_id, box, score in rows
        ]

    def write_results(self, path: str | Path) -> None:
        """Write the JSON that the COCO test server and `python -m detection score` read.

        Raises:
            InputError: a number is not finite or a size is negative, or the file cannot be written.
        """
        check_boxes(self.boxes_xywh, self.scores, "score", "detections")
        encoded = msgspec.json.encode(self.as_results())
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded)


Found: TypeAlias = DetectionTable | Numbers | Sequence[Mapping[str, ArrayLike]]


class _Columns(NamedTuple):
    """V visits to images with D detections in total; visit v owns the next `counts[v]` detections."""

    image_ids: Ints
    counts: Ints
    boxes_xyxy: Numbers
    scores: Numbers
    category_ids: Numbers


class DetectionRecords:
    """Collects what a detector finds during an evaluation, for any batches and any number of processes.

    An image that comes again is dropped: the sampler of several processes repeats images to give each the
    same number, and repeats would count as false detections. An image without detections counts as seen.
    """

    def __init__(self) -> None:
        self._parts = [
            _Columns(
                np.empty(0, np.int64),
                np.empty(0, np.int64),
                np.empty((0, 4), np.float32),
                np.empty(0, np.float32),
                np.empty(0, np.int64),
            )
        ]

    def add(
        self,
        image_ids: Numbers,
        boxes_xyxy: Numbers,
        scores: Numbers,
        category_ids: Numbers,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a batch of B images with M slots each.

        Args:
            image_ids: (B,).
            boxes_xyxy: (B, M, 4) pixels of the original image.
            scores: (B, M).
            category_ids: (B, M) ids of the annotation file.
            valid: (B, M) slots that hold a detection; without it, all do.

        Raises:
            ValueError: the shapes do not fit each other.
        """
        valid = np.ones(scores.shape, np.bool_) if valid is None else valid
        slots = (len(image_ids), scores.shape[-1])
        if not boxes_xyxy.shape[:2] == scores.shape == category_ids.shape == valid.shape == slots:
            shapes = [a.shape for a in (image_ids, boxes_xyxy, scores, category_ids, valid)]
            msg = f"image_ids, boxes_xyxy, scores, category_ids, valid do not fit: {shapes}"
            raise ValueError(msg)
        ids = np.array(image_ids, np.int64)
        counts = valid.sum(axis=1, dtype=np.int64)
        self._parts.append(_Columns(ids, counts, boxes_xyxy[valid], scores[valid], category_ids[valid]))

    def gather(self) -> DetectionRecords:
        """The records of all processes, on each process; the result does not depend on their number."""
        merged = DetectionRecords()
        merged._parts = [_merge(all_gather_objects(_merge(self._parts)))]
        return merged

    @property
    def image_ids(self) -> Ints:
        """Ids of all images seen, ascending."""
        return _merge(self._parts).image_ids

    def images(self) -> Iterator[tuple[int, Numbers, Numbers, Numbers]]:
        """Each image by ascending id: its id, (N, 4) boxes xyxy, (N,) scores and (N,) category ids."""
        merged = _merge(self._parts)
        ends = merged.counts.cumsum()
        for image_id, start, end in zip(merged.image_ids.tolist(), ends - merged.counts, ends, strict=True):
            rows = slice(int(start), int(end))
            yield image_id, merged.boxes_xyxy[rows], merged.scores[rows], merged.category_ids[rows]

    @property
    def most(self) -> int:
        """The largest number of detections in an image."""
        return int(_merge(self._parts).counts.max(initial=0))

    def table(self) -> DetectionTable:
        """The detections by ascending image id; within an image in the order in which they were added."""
        merged = _merge(self._parts)
        boxes = merged.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return DetectionTable(
            image_ids=np.repeat(merged.image_ids, merged.counts),
            category_ids=merged.category_ids.astype(np.int64),
            boxes_xywh=boxes,
            scores=merged.scores.astype(np.float64),
        )

    def numbered_as(self, source: BoxSource, classes: BoxClasses) -> DetectionRecords:
        """The records with the category ids of the scored annotations in place of the model's.

        Detections of classes that the annotations do not list are left out, as COCO's evaluation does: under the
        model's number they could count as another class.

        Args:
            source: the scored annotations.
            classes: the model's class list, whose category ids the records have.

        Raises:
            InputError: the annotations and the model do not fit, see `CategoryRows.of`.
        """
        if not any(source.classes.names):
            return self
        ids = CategoryRows.of(source, classes).category_ids
        merged = _merge(self._parts)
        known = np.array(classes.category_ids, np.int64)
        order = np.argsort(known)
        rows = order[np.searchsorted(known, merged.category_ids, sorter=order)]
        kept = ids[rows] >= 0
        owners = np.repeat(np.arange(len(merged.counts)), merged.counts)[kept]
        counts = np.bincount(owners, minlength=len(merged.counts)).astype(np.int64)
        numbered = DetectionRecords()
        numbered._parts = [
            _Columns(merged.image_ids, counts, merged.boxes_xyxy[kept], merged.scores[kept], ids[rows[kept]])
        ]
        return numbered

    def as_results(self) -> list[ResultEntry]:
        """COCO result entries of `table()`."""
        return self.table().as_results()

    def write_results(self, path: str | Path) -> None:
        """Write `table()` as the JSON that the COCO test server and `python -m detection score` read.

        Raises:
            InputError: a number is not finite or a size is negative, or the file cannot be written.
        """
        self.table().write_results(path)


def _merge(parts: Sequence[_Columns]) -> _Columns:
    """One visit per image, the first, by ascending image id."""
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    image_ids, counts, boxes, scores, category_ids = columns
    ids, first = np.unique(image_ids, return_index=True)
    place = np.full(len(image_ids), -1, np.int64)
    place[first] = np.arange(len(ids))
    place_of_detection = np.repeat(place, counts)
    order = np.argsort(place_of_detection, kind="stable")
    order = order[np.count_nonzero(place_of_detection < 0) :]  # repeats sort to the front
    return _Columns(ids, counts[first], boxes[order], scores[order], category_ids[order])


def _whole(values: ArrayLike, what: str) -> Ints:
    given = np.asarray(values)
    if given.size == 0:
        return np.empty(0, np.int64)
    if given.dtype.kind == "f":
        # From 2**53 on (float32: 2**24) neighbouring whole numbers share one float.
        limit = 2.0 ** (np.finfo(given.dtype).nmant + 1)
        exact = (np.abs(given) < limit) & (given == np.trunc(given))
    else:
        exact = np.full(given.shape, given.dtype.kind in "iu")
    if not exact.all():
        wrong = given[~exact][0]
        msg = f"{what} id {wrong} is not a whole number that {given.dtype} holds exactly. Give integers."
        raise InputError(msg)
    return given.astype(np.int64)
