"""COCO box evaluation: pycocotools' twelve numbers and the AP of each category, without its printed output."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from detection.scores.backends import Backend, Evaluator, evaluator_of
from detection.scores.records import DetectionTable, Found
from detection.scores.result_files import check_boxes
from detection.scores.truth import GroundTruth, Truth, check_known

COCO_MOST = 100  # detections per image and category
# Rows of pycocotools' summary in the order of its `stats`.
_ROWS = (
    ("Average Precision  (AP)", "0.50:0.95", "all", 100),
    ("Average Precision  (AP)", "0.50", "all", 100),
    ("Average Precision  (AP)", "0.75", "all", 100),
    ("Average Precision  (AP)", "0.50:0.95", "small", 100),
    ("Average Precision  (AP)", "0.50:0.95", "medium", 100),
    ("Average Precision  (AP)", "0.50:0.95", "large", 100),
    ("Average Recall     (AR)", "0.50:0.95", "all", 1),
    ("Average Recall     (AR)", "0.50:0.95", "all", 10),
    ("Average Recall     (AR)", "0.50:0.95", "all", 100),
    ("Average Recall     (AR)", "0.50:0.95", "small", 100),
    ("Average Recall     (AR)", "0.50:0.95", "medium", 100),
    ("Average Recall     (AR)", "0.50:0.95", "large", 100),
)


@dataclass(frozen=True)
class BoxScores:
    """The twelve COCO numbers, each in [0, 1], or -1 where no object falls into its range.

    AP is the mean over IoU 0.50:0.95 with at most 100 detections per image and category; `ar1` and `ar10`
    allow 1 and 10. Objects are small up to 32², medium up to 96² and large from 96² square pixels on.

    Attributes:
        per_class: AP by category name; None for a category without objects.
        max_detections: how many detections per image and category count, where it is another number than COCO's 100.
        masks: the same numbers with the overlap of masks, from a network that finds masks.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: Mapping[str, float | None]
    max_detections: int = COCO_MOST
    masks: BoxScores | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the twelve numbers."""
        return tuple(field.name for field in fields(cls)[:12])

    @property
    def twelve(self) -> dict[str, float]:
        """The twelve numbers by name, as pycocotools gives them: -1 for one that does not exist."""
        return {name: getattr(self, name) for name in self.names()}

    def as_dict(self, prefix: str = "val_") -> dict[str, float]:
        """The twelve numbers to log; NaN for one that does not exist, which no checkpoint takes for its best score."""
        boxes = {prefix + name: value if value >= 0 else math.nan for name, value in self.twelve.items()}
        return boxes if self.masks is None else {**boxes, **self.masks.as_dict(f"{prefix}mask_")}

    def to_dict(self) -> dict[str, object]:
        """All numbers in JSON's types; a number that does not exist is null."""
        numbers = {name: value if value >= 0 else None for name, value in self.twelve.items()}
        masks = {} if self.masks is None else {"masks": self.masks.to_dict()}
        return {**numbers, "per_class": dict(self.per_class), **masks}

    def never_found(self) -> dict[str, list[str]]:
        """The categories with objects of which not one is found at any threshold of overlap."""
        return {"boxes": [name for name, ap in self.per_class.items() if ap is not None and ap <= 0]}

    def table(self, per_class: bool = True) -> str:
        """The twelve lines that pycocotools prints, what -1 means where one has it, and the AP of each category."""
        if all(value == -1 for value in self.twelve.values()):
            return " nothing to score: the annotations have no objects in these images"
        lines = [
            f" {title} @[ IoU={iou:<9} | area={area:>6s} | maxDets={self._most(max_dets):>3d} ] = {value:0.3f}"
            for (title, iou, area, max_dets), value in zip(_ROWS, self.twelve.values(), strict=True)
        ]
        if -1 in self.twelve.values():
            lines += ["", " -1.000 stands where the annotations have no object of that size"]
        if per_class and self.per_class:
            lines += ["", " AP per class (- = no objects)", *_in_columns(self.per_class)]
        if self.masks is not None:
            lines += ["", " masks:", self.masks.table(per_class)]
        return "\n".join(lines)

    def _most(self, max_dets: int) -> int:
        return self.max_detections if max_dets == COCO_MOST else max_dets


