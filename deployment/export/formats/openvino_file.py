"""A program as OpenVINO's files, by way of ONNX, which keeps every open size and the suppression."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import OutputError
from engine.exports.files import KEY, About
from engine.outputs import make_folder

if TYPE_CHECKING:
    from openvino import Model, Node, Output


def write_openvino(onnx_file: Path, path: Path, about: About) -> Path:
    """Write OpenVINO's .xml and .bin from an ONNX file.

    Args:
        onnx_file: what `write_onnx` wrote.
        path: the .xml file; the .bin file lies beside it.
        about: what it says of itself.

    Raises:
        InputError: the files cannot be written.
    """
    import openvino

    model = openvino.Core().read_model(onnx_file)
    _as_pillow(model)
    model.set_rt_info(about.to_json(), [KEY])
    for name, text in about.plain().items():
        model.set_rt_info(text, ["effdense_plain", name])
    folder = make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".openvino") as beside:
        made = Path(beside, path.name)
        try:
            openvino.save_model(model, made, compress_to_fp16=about.precision == "float16")
            # The weights first: a reader of the old .xml may then fail, but never reads half a file.
            for suffix in (".bin", ".xml"):
                os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
        except (OSError, RuntimeError) as error:
            msg = f"cannot write '{path}': {error}. Give a path that can be written."
            raise OutputError(msg) from error
    return path


def _as_pillow(model: Model) -> None:
    """Let pictures change their size as the graph asks for it.

    The reader of ONNX files passes over `antialias`. OpenVINO's own operator of that kind (`bilinear_pillow`) prepares
    itself for each new size of a picture, which takes seconds, and rounds in another way than Pillow.
    """
    from openvino import opset11 as op

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not node.get_attributes()["antialias"]:
            continue
        images, size_hw = (node.input(place).get_source_output() for place in (0, 1))
        own_hw = op.gather(op.shape_of(images), op.constant([2, 3]), op.constant(0))
        rows, columns = (_weights(_one(own_hw, axis), _one(size_hw, axis)) for axis in (0, 1))
        wide = _rounded(op.matmul(op.convert(images, "f32"), columns, False, True))
        resized = op.convert(_rounded(op.matmul(rows, wide, False, False)), "u8")
        resized.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(resized.output(0))


def _weights(own: Node, new: Node) -> Node:
    """What each of `own` pixels weighs in each of `new` ones, (new, own): Pillow's triangle, normalised.

    A pixel weighs max(0, 1 - distance / reach) with a reach of one pixel of the coarser side. Multiplied by twice the
    larger number of pixels, distances are whole numbers, which floats of 32 bits hold.
    """
    from openvino import opset11 as op

    zero, one, two = (op.constant(np.float32(value)) for value in (0, 1, 2))
    many, few = (op.convert(each, "f32") for each in (own, new))
    centres = [op.add(op.multiply(op.range(zero, each, one, "f32"), two), one) for each in (many, few)]  # half pixels
    theirs = op.unsqueeze(op.multiply(centres[0], few), op.constant(0))
    ours = op.unsqueeze(op.multiply(centres[1], many), op.constant(1))
    apart = op.absolute(op.subtract(theirs, ours))
    weights = op.relu(op.subtract(op.multiply(op.maximum(many, few), two), apart))
    return op.divide(weights, op.reduce_sum(weights, op.constant([1]), keep_dims=True))


def _one(sizes: Output, axis: int) -> Node:
    from openvino import opset11 as op

    return op.gather(sizes, op.constant(axis), op.constant(0))


def _rounded(values: Node) -> Node:
    from openvino import opset11 as op

    return op.floor(op.add(values, op.constant(np.float32(0.5))))
