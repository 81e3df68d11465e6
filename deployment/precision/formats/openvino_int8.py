"""Int8 by NNCF, for OpenVINO's files."""

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
from deployment.precision.formats.processor import saturates
from deployment.precision.layers import Group, Operation, groups_of, last_layers
from deployment.precision.pictures import Pictures
from engine.exports.files import KEY, About

if TYPE_CHECKING:
    from openvino import CompiledModel, Input, Model, Node

# OpenVINO has no depthwise convolution of int8 that is faster, and computes activations in float as part of the
# convolution before them, unless values between the two are of int8: then it converts there and back.
KINDS = ("Convolution", "MatMul")


class OpenvinoInt8:
    """A file of OpenVINO that can be written in int8, whole or in parts.

    Args:
        source: the float .xml file.
        about: what the new file says of itself.
        pictures: pictures that set the ranges of values.
    """

    def __init__(self, source: Path, about: About, pictures: Pictures) -> None:
        self._source, self._about, self._pictures = source, about, pictures
        self._inputs = [entry.any_name for entry in self._read().inputs]
        self._operations = operations(self._read())
        self._groups = groups_of(self._operations)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups of layers, from the image on."""
        return self._groups

    def write(self, path: Path, floats: Collection[str]) -> None:
        """Write the file in int8; see `deployment.precision.guard.Int8`."""
        import openvino

        model = self._quantised(floats, len(self._pictures), corrected=True)
        for place in (KEY, "effdense_plain"):
            if place in model.rt_info:
                del model.rt_info[place]
        model.set_rt_info(self._about.to_json(), [KEY])
        for name, text in self._about.plain().items():
            model.set_rt_info(text, ["effdense_plain", name])
        openvino.save_model(model, path, compress_to_fp16=False)

    def deviations(self, many: Sequence[Collection[str]]) -> list[float]:
        """How far int8 moves the results of the last layers; see `deployment.precision.guard.Int8`."""
        few = len(some(len(self._pictures)))
        return [
            deviation(self._results(self._quantised(floats, few, corrected=False)), self._expected) for floats in many
        ]

    @cached_property
    def _expected(self) -> list[npt.NDArray[np.float32]]:
        return self._results(self._read())

    def _read(self) -> Model:
        import openvino

        return openvino.Core().read_model(self._source)

    def _quantised(self, floats: Collection[str], count: int, *, corrected: bool) -> Model:
        wanted = frozenset(name for group in self._groups for name in group.operations) - frozenset(floats)
        model = self._read()
        wanted &= {node.get_friendly_name() for node in model.get_ops() if node.get_type_name() in KINDS}
        present = {node.get_friendly_name() for node in model.get_ops()}
        with isolated():
            import nncf
            from nncf.quantization.advanced_parameters import OverflowFix

            places = some(len(self._pictures), count)
            return nncf.quantize(
                model,
                nncf.Dataset([self._pictures[place] for place in places], lambda picture: picture.given(self._inputs)),
                preset=nncf.QuantizationPreset.MIXED,  # SiLU gives few values below zero and many above
                subset_size=count,
                ignored_scope=nncf.IgnoredScope(names=sorted(present - wanted - _constants(model)), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if saturates() else OverflowFix.FIRST_LAYER,
                    disable_bias_correction=not corrected,
                ),
            )

    def _results(self, model: Model) -> list[npt.NDArray[np.float32]]:
        """What the last layers give for some pictures, one after the other."""
        import openvino

        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        ends = [nodes[name].output(0) for name in last_layers(self._operations)]
        given_ones = [_given(name, inputs) for name, inputs in _proposals(model).items()]
        compiled = _compiled(openvino.Model(ends, [*model.get_parameters(), *given_ones], "shown"))
        found = []
        for number, place in enumerate(some(len(self._pictures))):
            given = self._pictures[place].given(self._inputs)
            if given_ones:
                given |= self._proposed[number]
            answers = compiled(given)
            found += [np.array(answers[end]) for end in compiled.outputs]
        return found

    @cached_property
    def _proposed(self) -> list[dict[str, npt.NDArray[np.generic]]]:
        """What the float file proposes for the same pictures, by the names that a graph is given it by."""
        import openvino

        model = self._read()
        wanted = _proposals(model)
        ends = [inputs[0].get_source_output() for inputs in wanted.values()]
        compiled = _compiled(openvino.Model(ends, model.get_parameters(), "proposals"))
        found = []
        for place in some(len(self._pictures)):
            answers = compiled(self._pictures[place].given(self._inputs))
            values = (np.array(answers[end]) for end in compiled.outputs)
            found.append(dict(zip(wanted, values, strict=True)))
        return found


def _compiled(model: Model) -> CompiledModel:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return openvino.Core().compile_model(model, "CPU", settings)


def _places_of_proposals(node: Node) -> tuple[int, ...]:
    """Which inputs of an operation say where boxes lie, or which of several maps they are cut out of."""
    return {"ROIAlign": (1, 2), "Select": (0,)}.get(node.get_type_name(), ())


def _proposals(model: Model) -> dict[str, list[Input]]:
    """The inputs by which R-CNN's graph reads what it proposes, by the values' names; empty for other networks."""
    found: dict[str, list[Input]] = {}
    if not any(node.get_type_name() == "ROIAlign" for node in model.get_ops()):
        return found
    for node in model.get_ordered_ops():
        for place in _places_of_proposals(node):
            value = node.input(place).get_source_output()
            if value.get_node().get_type_name() != "Constant":
                name = f"given/{value.get_node().get_friendly_name()}/{value.get_index()}"
                found.setdefault(name, []).append(node.input(place))
    return found


def _given(name: str, inputs: Sequence[Input]) -> Node:
    """A parameter that is read in place of a value that a graph computes."""
    import openvino

    value = inputs[0].get_source_output()
    parameter = openvino.op.Parameter(value.get_element_type(), value.get_partial_shape())
    parameter.set_friendly_name(name)
    parameter.output(0).set_names({name})
    for each in inputs:
        each.replace_source_output(parameter.output(0))
    return parameter


def _constants(model: Model) -> set[str]:
    kinds = ("Constant", "Parameter", "Result")
    return {node.get_friendly_name() for node in model.get_ops() if node.get_type_name() in kinds}


def operations(model: Model) -> list[Operation]:
    """All operations of a file; only in one of floats do weights have the names that the network gave them.

    What is cut out of maps does not read where: the pixels of a box are no numbers for eight bits.
    """
    proposes = any(node.get_type_name() == "ROIAlign" for node in model.get_ops())
    found = []
    for node in model.get_ordered_ops():
        places = _places_of_proposals(node) if proposes else ()
        read = [value for place, value in enumerate(node.inputs()) if place not in places]
        sources = tuple(value.get_source_output().get_node().get_friendly_name() for value in read)
        weighs = node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")
        found.append(Operation(node.get_friendly_name(), _weight(node) if weighs else None, sources))
    return found


def _weight(layer: Node) -> str | None:
    """The name of the constant that a layer's weight is, by way of shapes and norms; None if both sides are values."""
    node = layer.input(1).get_source_output().get_node()
    while node.get_type_name() != "Constant":
        if node.get_type_name() == "Parameter":
            return None
        node = node.input(0).get_source_output().get_node()
    name: str = node.get_friendly_name()
    return name