def evaluate_boxes(
    ground_truth: Truth,
    detections: Found,
    *,
    image_ids: Iterable[int] | None = None,
    backend: Backend = "pycocotools",
    max_detections: int = COCO_MOST,
) -> BoxScores:
    """Score boxes against COCO annotations.

    Args:
        ground_truth: what `GroundTruth.of` takes: a `BoxSource`, a COCO file or a `pycocotools` COCO.
        detections: what `DetectionTable.of` takes. Categories that the ground truth does not list are left
            out, as pycocotools does.
        image_ids: score these images only, as if no other existed; by default all images of the file,
            those without detections included.
        backend: `faster` is faster-coco-eval, which gives the same numbers in less time; `hotcoco` those in the least.
        max_detections: how many detections per image and category count, the best first; COCO's own number is 100,
            which is few for an aerial picture with a thousand objects.

    Raises:
        InputError: an input is malformed or names images that the ground truth does not list, or the backend
            is not installed.
    """
    truth = GroundTruth.of(ground_truth)
    table = DetectionTable.of(detections)
    check_boxes(table.boxes_xywh, table.scores, "score", "detections")
    check_known(table.image_ids, truth.image_ids, "image", "the detections")
    make = evaluator_of(backend)
    images = truth.image_ids if image_ids is None else tuple(dict.fromkeys(int(i) for i in image_ids))
    check_known(np.array(images, np.int64), truth.image_ids, "image", "the images to score")

    if not images:  # to hotcoco an empty list means all
        return BoxScores(
            **dict.fromkeys(BoxScores.names(), -1.0),
            per_class=dict.fromkeys(truth.category_names.values()),
            max_detections=max_detections,
            masks=None,
        )
    with contextlib.redirect_stdout(io.StringIO()):
        return summarised(make(truth, table), truth.category_names, images, max_detections)


def summarised(
    evaluator: Evaluator, category_names: Mapping[int, str], image_ids: Iterable[int], max_detections: int
) -> BoxScores:
    """The numbers of a library's evaluator, which prints to the standard output.

    Args:
        evaluator: of boxes or of masks.
        category_names: by id.
        image_ids: score these images only.
        max_detections: how many detections per image and category count.
    """
    evaluator.params.imgIds = sorted(image_ids)
    evaluator.params.maxDets = [1, 10, max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    # (IoU, recall, category, area, maxDets); area 0 is "all", the last maxDets is 100.
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    ap_by_id = {int(c): _mean_of_valid(precision[:, :, k]) for k, c in enumerate(evaluator.params.catIds)}
    per_class = {name: ap_by_id[category_id] for category_id, name in category_names.items()}
    twelve = dict(zip(BoxScores.names(), evaluator.stats[:12].tolist(), strict=True))
    if max_detections != COCO_MOST:  # the summary has no mean AP for another number
        mean = _mean_of_valid(precision)
        twelve["ap"] = -1.0 if mean is None else mean
    return BoxScores(**twelve, per_class=per_class, max_detections=max_detections, masks=None)


def _mean_of_valid(precision: NDArray[np.float64]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _in_columns(per_class: Mapping[str, float | None], line_width: int = 100) -> list[str]:
    width = max(len(name) for name in per_class)
    cells = [f"{name:<{width}} {'-' if ap is None else f'{ap:0.3f}':<5}" for name, ap in per_class.items()]
    columns = max(1, line_width // (width + 9))
    height = -(-len(cells) // columns)
    return [" " + "   ".join(cells[row::height]).rstrip() for row in range(height)]
