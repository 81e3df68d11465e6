"""From a program of torch.export to a .pte file for XNNPACK, run by the Python of an environment of its own.

That environment holds ExecuTorch and none of this project's packages, so that this script imports none of them.
Arguments: the .pt2 file, the file to write, and a text file with what the file says of itself. The last line that it
prints says how much XNNPACK computes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_PIECE = "executorch_call_delegate"
KEY = "effdense"  # the method that gives what the file says of itself


def main(source: str, target: str, about: str) -> None:
    """Lower."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass
    from torch.ao.quantization.fx import _decomposed

    _ = _decomposed  # its import registers the operators that a program of int8 holds

    program = torch.export.load(source)
    # Constants of int8 stay so: computed beforehand, they would be those of float again.
    quantised = any("quantized_decomposed" in str(node.target) for node in program.graph.nodes)
    lowered = to_edge_transform_and_lower(
        program if quantised else constant_prop_pass(program),
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


if __name__ == "__main__":
    main(*sys.argv[1:])
