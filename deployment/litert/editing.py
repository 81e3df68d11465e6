"""What is done to a converted file: an input of pixels, floating outputs, and TensorFlow Lite's suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deployment.litert.model import Model
from deployment.litert.options import LitertOptions

SUPPRESSION = "TFLite_Detection_PostProcess"
# Its outputs, by the names that files of TensorFlow's detectors have: some programs look for them.
SUPPRESSED = (SUPPRESSION, f"{SUPPRESSION}:1", f"{SUPPRESSION}:2", f"{SUPPRESSION}:3")
# What its signature calls them.
SUPPRESSED_KEYS = ("boxes", "classes", "scores", "count")
INPUT = "images"


def take_pixels(model: Model) -> None:
    """Let an int8 model take uint8 pixels: the same steps of the same size, counted from 0 instead of from -128."""
    inner = int(model.graph.inputs[0])
    quantisation = model.quantisation(inner)
    assert quantisation is not None, "the input has one scale"
    scale, zero_point = quantisation
    pixels = model.add_tensor(INPUT, "UINT8", model.shape(inner), quantisation=(scale, zero_point + 128))
    model.add_operator("QUANTIZE", [pixels], [inner], first=True)
    model.graph.inputs = np.array([pixels], dtype=np.int32)


def give_floats(model: Model) -> None:
    """Turn int8 outputs into float32, as the suppression and most readers need them."""
    outputs = []
    for index in map(int, model.graph.outputs):
        if model.type_name(index) == "INT8":
            real = model.add_tensor(f"real_{index}", "FLOAT32", model.shape(index))
            model.add_operator("DEQUANTIZE", [index], [real], version=2)
            index = real
        outputs.append(index)
    model.graph.outputs = np.array(outputs, dtype=np.int32)


def append_suppression(
    model: Model, anchors_yxhw: npt.NDArray[np.float32], classes: int, options: LitertOptions
) -> None:
    """Put TensorFlow Lite's operator for decoding and suppression behind the first two outputs, which it replaces.

    Its outputs, all float32: boxes (1, N, 4) as ymin, xmin, ymax, xmax in fractions of the canvas, not clipped; rows of
    the class list (1, N); scores (1, N), falling; and the number of boxes (1,). Unused rows are 0.
    Source: tensorflow/lite/kernels/detection_postprocess.cc.

    Args:
        model: its first two outputs are box deltas (1, R, 4) and scores (1, R, K).
        anchors_yxhw: (R, 4) centre and size in fractions of the canvas.
        classes: K.
        options: the thresholds.
    """
    rows = options.max_detections
    anchors = model.add_tensor("anchors", "FLOAT32", anchors_yxhw.shape, data=anchors_yxhw)
    shapes = ((1, rows, 4), (1, rows), (1, rows), (1,))
    found = [model.add_tensor(name, "FLOAT32", shape) for name, shape in zip(SUPPRESSED, shapes, strict=True)]
    deltas, scores, *others = map(int, model.graph.outputs)
    model.add_operator(SUPPRESSION, [deltas, scores, anchors], found, options=_settings(classes, options))
    model.graph.outputs = np.array([*found, *others], dtype=np.int32)


def _settings(classes: int, options: LitertOptions) -> bytes:
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        for name, count in (
            ("max_detections", options.max_detections),
            ("max_classes_per_detection", 1),
            ("detections_per_class", options.max_detections),
            ("num_classes", classes),
        ):
            builder.Key(name)
            builder.Int(count)
        builder.Key("use_regular_nms")
        builder.Bool(not options.class_agnostic)
        for name, value in (
            ("nms_score_threshold", options.score_threshold),
            ("nms_iou_threshold", options.iou_threshold),
            *((f"{axis}_scale", 1.0) for axis in "yxhw"),  # EfficientDet's deltas have no variances
        ):
            builder.Key(name)
            builder.Float(value)
    return bytes(builder.Finish())
