"""The libraries that compute COCO's numbers: pycocotools, and two that give the same in less time."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from detection.scores.records import DetectionTable
from detection.scores.truth import GroundTruth
from engine.errors import InputError

Backend: TypeAlias = Literal["pycocotools", "faster", "hotcoco"]


class _Params(Protocol):
    imgIds: list[int]  # noqa: N815  (pycocotools' names)
    catIds: list[int]  # noqa: N815
    maxDets: list[int]  # noqa: N815


class _Coco(Protocol):
    dataset: dict[str, object]

    def createIndex(self) -> None: ...  # noqa: N802


class Evaluator(Protocol):
    """What the three libraries share, with pycocotools' names."""

    params: _Params
    eval: Mapping[str, NDArray[np.float64]]
    stats: NDArray[np.float64]

    def evaluate(self) -> None:
        """Match the boxes of every image."""
        ...

    def accumulate(self) -> None:
        """Precision by IoU, recall, category, area and number of detections."""
        ...

    def summarize(self) -> None:
        """The twelve numbers."""
        ...


def evaluator_of(backend: Backend) -> Callable[[GroundTruth, DetectionTable], Evaluator]:
    """What makes a library's evaluator of boxes.

    Raises:
        InputError: the backend is unknown or not installed.
    """
    if backend not in get_args(Backend):
        msg = f"backend '{backend}' is unknown; allowed: {', '.join(get_args(Backend))}."
        raise InputError(msg)
    if backend == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return _with_entries(COCO, COCOeval)
    library, package = ("faster_coco_eval", "faster-coco-eval") if backend == "faster" else ("hotcoco", "hotcoco")
    try:
        fast = importlib.import_module(library)
    except ImportError as error:
        msg = f"backend '{backend}' needs {package} ({error}). Install it: pip install 'effdense[fast]'"
        raise InputError(msg) from error
    return _with_entries(fast.COCO, fast.COCOeval_faster) if backend == "faster" else _with_rows(fast)


def _with_entries(
    coco_type: Callable[[], _Coco], evaluator_type: Callable[[_Coco, _Coco, str], Evaluator]
) -> Callable[[GroundTruth, DetectionTable], Evaluator]:
    def coco(truth: GroundTruth, annotations: list[dict[str, object]]) -> _Coco:
        """An indexed COCO object, made without `loadRes`, which fails on an empty list and builds polygons."""
        made = coco_type()
        made.dataset = _dataset(truth, annotations)
        made.createIndex()
        return made

    def make(truth: GroundTruth, table: DetectionTable) -> Evaluator:
        found = coco(truth, _detection_entries(table))
        return evaluator_type(coco(truth, _annotation_entries(truth)), found, "bbox")

    return make


def _with_rows(hotcoco: ModuleType) -> Callable[[GroundTruth, DetectionTable], Evaluator]:
    def make(truth: GroundTruth, table: DetectionTable) -> Evaluator:
        known = hotcoco.COCO(_dataset(truth, _annotation_entries(truth)))
        # Rows of numbers: dictionaries would take longer to make than all of the evaluation.
        rows = np.column_stack([table.image_ids, table.boxes_xywh, table.scores, table.category_ids])
        evaluator: Evaluator = hotcoco.COCOeval(known, known.load_res(rows.astype(np.float64)), "bbox")
        return evaluator

    return make


def _dataset(truth: GroundTruth, annotations: list[dict[str, object]]) -> dict[str, object]:
    return {
        "images": [{"id": image_id} for image_id in truth.image_ids],
        "categories": [{"id": category_id, "name": name} for category_id, name in truth.category_names.items()],
        "annotations": annotations,
    }


def _annotation_entries(truth: GroundTruth) -> list[dict[str, object]]:
    return _entries(
        image_id=truth.annotation_image_ids.tolist(),
        category_id=truth.annotation_category_ids.tolist(),
        bbox=truth.boxes_xywh.tolist(),
        area=truth.areas.tolist(),
        iscrowd=truth.crowd.astype(int).tolist(),
    )


def _detection_entries(table: DetectionTable) -> list[dict[str, object]]:
    return _entries(
        image_id=table.image_ids.tolist(),
        category_id=table.category_ids.tolist(),
        bbox=table.boxes_xywh.tolist(),
        score=table.scores.tolist(),
        area=(table.boxes_xywh[:, 2] * table.boxes_xywh[:, 3]).tolist(),
        iscrowd=[0] * len(table),
    )


def _entries(**columns: list[object]) -> list[dict[str, object]]:
    """Row dictionaries, numbered from 1: pycocotools marks matches by id, and 0 means unmatched."""
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True), id=number) for number, row in enumerate(rows, start=1)]
