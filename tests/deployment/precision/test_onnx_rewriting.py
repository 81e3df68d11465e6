"""Operators that ONNX Runtime computes faster in int8 give the same values."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from deployment.precision.formats.onnx_rewriting import rewrite  # noqa: E402


def network(axes: list[int], read_twice: bool = False):
    """A convolution, SiLU, and a gate of squeeze-and-excitation on the mean over `axes`."""
    weights = np.random.default_rng(0).normal(size=(2, 4, 4, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "weight"], ["map"]),
        helper.make_node("Sigmoid", ["map"], ["share"]),
        helper.make_node("Mul", ["share", "map"], ["active"]),
        helper.make_node("ReduceMean", ["active", "axes"], ["mean"], keepdims=1),
        helper.make_node("Conv", ["mean", "weight_of_gate"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["gate"]),
        helper.make_node("Mul", ["active", "gate"], ["found"]),
    ]
    found = "found"
    if read_twice:
        nodes.append(helper.make_node("Add", ["found", "share"], ["sum"]))
        found = "sum"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, 6, 5])],
        [helper.make_tensor_value_info(found, TensorProto.FLOAT, [1, 4, 6, 5])],
        [
            onnx.numpy_helper.from_array(weights[0], "weight"),
            onnx.numpy_helper.from_array(weights[1], "weight_of_gate"),
            onnx.numpy_helper.from_array(np.array(axes, dtype=np.int64), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def values(model) -> np.ndarray:
    """What a model gives."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).normal(size=(1, 4, 6, 5)).astype(np.float32)
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize(
    ("axes", "read_twice", "silu_in_float", "kinds"),
    [
        ([2, 3], False, True, {"QuickGelu": 1, "GlobalAveragePool": 1, "Sigmoid": 1, "Mul": 1, "Conv": 2}),
        ([-1, -2], False, True, {"QuickGelu": 1, "GlobalAveragePool": 1, "Sigmoid": 1, "Mul": 1, "Conv": 2}),
        ([3], False, True, {"QuickGelu": 1, "ReduceMean": 1, "Sigmoid": 1, "Mul": 1, "Conv": 2}),
        ([2, 3], True, True, {"GlobalAveragePool": 1, "Sigmoid": 2, "Mul": 2, "Conv": 2, "Add": 1}),
        ([2, 3], False, False, {"GlobalAveragePool": 1, "Sigmoid": 2, "Mul": 2, "Conv": 2}),
    ],
)
def test_the_values_stay(axes, read_twice, silu_in_float, kinds):
    model = network(axes, read_twice)
    expected = values(model)
    rewrite(model, silu_in_float=silu_in_float)
    onnx.checker.check_model(model)
    assert Counter(node.op_type for node in model.graph.node) == kinds
    assert {entry.name for entry in model.graph.initializer} <= {
        name for node in model.graph.node for name in node.input
    }
    np.testing.assert_allclose(values(model), expected, rtol=1e-5, atol=1e-6)
