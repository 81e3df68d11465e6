"""What the Edge TPU's compiler asks of a file, checked operator by operator: the compiler itself runs elsewhere.

Sources: coral.ai/docs/edgetpu/models-intro ("Model requirements", "Supported operations") and .../compiler. The last
compiler (16.0) refuses versions of operators later than its TensorFlow's (google-coral/edgetpu, issue 187); those below
are of TensorFlow 2.8 as remembered, not read from its source: a file that passes here may yet be refused there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deployment.litert.model import Model

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_INTEGERS = ("INT8", "UINT8")
_CONSTANTS = (*_INTEGERS, "INT32")  # also biases, shapes and axes
# The supported operators, and the latest version of each on int8.
_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 4, "L2_NORMALIZATION": 2, "LOGISTIC": 2, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2,
    "MUL": 2, "PACK": 2, "PAD": 2, "PRELU": 1, "QUANTIZE": 2, "REDUCE_MAX": 2, "REDUCE_MIN": 2, "RELU": 2, "RELU6": 2,
    "RELU_N1_TO_1": 1, "RESHAPE": 1, "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "RSQRT": 2, "SLICE": 2,
    "SOFTMAX": 2, "SPACE_TO_DEPTH": 2, "SPLIT": 2, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 1, "STRIDED_SLICE": 2, "SUB": 2,
    "SUM": 2, "TANH": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip
_NEVER_FUSED = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D")
_REDUCING = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
_LONGEST_SOFTMAX = 16_000


class Refused(NamedTuple):
    """An operator that the compiler would leave to the CPU, and with it all that follow.

    Attributes:
        place: among the operators, from 0.
        name: such as CONV_2D.
        reason: why.
    """

    place: int
    name: str
    reason: str


class Report(NamedTuple):
    """What the compiler would make of a file.

    Attributes:
        accelerated: number of operators of the network that it takes.
        refused: the others of the network.
        after: names of the operators on the network's results in float32, which the CPU computes.
    """

    accelerated: int
    refused: tuple[Refused, ...]
    after: tuple[str, ...]

    def line(self) -> str:
        """In one line."""
        if not self.refused:
            after = f"; the CPU computes the {len(self.after)} after them" if self.after else ""
            return f"Edge TPU: takes all {self.accelerated} operators of the network{after}"
        first = self.refused[0]
        return (
            f"Edge TPU: refuses {len(self.refused)} of {self.accelerated + len(self.refused)} operators of the "
            f"network, first number {first.place}, {first.name}: {first.reason}"
        )


def check(path: Path) -> Report:
    """Check a file against the compiler's rules.

    Raises:
        InputError: the file is missing or damaged.
    """
    return check_model(Model.read(path))


def check_model(model: Model) -> Report:
    """Check a model against the compiler's rules; what follows a DEQUANTIZE is no part of the network."""
    refused: list[Refused] = []
    after: list[str] = []
    results: set[int] = set()  # tensors that the CPU computes from results of the network
    accelerated = 0
    for place, operator in enumerate(model.graph.operators):
        name = model.operator_name(operator)
        inputs = [index for index in map(int, operator.inputs) if index >= 0]
        if name == "DEQUANTIZE" or results.intersection(inputs):
            after.append(name)
            results.update(map(int, operator.outputs))
        elif reason := _reason(model, operator, name, inputs):
            refused.append(Refused(place, name, reason))
        else:
            accelerated += 1
    return Report(accelerated, tuple(refused), tuple(after))


def _reason(model: Model, operator: schema.OperatorT, name: str, inputs: Sequence[int]) -> str:
    """Why the compiler refuses an operator; empty if it takes it."""
    outputs = [int(index) for index in operator.outputs]
    values = [index for index in inputs if not model.is_constant(index)]
    if name not in _VERSIONS:
        return "not supported"
    for index in (*values, *outputs):
        if model.type_name(index) not in _INTEGERS:
            return f"{model.type_name(index)} rather than INT8"
        signature = model.graph.tensors[index].shapeSignature
        if signature is not None and any(int(side) < 0 for side in signature):
            return "a size that is not fixed"
        if any(side != 1 for side in model.shape(index)[:-3]):
            return f"more than three dimensions in use, {model.shape(index)}"
    for index in set(inputs).difference(values):
        if model.type_name(index) not in _CONSTANTS:
            return f"a constant of {model.type_name(index)}"
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV") and len(values) > 1:
        return "weights that are not constant"
    if model.version(operator) > _VERSIONS[name]:
        return f"version {model.version(operator)}, above {_VERSIONS[name]}"
    return _reason_of_options(model, operator, name, inputs)


def _reason_of_options(model: Model, operator: schema.OperatorT, name: str, inputs: Sequence[int]) -> str:
    options = operator.builtinOptions
    if name in _NEVER_FUSED and getattr(options, "fusedActivationFunction", False):
        return "a fused activation"
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D") and options.dilationHFactor != options.dilationWFactor:
        return "different dilations in x and y"
    if name == "RESIZE_NEAREST_NEIGHBOR" and (options.halfPixelCenters or options.alignCorners):
        return "cells counted from their centres or corners"
    if name == "STRIDED_SLICE" and len(inputs) > 3 and (_values(model, inputs[3]) != 1).any():
        return "a stride other than 1"
    rank = len(model.shape(inputs[0]))
    if name in _REDUCING and 0 in _values(model, inputs[1]) % rank:
        return "a reduction over images"
    if name == "SPLIT" and 0 in _values(model, inputs[0]) % len(model.shape(inputs[1])):
        return "a split of images"
    if name == "SOFTMAX" and model.shape(inputs[0])[-1] > _LONGEST_SOFTMAX:
        return f"more than {_LONGEST_SOFTMAX} values"
    return ""


def _values(model: Model, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """A constant of integers."""
    data = model.tree.buffers[model.graph.tensors[index].buffer].data
    return np.frombuffer(bytes(data), dtype=np.int32)
