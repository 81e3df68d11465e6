"""Classes of a whole image in the forms of other libraries, each as its own documentation defines it."""

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

Probabilities = NDArray[np.float32]  # (K,) in [0, 1]


def pandas_of(names: Sequence[str], probabilities: Probabilities, found: Sequence[str]) -> pandas.DataFrame:
    """A row for each class in the order of the class list: its name, probability, row, and whether it is found.

    Raises:
        InputError: pandas is not installed.
    """
    importable("pandas")
    import pandas as pd

    return pd.DataFrame(
        {
            "class": list(names),
            "probability": probabilities,
            "class_id": np.arange(len(names)),
            "found": [name in found for name in names],
        }
    )


def supervision_of(probabilities: Probabilities) -> supervision.Classifications:
    """`Classifications` (supervision.roboflow.com/latest/classification/core) of all K rows of the class list.

    Raises:
        InputError: supervision is not installed.
    """
    importable("supervision")
    import supervision as sv

    return sv.Classifications(class_id=np.arange(len(probabilities)), confidence=probabilities.copy())


def fiftyone_of(
    names: Sequence[str], probabilities: Probabilities, found: Sequence[str], several: bool
) -> fiftyone.Classification | fiftyone.Classifications:
    """`Classification`, or `Classifications` of all found (docs.voxel51.com, "Using FiftyOne datasets").

    Args:
        names: the class list.
        probabilities: of each class.
        found: names of the classes that are found.
        several: whether an image may have several labels: then `Classifications`, which may be empty.

    Raises:
        InputError: FiftyOne is not installed.
    """
    importable("fiftyone")
    import fiftyone as fo

    entries = [fo.Classification(label=name, confidence=float(probabilities[names.index(name)])) for name in found]
    return fo.Classifications(classifications=entries) if several else entries[0]


def torchmetrics_of(probabilities: Probabilities) -> Tensor:
    """(1, K) float32, the `preds` of torchmetrics' multiclass and multilabel metrics."""
    import torch

    return torch.from_numpy(probabilities.copy())[None]
