"""A program as an ONNX file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deployment.export import operators
from engine.exports.files import KEY, About
from engine.outputs import atomic_path

if TYPE_CHECKING:
    from torch.export import ExportedProgram

OPSET = 18  # what TensorRT, OpenVINO and ONNX Runtime of the last three years read


def write_onnx(
    program: ExportedProgram, path: Path, about: About, inputs: Sequence[str], outputs: Sequence[str]
) -> Path:
    """Write a program as one ONNX file, with what it says of itself.

    Args:
        program: the program.
        path: the file.
        about: what it says of itself.
        inputs: names of its inputs.
        outputs: names of its outputs.

    Raises:
        InputError: the file cannot be written.
    """
    import onnx_ir

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of each operator that is not of its own list
    converted = torch.onnx.export(
        program,
        kwargs=dict(program.example_inputs[1]) if program.example_inputs else None,
        input_names=list(inputs),
        output_names=list(outputs),
        opset_version=OPSET,
        custom_translation_table=translations(),
        optimize=True,
        verbose=False,
    )
    assert converted is not None
    model = converted.model
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.name is not None
        assert value.shape is not None
        value.shape = onnx_ir.Shape(_named(value.name, list(value.shape)))
    model.producer_name, model.producer_version = "effdense", about.versions.get("effdense", "")
    model.metadata_props[KEY] = about.to_json()
    for name, text in about.plain().items():
        model.metadata_props[name] = text
    with atomic_path(path) as temporary:
        converted.save(temporary, external_data=False)
    return path


# The names of sizes that are open, for those who read the file.
_AXES: dict[str, tuple[str, ...]] = {
    "images": ("batch", "channels", "height", "width"),
    "sizes_hw": ("batch", "height and width"),
    "boxes_xyxy": ("batch", "detections", "xyxy"),
    "scores": ("batch", "detections"),
    "class_ids": ("batch", "detections"),
    "class_logits": ("batch", "anchors", "classes"),
    "box_deltas": ("batch", "anchors", "deltas"),
    "logits": ("batch", "classes", "height", "width"),
    "class_rows": ("batch", "height", "width"),
}


def _named(name: str, shape: Sequence[object]) -> list[int | str]:
    """The shape of an input or output, with names in place of formulas."""
    return [size if isinstance(size, int) else axis for size, axis in zip(shape, _AXES[name], strict=True)]


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """The ONNX operators of our own (`deployment.export.operators`)."""
    from onnxscript import opset18 as op

    def conv_same(features: object, weight: object, bias: object, stride: int, groups: int) -> object:
        return op.Conv(features, weight, bias, auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)

    def pool_same(features: object) -> object:
        pooled, _ = op.MaxPool(features, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        return pooled

    def suppress(
        boxes_xyxy: object,
        scores: object,
        class_ids: object,
        classes: int,
        iou_threshold: float,
        score_threshold: float,
        max_detections: int,
    ) -> object:
        one = op.Constant(value_ints=[1])
        rows = op.Reshape(op.Constant(value_ints=list(range(classes))), op.Constant(value_ints=[1, classes, 1]))
        of_class = op.Equal(op.Unsqueeze(class_ids, one), rows)
        # (B, K, M): in each class the scores of its own boxes.
        by_class = op.Where(of_class, op.Unsqueeze(scores, one), op.Constant(value_float=0.0))
        chosen = op.NonMaxSuppression(
            boxes_xyxy,
            by_class,
            op.Constant(value_ints=[max_detections]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[score_threshold]),
        )
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, places, op.GatherND(scores, places))

    return {
        torch.ops.effdense.conv_same.default: conv_same,
        torch.ops.effdense.pool_same.default: pool_same,
        torch.ops.effdense.suppress.default: suppress,
    }


_ = operators  # its import registers the operators
