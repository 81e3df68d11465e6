"""Run in an environment of its own, without this project: what detectors of LiteRT need beside the network.

    python finishing.py IN.tflite OUT.tflite SETTINGS.json

It appends the operator `TFLite_Detection_PostProcess`, or describes the anchors to MediaPipe, and writes MediaPipe's
metadata with the labels. Sources: tensorflow `lite/kernels/detection_postprocess.cc`; mediapipe
`tasks/metadata/object_detector_metadata_schema.fbs` and `tasks/python/metadata/metadata_writers/object_detector.py`.
"""

import json
import sys
import types
from pathlib import Path
from typing import TypedDict

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

CUSTOM = "TFLite_Detection_PostProcess"
# In the order in which MediaPipe reads them: it sorts them by the number of their tensor.
RESULTS = ("location", "category", "score", "number of detections")


class Settings(TypedDict, total=False):
    """What is added to a detector.

    Attributes:
        about: our own description of the file, as JSON.
        operator: whether the suppression is appended.
        anchors: (R, 4) y, x, height and width in shares of the image.
        classes: K.
        labels: names of the classes; without them the file is none for MediaPipe.
        mean: of the pixels.
        std: deviation of the pixels.
        max_detections: most boxes.
        score_threshold: boxes below it are dropped.
        iou_threshold: overlap above which a box is dropped.
        by_class: whether boxes of each class are suppressed by themselves.
    """

    about: str
    operator: bool
    anchors: list[list[float]]
    classes: int
    labels: list[str]
    mean: float
    std: float
    max_detections: int
    score_threshold: float
    iou_threshold: float
    by_class: bool


def read(content: bytes) -> schema.ModelT:
    """The model of a file's bytes, to be changed."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def packed(model: schema.ModelT) -> bytes:
    """The bytes of a model."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_operator(model: schema.ModelT, settings: Settings) -> None:
    """Append the suppression, in place.

    Args:
        model: with the outputs box deltas (1, R, 4) and scores (1, R, K).
        settings: `anchors` (R, 4) y, x, height, width in shares of the image; thresholds and counts.
    """
    graph = model.subgraphs[0]
    anchors = np.asarray(settings["anchors"], np.float32)
    deltas, scores, *others = graph.outputs
    deltas, scores = (in_float(model, each) for each in (deltas, scores))
    constant = added_tensor(model, "anchors", anchors.shape, anchors.tobytes())
    count = settings["max_detections"]
    shapes = ((1, count, 4), (1, count), (1, count), (1,))
    results = [added_tensor(model, name, shape) for name, shape in zip(RESULTS, shapes, strict=True)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = CUSTOM.encode(), 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [deltas, scores, constant], results
    operator.customOptions = np.frombuffer(options(settings), np.uint8)
    operator.customOptionsFormat = schema.CustomOptionsFormat.FLEXBUFFERS
    graph.operators.append(operator)
    graph.outputs = [*results, *others]
    model.signatureDefs = None  # these name the former outputs


def options(settings: Settings) -> bytes:
    """The operator's options."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in (
            ("max_detections", settings["max_detections"]),
            ("max_classes_per_detection", 1),
            ("detections_per_class", settings["max_detections"]),
            ("num_classes", settings["classes"]),
        ):
            builder.Key(name)
            builder.Int(value)
        builder.Key("use_regular_nms")
        builder.Bool(settings["by_class"])
        for name, number in (
            ("nms_score_threshold", settings["score_threshold"]),
            ("nms_iou_threshold", settings["iou_threshold"]),
            *((f"{side}_scale", 1.0) for side in "yxhw"),
        ):
            builder.Key(name)
            builder.Float(number)
    return bytes(builder.Finish())


def added_tensor(model: schema.ModelT, name: str, shape: tuple[int, ...], content: bytes | None = None) -> int:
    """The number of a new float32 tensor; with `content` it is a constant."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), schema.TensorType.FLOAT32
    tensor.buffer = 0  # none
    if content is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def in_float(model: schema.ModelT, number: int) -> int:
    """The number of a tensor in float32: its own, or that behind a new DEQUANTIZE."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[number]
    if tensor.type == schema.TensorType.FLOAT32:
        return number
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 2
    model.operatorCodes.append(code)
    made = added_tensor(model, f"float {number}", tuple(tensor.shape))
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes) - 1, [number], [made]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    graph.operators.append(operator)
    return made


def described(content: bytes, settings: Settings) -> bytes:
    """The file with MediaPipe's metadata and labels."""
    # The wheel lacks one compiled module of its own writer, which gives the version of the metadata's schema.
    stand_in = types.ModuleType("_pywrap_metadata_version")
    stand_in.GetMinimumMetadataParserVersion = lambda _: "1.5.0"  # type: ignore[attr-defined]
    for name in ("mediapipe.tasks.cc", "mediapipe.tasks.cc.metadata", "mediapipe.tasks.cc.metadata.python"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["mediapipe.tasks.cc.metadata.python"]._pywrap_metadata_version = stand_in  # type: ignore[attr-defined]
    sys.modules["mediapipe.tasks.cc.metadata.python._pywrap_metadata_version"] = stand_in
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_info, metadata_writer, object_detector

    labels = metadata_writer.Labels().add([name or "???" for name in settings["labels"]])
    norm = [settings["mean"]], [settings["std"]]
    writer = object_detector.MetadataWriter
    if settings["operator"]:
        made = writer.create_for_models_with_nms(content, *norm, labels)
    else:  # MediaPipe decodes and suppresses
        anchors = [
            object_detector.FixedAnchor(x_center=x, y_center=y, width=width, height=height)
            for y, x, height, width in settings["anchors"]
        ]
        decoding = object_detector.TensorsDecodingOptions(
            num_classes=settings["classes"],
            num_boxes=len(anchors),
            num_coords=4,
            keypoint_coord_offset=0,
            num_keypoints=0,
            num_values_per_keypoint=2,  # another number ends the whole process
            x_scale=1,
            y_scale=1,
            w_scale=1,
            h_scale=1,
            apply_exponential_on_box_size=True,
            sigmoid_score=False,
        )
        order = metadata_info.RawDetectionOutputTensorsOrder.LOCATION_SCORE
        schema_of_anchors = object_detector.SsdAnchorsOptions(object_detector.FixedAnchorsSchema(anchors))
        made = writer.create_for_models_without_nms(content, *norm, labels, schema_of_anchors, decoding, order)
    return bytes(made.populate()[0])


def with_own_entry(content: bytes, text: str) -> bytes:
    """The file with our own description as an entry of its metadata."""
    model = read(content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = b"effdense", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return packed(model)


def main(source: str, target: str, description: str) -> None:
    """Finish one file."""
    settings: Settings = json.loads(Path(description).read_text())
    content = Path(source).read_bytes()
    if settings.get("operator"):
        model = read(content)
        with_operator(model, settings)
        content = packed(model)
    content = with_own_entry(content, settings["about"])
    if "labels" in settings:
        content = described(content, settings)
    Path(target).write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
