"""Int8 by torchao's PT2E and XNNPACK's quantiser, for ExecuTorch's files."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram
from torch.fx import Node

from deployment.export.graphs import graph_of
from deployment.export.kinds.contract import Form
from deployment.export.lowering.convert import lower
from deployment.export.lowering.program import plain_program
from deployment.networks import AnyNetwork
from deployment.precision.formats.deviations import deviation, some
from deployment.precision.layers import Group, Operation, groups_of
from deployment.precision.pictures import Pictures
from deployment.setup.environment import EXECUTORCH, tell_user
from engine.exports.files import About

SCRIPT = Path(__file__).parents[2] / "executorch" / "quantising_script.py"
# What the quantiser has a form of int8 for.
KINDS = frozenset(("conv2d", "conv_transpose2d", "hardtanh", "relu", "add", "mul", "cat", "adaptive_avg_pool2d"))


class Job(NamedTuple):
    """What the script is to make.

    Attributes:
        int8: names of operations; None leaves all in float.
        canvases: places of the pictures that set the ranges of values.
        target: a .pt2 file, or an .npz file of results.
    """

    int8: list[str] | None
    canvases: list[int]
    target: str


class ExecutorchInt8:
    """A network that can be written in int8, whole or in parts, without a suppression.

    Attributes:
        kinds: what the quantiser has a form of int8 for.

    Args:
        network: the network.
        about: what the file says of itself; names the size and number of its images.
        pictures: pictures that set the ranges of values.
        beside: a folder for files in between.
    """

    kinds = KINDS

    def __init__(self, network: AnyNetwork, about: About, pictures: Pictures, beside: Path) -> None:
        assert about.image_hw is not None
        assert about.batch is not None
        self._about, self._pictures, self._beside = about, pictures, beside
        self._program, self._canvases = beside / "plain.pt2", beside / "canvases.npy"
        form = Form(None, about.argmax, about.image_hw)
        program = plain_program(graph_of(network, form), about.image_hw, about.batch)
        torch.export.save(program, self._program)
        # In the file rather than in memory: several hundred large canvases are gigabytes.
        shape = (len(pictures), about.batch, 3, *about.image_hw)
        canvases = np.lib.format.open_memmap(self._canvases, "w+", dtype=np.uint8, shape=shape)
        for place in range(len(pictures)):
            canvases[place] = pictures[place].images
        canvases.flush()
        self._groups = groups_of(operations(program))
        self._kinds = {node.name: _kind(node) for node in program.graph.nodes if node.op == "call_function"}

    @property
    def backend(self) -> str:
        """Whose quantiser it is, see the script."""
        return "xnnpack"

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups of layers, from the image on."""
        return self._groups

    def write(self, path: Path, floats: Collection[str], tell: Callable[[str], None] = tell_user) -> None:
        """Write the file in int8; see `deployment.precision.guard.Int8`."""
        with tempfile.TemporaryDirectory(dir=self._beside) as folder:
            lower(self.write_program(Path(folder, "int8.pt2"), floats), path, self._about, tell)

    def deviations(self, many: Sequence[Collection[str]]) -> list[float]:
        """How far int8 moves the results; see `deployment.precision.guard.Int8`."""
        expected = self._expected
        return [deviation(found, expected) for found in self._results([self._int8(floats) for floats in many])]

    def write_program(self, path: Path, floats: Collection[str]) -> Path:
        """Write the program in int8 as a .pt2 file, before any backend takes parts of it.

        Args:
            path: the file.
            floats: names of the operations that stay in float.
        """
        self._run([Job(self._int8(floats), list(range(len(self._pictures))), str(path))])
        return path

    @cached_property
    def _expected(self) -> list[npt.NDArray[np.float32]]:
        return self._results([None])[0]

    def _int8(self, floats: Collection[str]) -> list[str]:
        names = (name for group in self._groups for name in sorted(group.operations))
        return [name for name in names if name not in floats and self._kinds[name] in self.kinds]

    def _results(self, many: Sequence[list[str] | None]) -> list[list[npt.NDArray[np.float32]]]:
        """What the program gives for some pictures, for each choice of operations in int8."""
        few = some(len(self._pictures))
        with tempfile.TemporaryDirectory(dir=self._beside) as folder:
            jobs = [Job(names, few, str(Path(folder, f"{number}.npz"))) for number, names in enumerate(many)]
            self._run(jobs)
            found = []
            for job in jobs:
                with np.load(job.target) as content:
                    found.append([content[name] for name in content.files])
        return found

    def _run(self, jobs: Sequence[Job]) -> None:
        with tempfile.TemporaryDirectory(dir=self._beside) as folder:
            asked = Path(folder, "jobs.json")
            asked.write_text(json.dumps([job._asdict() for job in jobs]))
            EXECUTORCH.run(SCRIPT, [self._program, self._canvases, asked, self.backend])


def operations(program: ExportedProgram) -> list[Operation]:
    """All operations of a program, with the weights' names as the network gave them."""
    signature = program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        sources = tuple(each.name for each in node.all_input_nodes if each.op == "call_function")
        weight = None
        if node.target == torch.ops.aten.conv2d.default:
            given = node.args[1]
            assert isinstance(given, Node)
            weight = tensors.get(given.name)
        found.append(Operation(node.name, weight, sources))
    return with_own_names(found)


def with_own_names(found: Sequence[Operation]) -> list[Operation]:
    """The names of a head's layers, for those of a head with convolutions of its own for each level."""
    level = re.compile(r"(.*_head)\.levels\.\d+\.(\d+)\.([01])\.(\w+)$")
    matches = [level.match(each.weight or "") for each in found]
    last = max((int(match[2]) for match in matches if match), default=0)
    named = []
    for each, match in zip(found, matches, strict=True):
        weight = each.weight
        if match:
            place = "predict" if int(match[2]) == last else f"convs.{int(match[2]) // 2}"
            weight = f"{match[1]}.{place}.{('depthwise', 'pointwise')[int(match[3])]}.{match[4]}"
        named.append(each._replace(weight=weight))
    return named


def _kind(node: Node) -> str:
    """The name of an operator, as `conv2d`."""
    return str(node.target).removeprefix("aten.").partition(".")[0]
