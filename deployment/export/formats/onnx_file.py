"""A program as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deployment.export.formats.onnx_operators import translations
from engine.exports.files import KEY, About
from engine.exports.quiet import quiet
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
    with quiet():  # the exporter warns of each operator that is not of its own list
        import onnx_ir

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
    "detections": ("detections", "fields"),
    "class_logits": ("batch", "anchors", "classes"),
    "box_deltas": ("batch", "anchors", "deltas"),
    "logits": ("batch", "classes", "height", "width"),
    "class_rows": ("batch", "height", "width"),
    "masks": ("batch", "detections", "rows", "columns"),
    "probabilities": ("batch", "classes"),
    "embeddings": ("batch", "channels"),
}


def _named(name: str, shape: Sequence[object]) -> list[int | str]:
    """The shape of an input or output, with names in place of formulas."""
    return [size if isinstance(size, int) else axis for size, axis in zip(shape, _AXES[name], strict=True)]
