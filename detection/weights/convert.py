"""`python -m detection convert`: convert a detector's weights from any known layout to the project's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError


def convert(source: str | Path, destination: str | Path, layout_of: str | None = None) -> str:
    """Read a detector of effdet's, zylo117's or the project's own layout and write it in the project's own.

    Args:
        source: its file, or the name of a published one, such as tf_efficientdet_d0.
        destination: the .safetensors file to write.
        layout_of: the published name whose network the file holds, where neither its name nor its keys tell.

    Returns:
        What was read, in one line.

    Raises:
        InputError: the file fits no network or several networks, or the destination cannot be written.
    """
    target = Path(destination)
    if target.suffix != ".safetensors":
        msg = f"the destination '{target}' must end with .safetensors"
        raise InputError(msg)
    if target.exists() and target.samefile(source):
        msg = f"'{target}' would be overwritten by itself. Give another destination."
        raise InputError(msg)
    # Importing torch takes seconds, which a wrong argument should not cost.
    from detection.weights.load import load_network, read_pretrained
    from detection.weights.own_layout import write_own

    if Path(source).suffix == ".ckpt" and layout_of is None:
        model, origin = load_network(source), {"file": Path(source).name, "layout": "checkpoint"}
    else:
        model, origin = read_pretrained(source, layout_of=layout_of)
    write_own(model, target, origin)
    network = origin.get("network", model.config.name)
    return f"'{source}' is {network}, {len(model.classes)} classes; written to '{target}'"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert; returns 2 after one short line of error, else 0."""

    def act() -> None:
        given = parse_function(convert, f"{program('detection')} convert", argv, __doc__, positional=True)
        sys.stdout.write(convert(**given) + "\n")

    return run_command(act)
