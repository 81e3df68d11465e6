"""Int8 by ONNX Runtime's static quantiser, in its form of pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from deployment.precision.formats.deviations import deviation, some
from deployment.precision.formats.isolation import isolated
from deployment.precision.formats.onnx_rewriting import rewrite
from deployment.precision.formats.processor import saturates
from deployment.precision.layers import Group, Operation, groups_of, last_layers
from deployment.precision.pictures import Pictures
from engine.exports.files import KEY, About

if TYPE_CHECKING:
    import onnxruntime
    from onnx import ModelProto, NodeProto
    from onnxruntime.quantization import CalibrationDataReader

# Layers, and what stands between them. In float each of these would need its values converted there and back.
KINDS = ("Conv", "Gemm", "MatMul", "Clip", "Relu", "Sigmoid", "Mul", "Add", "MaxPool", "Resize", "GlobalAveragePool")
_GIVEN = "given/"  # before the names of values that are given to a graph in place of its own


class OnnxInt8:
    """An ONNX file that can be written in int8, whole or in parts.

    Args:
        source: the float file.
        about: what it says of itself.
        pictures: pictures that set the ranges of values.
        beside: a folder for files in between.
    """

    def __init__(self, source: Path, about: About, pictures: Pictures, beside: Path) -> None:
        import onnx

        self._about, self._pictures, self._beside = about, pictures, beside
        self._plain = beside / "plain.onnx"
        with isolated():
            _fold(source, self._plain)
        self._model: ModelProto = onnx.load(self._plain)
        rewrite(self._model, silu_in_float=not saturates())
        onnx.save(self._model, self._plain)
        self._inputs = [entry.name for entry in self._model.graph.input]
        self._operations = operations(self._model)
        self._proposed = tuple(proposed(self._model))
        self._groups = groups_of(self._operations)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups of layers, from the image on."""
        return self._groups

    def write(self, path: Path, floats: Collection[str]) -> None:
        """Write the file in int8; see `deployment.precision.guard.Int8`."""
        import onnx

        model = self._quantised(floats)
        entries = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, {**entries, KEY: self._about.to_json(), **self._about.plain()})
        model.producer_name, model.producer_version = "effdense", self._about.versions.get("effdense", "")
        onnx.save(model, path)

    def deviations(self, many: Sequence[Collection[str]]) -> list[float]:
        """How far int8 moves the results of the last layers; see `deployment.precision.guard.Int8`."""
        return [deviation(self._results(self._quantised(floats)), self._expected) for floats in many]

    @cached_property
    def _expected(self) -> list[npt.NDArray[np.float32]]:
        return self._results(self._model)

    def _quantised(self, floats: Collection[str]) -> ModelProto:
        import onnx

        nodes = [name for group in self._groups for name in sorted(group.operations) if name not in floats]
        path = self._beside / "quantised.onnx"
        with isolated():
            from onnxruntime.quantization import QuantType, quantize_static

            quantize_static(
                self._plain,
                path,
                _reader(self._pictures, self._inputs),
                op_types_to_quantize=list(KINDS),
                per_channel=True,
                reduce_range=saturates(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=nodes,
                # The ranges of all values are found once.
                calibration_cache_path=self._beside / "ranges.json",
            )
        return onnx.load(path)

    def _results(self, model: ModelProto) -> list[npt.NDArray[np.float32]]:
        """What the last layers give for some pictures, one after the other; of R-CNN for the float file's proposals."""
        kinds = {node.name: node for node in model.graph.node}
        names = [kinds[name].output[0] for name in last_layers(self._operations)]
        session = _shown(model, names, self._proposed)
        found = []
        for number, place in enumerate(some(len(self._pictures))):
            given = self._pictures[place].given(self._inputs)
            if self._proposed:
                given |= self._given[number]
            found += session.run(names, given)
        return found

    @cached_property
    def _given(self) -> list[dict[str, npt.NDArray[np.generic]]]:
        """What the float file proposes for the same pictures, by the names that `_shown` asks for it."""
        session = _shown(self._model, self._proposed, ())
        pictures = (self._pictures[place].given(self._inputs) for place in some(len(self._pictures)))
        names = [_GIVEN + name for name in self._proposed]
        return [dict(zip(names, session.run(self._proposed, given), strict=True)) for given in pictures]


def _fold(source: Path, target: Path) -> None:
    """Write a file with constants folded, and norms taken up by the convolutions before them."""
    import onnxruntime

    options = _session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _session_options() -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return options


def _shown(model: ModelProto, names: Sequence[str], given: Collection[str]) -> onnxruntime.InferenceSession:
    """A session that gives some values of a model, and takes some others in place of its own."""
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    kinds = {"RoiAlign": (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64), "Where": (onnx.TensorProto.BOOL,)}
    taken: dict[str, int] = {}
    for node in shown.graph.node if given else ():
        places = _places_of_proposals(node)
        for place, kind in zip(places, kinds.get(node.op_type, ()), strict=True):
            if node.input[place] in given:
                taken[node.input[place]] = kind
                node.input[place] = _GIVEN + node.input[place]
    shown.graph.input.extend(
        onnx.helper.make_tensor_value_info(_GIVEN + name, kind, None) for name, kind in taken.items()
    )
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return onnxruntime.InferenceSession(
        shown.SerializeToString(), _session_options(), providers=["CPUExecutionProvider"]
    )


def _places_of_proposals(node: NodeProto) -> tuple[int, ...]:
    """Which inputs of an operation say where boxes lie, or which of several maps they are cut out of."""
    return {"RoiAlign": (1, 2), "Where": (0,)}.get(node.op_type, ())


def proposed(model: ModelProto) -> list[str]:
    """The values of R-CNN's file that say where proposals lie, each once; empty for other networks."""
    if not any(node.op_type == "RoiAlign" for node in model.graph.node):
        return []
    made = {name for node in model.graph.node for name in node.output}
    names = (node.input[place] for node in model.graph.node for place in _places_of_proposals(node))
    return [name for name in dict.fromkeys(names) if name in made]


def operations(model: ModelProto) -> list[Operation]:
    """All operations of a file; only in one of floats do weights have the names that the network gave them.

    What is cut out of maps does not read where: the pixels of a box are no numbers for eight bits.
    """
    cut = {*proposed(model)}
    makers = {name: node.name for node in model.graph.node for name in node.output}
    constants = {entry.name for entry in model.graph.initializer}
    found = []
    for node in model.graph.node:
        linear = node.op_type in ("Gemm", "MatMul") and node.input[1] in constants
        weight = node.input[1] if node.op_type == "Conv" or linear else None
        places = _places_of_proposals(node) if cut else ()
        read = [name for place, name in enumerate(node.input) if place not in places and name in makers]
        found.append(Operation(node.name, weight, tuple(makers[name] for name in read)))
    return found


def _reader(pictures: Pictures, inputs: list[str]) -> CalibrationDataReader:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives one picture after the other."""

        def __init__(self) -> None:
            self._places = iter(range(len(pictures)))

        def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
            place = next(self._places, None)
            return None if place is None else pictures[place].given(inputs)

    return Reader()
