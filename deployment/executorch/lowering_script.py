"""From a program of torch.export to a .pte file for XNNPACK, run by the Python of an environment of its own.

That environment holds ExecuTorch and none of this project's packages, so that this script imports none of them.
Arguments: the .pt2 file, the file to write, a text file with what the file says of itself, the precision, and a .npy
file with images (N, H, W, 3) uint8 for int8. The last line that it prints says how much XNNPACK computes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_PIECE = "executorch_call_delegate"
KEY = "effdense"  # the method that gives what the file says of itself


def main(source: str, target: str, about: str, precision: str, images: str) -> None:
    """Lower, and quantise as asked."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    program = torch.export.load(source)
    if precision == "int8":
        program = _integers(program, images)
    lowered = to_edge_transform_and_lower(
        constant_prop_pass(program),
        partitioner=[XnnpackPartitioner()],
        constant_methods={KEY: Path(about).read_text()},
    )
    names = [_name(node.target) for node in lowered.exported_program().graph.nodes if node.op == "call_function"]
    others = sorted(set(names) - {_PIECE, "getitem"})
    Path(target).write_bytes(lowered.to_executorch().buffer)
    sys.stdout.write(f"\n{json.dumps({'pieces': names.count(_PIECE), 'others': others})}\n")


def _name(operator: object) -> str:
    """The name of an operator, as `aten.argmax`."""
    schema = getattr(operator, "_schema", None)
    return getattr(operator, "__name__", str(operator)) if schema is None else str(schema.name).replace("::", ".")


def _integers(program: ExportedProgram, images: str) -> ExportedProgram:
    """Keep weights and values in int8, by the ranges that images give."""
    import numpy as np
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(program.module(), quantizer)
    _, given = program.example_inputs
    count = len(given["images"])
    seen = np.load(images, mmap_mode="r")
    with torch.no_grad():
        for start in range(0, len(seen) - count + 1, count):
            some = torch.from_numpy(np.ascontiguousarray(seen[start : start + count].transpose(0, 3, 1, 2)))
            prepared(images=some)
        return torch.export.export(convert_pt2e(prepared), (), given)


if __name__ == "__main__":
    main(*sys.argv[1:])
