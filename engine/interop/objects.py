"""Objects of an image in the forms of other libraries, each as its own documentation defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.exports.extras import importable

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import sahi.prediction
    import supervision
    from torch import Tensor


class Objects(Protocol):
    """What is found in an image: N objects."""

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(N, 4) left, top, right, bottom in pixels of the image."""
        ...

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) in [0, 1]."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """N class names."""
        ...

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """(N,) rows of the class list."""
        ...

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """(N,) ids of the annotations."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    @property
    def track_ids(self) -> NDArray[np.int64] | None:
        """(N,) -1 for an object without a track; None where none is followed."""
        ...


Masks = NDArray[np.uint8] | None  # (N, H, W) of 0 and 1; None where only boxes are found


def pandas_of(found: Objects) -> pandas.DataFrame:
    """A row for each object: label, score, ids, and the box as left, top, right and bottom.

    Raises:
        InputError: pandas is not installed.
    """
    importable("pandas")
    import pandas as pd

    columns: dict[str, object] = {
        "label": list(found.labels),
        "score": found.scores,
        "class_id": found.class_ids,
        "category_id": found.category_ids,
        **dict(zip(("left", "top", "right", "bottom"), found.boxes_xyxy.reshape(-1, 4).T, strict=True)),
    }
    if found.track_ids is not None:
        columns["track_id"] = found.track_ids
    return pd.DataFrame(columns)


def supervision_of(found: Objects, masks: Masks) -> supervision.Detections:
    """`Detections` (supervision.roboflow.com/latest/detection/core): class ids are rows of the class list.

    Raises:
        InputError: supervision is not installed.
    """
    importable("supervision")
    import supervision as sv

    return sv.Detections(
        xyxy=found.boxes_xyxy.reshape(-1, 4),
        mask=None if masks is None else masks.astype(np.bool_),
        confidence=found.scores,
        class_id=found.class_ids.astype(int),
        tracker_id=None if found.track_ids is None else found.track_ids.astype(int),
        data={"class_name": np.array(list(found.labels), dtype=str)},
    )


def fiftyone_of(found: Objects, masks: Masks) -> fiftyone.Detections:
    """`Detections` (docs.voxel51.com, "Using FiftyOne datasets", object detection and instance segmentation).

    Boxes are left, top, width and height as shares of the image. A mask is that of the pixels of its box, which then is
    the box around its pixels; an object whose mask has none has its own box and no mask.

    Raises:
        InputError: FiftyOne is not installed.
    """
    importable("fiftyone")
    import fiftyone as fo

    height, width = found.size_hw
    entries = []
    for number, label in enumerate(found.labels):
        box, inside = found.boxes_xyxy[number].tolist(), None
        if masks is not None and masks[number].any():
            rows, columns = np.flatnonzero(masks[number].any(1)), np.flatnonzero(masks[number].any(0))
            box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
            inside = masks[number, box[1] : box[3], box[0] : box[2]].astype(np.bool_)
        left, top, right, bottom = box
        shares = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        track = None if found.track_ids is None or found.track_ids[number] < 0 else int(found.track_ids[number])
        score = float(found.scores[number])
        entries.append(fo.Detection(label=label, bounding_box=shares, confidence=score, mask=inside, index=track))
    return fo.Detections(detections=entries)


def sahi_of(found: Objects, masks: Masks) -> list[sahi.prediction.ObjectPrediction]:
    """`ObjectPrediction`s (obss.github.io/sahi/prediction) of the whole image.

    Polygons are those that SAHI itself makes of a mask, and draws again: through the centres of the outermost pixels.

    Raises:
        InputError: SAHI is not installed.
    """
    importable("sahi")
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask as outlines

    polygons = [None] * len(found.labels) if masks is None else [outlines(mask) or None for mask in masks]
    return [
        ObjectPrediction(
            bbox=box,
            category_id=category_id,
            category_name=label,
            segmentation=segmentation,
            score=score,
            shift_amount=[0, 0],
            full_shape=list(found.size_hw),
        )
        for box, category_id, label, segmentation, score in zip(
            found.boxes_xyxy.tolist(), found.category_ids.tolist(), found.labels, polygons, found.scores.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def torchmetrics_of(found: Objects, masks: Masks) -> dict[str, Tensor]:
    """What `MeanAveragePrecision` takes of an image (lightning.ai/docs/torchmetrics, detection/mean_average_precision).

    Boxes are xyxy, its default, and labels are the ids of the annotations.
    """
    import torch

    entries = {
        "boxes": torch.from_numpy(found.boxes_xyxy.reshape(-1, 4).copy()),
        "scores": torch.from_numpy(found.scores.copy()),
        "labels": torch.from_numpy(found.category_ids.copy()),
    }
    return entries if masks is None else {**entries, "masks": torch.from_numpy(masks.astype(np.bool_))}
