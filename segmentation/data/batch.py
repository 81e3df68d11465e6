"""What the loader hands to the network and to the measures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor


class SegmentationBatch(NamedTuple):
    """Training crops of one size.

    Attributes:
        images: (B, 3, H, W) uint8 RGB; what lies beside the picture is the network's mean colour.
        class_ids: (B, H, W) uint8 rows of the class list; 255 is not counted.
    """

    images: Tensor
    class_ids: Tensor


class EvaluationBatch(NamedTuple):
    """Whole images of one size with their ground truth at full size.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        indices: (B,) int64 places in the data set, by which the repeats of a distributed sampler are dropped.
        class_ids: B arrays (H, W) uint8 rows of the class list; 255 is not counted.
        instance_ids: B arrays (H, W) int32 as in Cityscapes' `_instanceIds.png`; empty where there are none.
    """

    images: Tensor
    indices: Tensor
    class_ids: list[npt.NDArray[np.uint8]]
    instance_ids: list[npt.NDArray[np.int32]]
