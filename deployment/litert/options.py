"""What a .tflite file holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.checked import Checked
from engine.numbers import AboveZeroToOne, PositiveInt, ZeroToBelowOne

Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class LitertOptions(Checked):
    """What a .tflite file holds. It computes one image of one size at a time.

    Attributes:
        image_hw: height and width of the images in pixels; None takes the detector's own canvas, or 512 x 512 for a
            network of pixels only.
        nms: for boxes, `op` puts TensorFlow Lite's own operator for decoding and suppression at the end, with four
            outputs; `none` gives box deltas and scores of all anchors, which MediaPipe decodes by the file's metadata.
        argmax: for pixels, give the row of the class list of each pixel rather than the logits of all classes.
        precision: of weights and computation; float16 keeps the weights in half the space, and computes in float32
            where a device has nothing smaller; int8 is needed by the Edge TPU, with `calibration`.
        calibration: paths of images like those that the file will see, whose values set the ranges of int8.
        score_threshold: boxes below it are not given.
        iou_threshold: overlap above which a box is dropped.
        max_detections: rows of the outputs with `op`, the best boxes first.
        class_agnostic: let boxes of different classes suppress each other, which is faster.
    """

    image_hw: tuple[PositiveInt, PositiveInt] | None = None
    nms: Literal["op", "none"] = "op"
    argmax: bool = True
    precision: Precision = "float32"
    calibration: tuple[Path, ...] = ()
    score_threshold: ZeroToBelowOne = 0.05
    iou_threshold: AboveZeroToOne = 0.5
    max_detections: PositiveInt = 25
    class_agnostic: bool = False
