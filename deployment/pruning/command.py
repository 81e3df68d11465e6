"""`python -m deployment prune`: a checkpoint with fewer channels, to be trained further."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.exports.extras import needed
from engine.numbers import OpenUnitInterval


def prune(
    ckpt_path: str,
    output: Path | None = None,
    task: Literal["detection", "segmentation", "joint", "classification"] | None = None,
    share: OpenUnitInterval = 0.3,
) -> None:
    """Remove the least important channels of a network, and write what is left as a checkpoint.

    Its answers are worse at first: train it further with `fit --model.pretrained PRUNED.ckpt` and a low learning rate.

    Args:
        ckpt_path: checkpoint; `best` or `last` of the latest run of `task`; the name of a published detector; or a
            weight file.
        output: the new checkpoint; by default the checkpoint's name with _pruned.
        task: the task, where the file does not say.
        share: share of the channels that every group of layers loses, rounded so that multiples of 8 are left.
    """
    needed("torch_pruning", extra="prune")
    from deployment.networks import load_any
    from deployment.pruning.prune import checkpoint_of, pruned, write_pruned

    started = time.perf_counter()
    if output is not None and output.suffix != ".ckpt":
        msg = f"output is '{output}'; a checkpoint's name ends in .ckpt."
        raise InputError(msg)
    loaded = load_any(ckpt_path, task)
    path = output or Path(f"{Path(loaded.name).stem}_pruned.ckpt")
    done = pruned(loaded.network, share)
    write_pruned(checkpoint_of(loaded, done.network), path)
    before, after = done.before, done.after
    sys.stdout.write(
        f"parameters     {before.parameters / 1e6:8.3f} M -> {after.parameters / 1e6:8.3f} M "
        f"({after.parameters / before.parameters:.0%})\n"
        f"multiply-adds  {before.macs / 1e9:8.3f} G -> {after.macs / 1e9:8.3f} G ({after.macs / before.macs:.0%}), "
        "of an image of {} x {} pixels\n".format(*done.canvas_hw)
        + f"{path}: {path.stat().st_size / 1e6:.1f} MB; {time.perf_counter() - started:.0f} s. Train it further with "
        f"{program(loaded.task)} fit --model.pretrained {path}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and prune; returns 2 after one short line of error, else 0."""

    def act() -> None:
        description = (prune.__doc__ or "").partition("\n\n    Args:")[0]
        prune(**parse_function(prune, f"{program('deployment')} prune", argv, description))

    return run_command(act)
