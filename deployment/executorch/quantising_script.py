"""Makes a program of torch.export one of int8 by torchao's PT2E, run by the Python of an environment of its own.

That environment holds ExecuTorch and none of this project's packages, so that this script imports none of them.
Arguments: the .pt2 file, a .npy file of canvases (N, B, 3, H, W) uint8, a JSON file with a list of jobs, and whose
quantiser it is: `xnnpack`; `x86`, which is Inductor's; or `x86_narrow`, the same with activations of seven bits. Each
job has `int8`, the names of the operations that become int8; `canvases`, the places of those that set the ranges of
values; and `target`: a .pt2 file to write, or an .npz file of what the program gives for these canvases, before classes
are chosen. A job whose `int8` is null leaves the program as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import Quantizer


def main(source: str, canvases: str, jobs: str, backend: str) -> None:
    """Do the jobs."""
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    program = constant_prop_pass(torch.export.load(source))
    given = np.load(canvases, mmap_mode="r")
    for job in json.loads(Path(jobs).read_text()):
        images = [torch.from_numpy(np.array(given[place])) for place in job["canvases"]]
        with torch.no_grad():
            module = _module(program, job["int8"], images, backend)
            if job["target"].endswith(".npz"):
                np.savez(job["target"], *_results(module, images))
            else:
                _leave_unused_out(module)
                torch.export.save(torch.export.export(module, (), {"images": images[0]}), job["target"])


def _module(
    program: ExportedProgram, names: Sequence[str] | None, images: Sequence[torch.Tensor], backend: str
) -> GraphModule:
    """The program as a module, with the named operations in int8."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    module = program.module(check_guards=False)
    if names is None:
        return module
    missing = set(names) - {node.name for node in module.graph.nodes}
    if missing:
        msg = f"the program has no operations {sorted(missing)[:5]}"
        raise ValueError(msg)
    chosen = frozenset(names)
    quantiser = _xnnpack(chosen) if backend == "xnnpack" else _x86(chosen, narrow=backend == "x86_narrow")
    prepared = prepare_pt2e(module, quantiser)
    for each in images:
        prepared(images=each)
    made: GraphModule = convert_pt2e(prepared)
    return made


def _xnnpack(chosen: Collection[str]) -> Quantizer:
    """XNNPACK's quantiser for the named operations."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer, xnnpack_quantizer_utils

    def cuts(node: Node) -> bool:
        return node.target in (torch.ops.aten.relu.default, torch.ops.aten.hardtanh.default)

    # XNNPACK computes ReLU6 as part of a convolution, as it does ReLU; the quantiser would round the values before it,
    # whose range is many times as wide.
    xnnpack_quantizer_utils.is_relu_node = cuts
    annotators = xnnpack_quantizer_utils.OP_TO_ANNOTATOR
    if not isinstance(annotators["cat"], partial):
        annotators["cat"] = partial(_chosen_cats, annotators["cat"])
    quantiser = xnnpack_quantizer.XNNPACKQuantizer()
    quantiser.set_global(xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True))
    made: Quantizer = quantiser.set_filter_function(lambda node: node.op != "call_function" or node.name in chosen)
    return made


def _chosen_cats(
    own: Callable[..., object], module: GraphModule, config: object, is_chosen: Callable[[Node], bool]
) -> object:
    """The quantiser's own choice of concatenations, which overlooks what it is told to leave in float."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer_utils as utils

    cats = [node for node in module.graph.nodes if node.target == torch.ops.aten.cat.default]
    left = [node for node in cats if not is_chosen(node)]
    for node in left:  # passed over, as if it were done
        node.meta[utils.Q_ANNOTATION_KEY] = utils.QuantizationAnnotation(_annotated=True)
    found = own(module, config, is_chosen)
    for node in left:
        del node.meta[utils.Q_ANNOTATION_KEY]
    return found


def _x86(chosen: Collection[str], *, narrow: bool) -> Quantizer:
    """Inductor's quantiser for the named operations."""
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    config = get_default_x86_inductor_quantization_config(reduce_range=narrow)
    aten, layers = torch.ops.aten, torch.nn
    modules = {
        aten.conv2d.default: layers.Conv2d,
        aten.hardtanh.default: layers.Hardtanh,
        aten.relu.default: layers.ReLU,
        aten.silu.default: layers.SiLU,
    }

    class Chosen(X86InductorQuantizer):
        """One that takes operations by their names, not by those of modules, which a program no longer has."""

        def annotate(self, model: GraphModule) -> GraphModule:
            # The quantiser knows a convolution by the module that it came from, which need not be one of PyTorch's own:
            # those with strides would stay in float.
            for node in model.graph.nodes:
                if node.target in modules:
                    node.meta["source_fn_stack"] = [(node.name, modules[node.target])]
            self._annotate_with_config(model, config, lambda nodes: all(node.name in chosen for node in nodes))
            self._annotate_output_for_int8_in_int8_out_pattern_entry(model)
            return model

    return Chosen()


def _leave_unused_out(module: GraphModule) -> None:
    """Take out the weights in float, which those of int8 stand for."""
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in read]:
        place, _, last = name.rpartition(".")
        delattr(module.get_submodule(place), last)


def _results(module: GraphModule, images: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """What the module gives for each canvas, one after the other, before classes are chosen."""
    for node in reversed(module.graph.nodes):
        if node.target == torch.ops.aten.argmax.default:
            (logits,) = node.all_input_nodes
            for after in list(node.users):  # the conversion to small numbers
                after.replace_all_uses_with(logits)
    module.recompile()
    return [value.numpy() for each in images for value in module(images=each)]


if __name__ == "__main__":
    main(*sys.argv[1:])
