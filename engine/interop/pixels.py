"""Classes of pixels in the forms of other libraries, each as its own documentation defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.exports.extras import importable

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision
    from torch import Tensor

Rows = NDArray[np.uint8]  # (H, W) rows of the class list


def pandas_of(names: Sequence[str], label_ids: Sequence[int], pixels: Sequence[int]) -> pandas.DataFrame:
    """A row for each class: its name, the value in masks, its pixels and their share of the image.

    Raises:
        InputError: pandas is not installed.
    """
    importable("pandas")
    import pandas as pd

    counts = np.asarray(pixels, np.int64)
    shares = counts / max(1, counts.sum())
    return pd.DataFrame({"class": list(names), "label_id": list(label_ids), "pixels": counts, "share": shares})


def supervision_of(rows: Rows, names: Sequence[str]) -> supervision.Detections:
    """`Detections` with one mask for each class that occurs, as supervision has semantic segmentation.

    Raises:
        InputError: supervision is not installed.
    """
    importable("supervision")
    import supervision as sv

    present = [row for row in np.unique(rows).tolist() if row < len(names)]
    masks = rows[None] == np.array(present, np.uint8).reshape(-1, 1, 1)
    boxes = [
        (int(columns[0]), int(lines[0]), int(columns[-1]) + 1, int(lines[-1]) + 1)
        for columns, lines in ((np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))) for mask in masks)
    ]
    return sv.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        mask=masks,
        class_id=np.array(present, int),
        data={"class_name": np.array([names[row] for row in present], dtype=str)},
    )


def fiftyone_of(label_ids: NDArray[np.uint8]) -> fiftyone.Segmentation:
    """`Segmentation` (docs.voxel51.com, "Using FiftyOne datasets"): its values are those of the masks.

    Raises:
        InputError: FiftyOne is not installed.
    """
    importable("fiftyone")
    import fiftyone as fo

    return fo.Segmentation(mask=label_ids)


def torchmetrics_of(rows: Rows) -> Tensor:
    """(1, H, W) int64, what metrics of `torchmetrics.segmentation` take with `input_format="index"`."""
    import torch

    return torch.from_numpy(rows.astype(np.int64))[None]
