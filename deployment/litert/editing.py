"""What is done to a converted file: an input of pixels, floating outputs, cut boxes, TensorFlow Lite's suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

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
# Sides in fractions of the canvas: the suppression fails if a box has none, and float32 has steps of 6e-8 below 1.
_LEAST_SIDE = 1e-6
_DROPS = 1e6  # what makes sides of `_LEAST_SIDE` and more 1, after which nothing is larger


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
    """Put TensorFlow Lite's operator for suppression behind the first two outputs, which it replaces.

    Boxes are cut at the canvas before it, as a prediction does: readers such as MediaPipe move a corner that lies
    outside to the border without shortening the box, and overlaps would be others.

    Its outputs, all float32: boxes (1, N, 4) as ymin, xmin, ymax, xmax in fractions of the canvas; rows of the class
    list (1, N); scores (1, N), falling; and the number of boxes (1,). Unused rows are 0.
    Source: tensorflow/lite/kernels/detection_postprocess.cc.

    Args:
        model: its first two outputs are box deltas (1, R, 4) and scores (1, R, K), both float32.
        anchors_yxhw: (R, 4) centre and size in fractions of the canvas.
        classes: K.
        options: the thresholds.
    """
    rows = options.max_detections
    deltas, scores, *others = map(int, model.graph.outputs)
    sides, cut = _cut_boxes(model, deltas, anchors_yxhw)
    scores = _with_area(model, scores, sides)
    # The operator decodes once more, against anchors that leave centres and sides as they are.
    unit = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(anchors_yxhw), 1))
    anchors = model.add_tensor("anchors", "FLOAT32", unit.shape, data=unit)
    shapes = ((1, rows, 4), (1, rows), (1, rows), (1,))
    found = [model.add_tensor(name, "FLOAT32", shape) for name, shape in zip(SUPPRESSED, shapes, strict=True)]
    model.add_operator(SUPPRESSION, [cut, scores, anchors], found, options=_settings(classes, options))
    model.graph.outputs = np.array([*found, *others], dtype=np.int32)


def _cut_boxes(model: Model, deltas: int, anchors_yxhw: npt.NDArray[np.float32]) -> tuple[int, int]:
    """Decode boxes, and cut them at the canvas.

    Returns:
        Two tensors: sides (1, R, 2) as h, w in fractions of the canvas, 0 or less where nothing of the box is on it;
        and (1, R, 4) centres y, x and logarithms of the sides, which the suppression decodes.
    """
    floats = _Floats(model)
    centres_sides = (1, len(anchors_yxhw), 2)
    places, lengths = anchors_yxhw[None, :, :2], anchors_yxhw[None, :, 2:]
    shifts, growths = (floats.part(deltas, start, centres_sides) for start in (0, 2))
    centre = floats.of("ADD", floats.of("MUL", shifts, lengths), places)
    half = floats.of("MUL", floats.of("MUL", floats.of("EXP", growths), lengths), 0.5)
    low = floats.of("MAXIMUM", floats.of("SUB", centre, half), 0.0)
    high = floats.of("MINIMUM", floats.of("ADD", centre, half), 1.0)
    sides = floats.of("SUB", high, low)
    # Of a box beside the canvas a sliver at its border is left, which has no score.
    low = floats.of("MINIMUM", low, 1.0 - _LEAST_SIDE)
    high = floats.of("MAXIMUM", high, floats.of("ADD", low, _LEAST_SIDE))
    middle = floats.of("MUL", floats.of("ADD", low, high), 0.5)
    logarithm = floats.of("LOG", floats.of("MAXIMUM", floats.of("SUB", high, low), _LEAST_SIDE))
    cut = model.add_tensor("cut_boxes", "FLOAT32", (*centres_sides[:2], 4))
    model.add_operator("CONCATENATION", [middle, logarithm], [cut], table="ConcatenationOptions", axis=2)
    return sides, cut


def _with_area(model: Model, scores: int, sides: int) -> int:
    """Scores (1, R, K) that are 0 where a box of these sides has no area."""
    floats = _Floats(model)
    shorter = model.add_tensor("shorter_sides", "FLOAT32", (*model.shape(sides)[:2], 1))
    axis = model.add_tensor("last_axis", "INT32", (1,), data=np.array([2], dtype=np.int32))
    model.add_operator("REDUCE_MIN", [sides, axis], [shorter], table="ReducerOptions", keepDims=True)
    factor = floats.of("MINIMUM", floats.of("MUL", floats.of("MAXIMUM", shorter, 0.0), _DROPS), 1.0)
    return floats.of("MUL", scores, factor)


class _Floats:
    """Adds operators on float32 to a model; what they give has the shape of their first input.

    Args:
        model: the model.
    """

    _TABLES: ClassVar = {
        "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "EXP": "ExpOptions", "LOG": None,
        "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
    }  # fmt: skip

    def __init__(self, model: Model) -> None:
        self._model = model

    def of(self, name: str, first: int, *others: int | float | npt.NDArray[np.float32]) -> int:
        """What an operator gives for tensors (integers) and constants (floats, arrays)."""
        inputs = [first, *(other if isinstance(other, int) else self._constant(other) for other in others)]
        given = self._new(name, self._model.shape(first))
        self._model.add_operator(name, inputs, [given], table=self._TABLES[name])
        return given

    def part(self, whole: int, start: int, shape: tuple[int, int, int]) -> int:
        """Columns of a tensor from `start` on."""
        begin, size = (
            self._model.add_tensor(f"{name}_{start}", "INT32", (3,), data=np.array(values, dtype=np.int32))
            for name, values in (("begin", (0, 0, start)), ("size", shape))
        )
        given = self._new("SLICE", shape)
        self._model.add_operator("SLICE", [whole, begin, size], [given], table="SliceOptions")
        return given

    def _constant(self, value: float | npt.NDArray[np.float32]) -> int:
        data = np.asarray(value, dtype=np.float32)
        return self._model.add_tensor(f"constant_{len(self._model.graph.tensors)}", "FLOAT32", data.shape, data=data)

    def _new(self, name: str, shape: Sequence[int]) -> int:
        return self._model.add_tensor(f"{name.lower()}_{len(self._model.graph.tensors)}", "FLOAT32", shape)


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
