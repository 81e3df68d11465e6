"""The same values by operators that ONNX Runtime computes faster between values of int8."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_CONTRIBUTED = "com.microsoft"


def rewrite(model: ModelProto, *, silu_in_float: bool) -> None:
    """Replace operators in place.

    - The mean over height and width, for squeeze-and-excitation: ReduceMean has no form for int8, and is slow where
      the channels come last, as they do there. GlobalAveragePool has one.
    - SiLU, a product with a sigmoid, by choice: in float ONNX Runtime makes one operator of the two, but it cannot if
      each of them has its own conversion to float. QuickGelu with alpha 1 is that one. It is an operator of ONNX
      Runtime, not of the standard.

    Args:
        model: a float file.
        silu_in_float: compute SiLU in float. D0 at 512 px so takes .95 of its time with VNNI, and 1.24 of it with AVX2
            only (`benchmarks/RESULTS.md`).
    """
    _pool(model)
    if silu_in_float:
        _join_silu(model)
    read = {name for node in model.graph.node for name in node.input}
    for entry in [entry for entry in model.graph.initializer if entry.name not in read]:
        model.graph.initializer.remove(entry)  # ONNX Runtime would warn of it


def _pool(model: ModelProto) -> None:
    import onnx

    constants = {entry.name: entry for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = onnx.numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
        keeps = all(entry.i for entry in node.attribute if entry.name == "keepdims")
        if keeps and sorted(axis % 4 for axis in axes) == [2, 3]:  # every map here is (batch, channels, height, width)
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def _join_silu(model: ModelProto) -> None:
    import onnx

    nodes = model.graph.node
    sigmoids = {node.output[0]: node for node in nodes if node.op_type == "Sigmoid"}
    readers = Counter(name for node in nodes for name in node.input)
    readers.update(entry.name for entry in model.graph.output)
    joined: list[NodeProto] = []
    for node in nodes:
        sigmoid = _gate(node, sigmoids)
        if sigmoid is None or readers[sigmoid.output[0]] > 1:
            continue
        value = sigmoid.input[0]
        node.op_type, node.domain = "QuickGelu", _CONTRIBUTED
        del node.input[:], node.attribute[:]
        node.input.append(value)
        node.attribute.append(onnx.helper.make_attribute("alpha", 1.0))
        joined.append(sigmoid)
    for node in joined:
        nodes.remove(node)
    if joined and _CONTRIBUTED not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(_CONTRIBUTED, 1))


def _gate(node: NodeProto, sigmoids: dict[str, NodeProto]) -> NodeProto | None:
    """The sigmoid of a value that a product multiplies with that value."""
    if node.op_type != "Mul":
        return None
    for value, gate in (tuple(node.input), tuple(node.input)[::-1]):
        if gate in sigmoids and sigmoids[gate].input[0] == value:
            return sigmoids[gate]
    return None
