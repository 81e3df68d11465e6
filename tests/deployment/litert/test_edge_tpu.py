"""The Edge TPU compiler's rules, each broken in turn by a file of one operator."""

from __future__ import annotations

import numpy as np
import pytest

from deployment.litert.edge_tpu import check, check_model
from deployment.litert.editing import append_suppression, give_floats, take_pixels
from deployment.litert.model import Model
from deployment.litert.options import LitertOptions
from engine.errors import InputError
from tests.deployment.litert.toy import ROWS, anchors_yxhw, empty, of_boxes

SHAPE = (1, 4, 4, 8)


def quantised(model: Model, shape: tuple[int, ...] = SHAPE, kind: str = "INT8") -> int:
    return model.add_tensor(f"t{len(model.graph.tensors)}", kind, shape, quantisation=(0.1, 0))


def numbers(model: Model, *values: int) -> int:
    data = np.array(values, dtype=np.int32)
    return model.add_tensor(f"t{len(model.graph.tensors)}", "INT32", data.shape, data=data)


def one(name: str, table: str | None, *, others=(), kind="INT8", shape=SHAPE, version=2, **fields: object) -> Model:
    """A file with one operator."""
    model = empty()
    inputs = [quantised(model, shape, kind), *(numbers(model, *values) for values in others)]
    model.add_operator(name, inputs, [quantised(model, shape, kind)], version=version, table=table, **fields)
    return model


def two(name: str, table: str, **fields: object) -> Model:
    model = empty()
    model.add_operator(name, [quantised(model), quantised(model)], [quantised(model)], version=2, table=table, **fields)
    return model


def reasons(model: Model) -> list[str]:
    return [refused.reason for refused in check_model(model).refused]


@pytest.mark.parametrize(
    "model",
    [
        two("ADD", "AddOptions"),
        two("CONCATENATION", "ConcatenationOptions", axis=3),
        one("LOGISTIC", None),
        one("MAX_POOL_2D", "Pool2DOptions"),
        one("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", others=[(4, 4)]),
        one("MEAN", "ReducerOptions", others=[(1, 2)]),
        one("STRIDED_SLICE", "StridedSliceOptions", others=[(0,) * 4, (1,) * 4, (1,) * 4]),
    ],
    ids=lambda model: model.operator_name(model.graph.operators[0]),
)
def test_what_it_takes(model):
    report = check_model(model)
    assert (report.accelerated, report.refused, report.after) == (1, (), ())
    assert report.line() == "Edge TPU: takes all 1 operators of the network"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (one("ARG_MAX", "ArgMaxOptions"), "not supported"),
        (one("LOGISTIC", None, kind="FLOAT32"), "FLOAT32 rather than INT8"),
        (one("LOGISTIC", None, kind="INT16"), "INT16 rather than INT8"),
        (one("LOGISTIC", None, version=3), "version 3, above 2"),
        (one("LOGISTIC", None, shape=(1, 2, 4, 4, 8)), "more than three dimensions in use, (1, 2, 4, 4, 8)"),
        (one("LOGISTIC", None, shape=(2, 4, 4, 8)), "more than three dimensions in use, (2, 4, 4, 8)"),
        (one("MAX_POOL_2D", "Pool2DOptions", fusedActivationFunction=3), "a fused activation"),
        (two("CONCATENATION", "ConcatenationOptions", fusedActivationFunction=1), "a fused activation"),
        (
            one("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", others=[(4, 4)], halfPixelCenters=True),
            "cells counted from their centres or corners",
        ),
        (one("MEAN", "ReducerOptions", others=[(0, 1)]), "a reduction over images"),
        (one("MEAN", "ReducerOptions", others=[(-4,)]), "a reduction over images"),
        (
            one("STRIDED_SLICE", "StridedSliceOptions", others=[(0,) * 4, (4,) * 4, (1, 2, 1, 1)]),
            "a stride other than 1",
        ),
        (one("SOFTMAX", "SoftmaxOptions", shape=(1, 16_001)), "more than 16000 values"),
        (two("CONV_2D", "Conv2DOptions"), "weights that are not constant"),
    ],
    ids=lambda value: value.replace(" ", "_")[:24] if isinstance(value, str) else "",
)
def test_what_it_refuses(model, reason):
    report = check_model(model)
    assert [refused.reason for refused in report.refused] == [reason]
    assert report.accelerated == 0
    assert report.line().startswith("Edge TPU: refuses 1 of 1 operators of the network, first number 0, ")
    assert report.line().endswith(reason)


def test_weights_in_float_are_refused():
    model = empty()
    weights = model.add_tensor("weights", "FLOAT32", (8, 1, 1, 8), data=np.ones((8, 1, 1, 8), dtype=np.float32))
    model.add_operator("CONV_2D", [quantised(model), weights], [quantised(model)], table="Conv2DOptions")
    assert reasons(model) == ["a constant of FLOAT32"]


def test_unequal_dilations_are_refused():
    model = empty()
    weights = model.add_tensor("weights", "INT8", (8, 1, 1, 8), data=np.ones((8, 1, 1, 8), dtype=np.int8))
    ends = [quantised(model), weights], [quantised(model)]
    model.add_operator("CONV_2D", *ends, table="Conv2DOptions", dilationHFactor=2, dilationWFactor=1)
    assert reasons(model) == ["different dilations in x and y"]


def test_sizes_that_are_not_fixed_are_refused():
    model = one("LOGISTIC", None)
    model.graph.tensors[0].shapeSignature = np.array([-1, *SHAPE[1:]], dtype=np.int32)
    assert reasons(model) == ["a size that is not fixed"]


def test_what_follows_the_network_stays_on_the_cpu(tmp_path):
    """Pixels in, boxes out: the network between them is int8, and the suppression is not counted against it."""
    model = empty()
    ends = [quantised(model, (1, ROWS, 4)) for _ in range(2)]
    outputs = [quantised(model, (1, ROWS, 4)) for _ in range(2)]
    for start, end in zip(ends, outputs, strict=True):
        model.add_operator("LOGISTIC", [start], [end], version=2)
    model.graph.inputs, model.graph.outputs = np.array(ends, np.int32), np.array(outputs, np.int32)
    take_pixels(model)
    give_floats(model)
    append_suppression(model, anchors_yxhw(), 4, LitertOptions())
    path = tmp_path / "boxes.tflite"
    path.write_bytes(model.to_bytes())
    report = check(path)
    assert (report.accelerated, report.refused) == (3, ())  # QUANTIZE of the pixels too
    assert report.after[:2] == ("DEQUANTIZE", "DEQUANTIZE")
    assert report.after[-1] == "TFLite_Detection_PostProcess"
    assert report.line() == (
        f"Edge TPU: takes all 3 operators of the network; the CPU computes the {len(report.after)} after them"
    )


def test_a_file_in_float_is_refused_as_a_whole():
    report = check_model(of_boxes())
    assert report.accelerated == 0
    assert [refused.name for refused in report.refused] == ["CAST", "RESHAPE", "MUL", "SUB"]


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        check(tmp_path / "missing.tflite")
