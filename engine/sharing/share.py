"""`python -m TASK share`: writes a trained network with a model card into a folder, or sends it to a model hub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.exports.extras import needed
from engine.hub.addresses import HubAddress, is_address
from engine.outputs import make_folder
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import checkpoint_of_run, given_path, require_checkpoint


def share(
    spec: TaskSpec,
    ckpt_path: str,
    to: str,
    licence: str | None = None,
    data: str | None = None,
    intended_use: str | None = None,
    limits: str | None = None,
    private: bool = False,
) -> str:
    """Share a trained network: its weights as safetensors, its settings, and a model card written from its run.

    Args:
        spec: the task.
        ckpt_path: checkpoint, or `best` / `last` of the latest run; or a network that was shared before.
        to: `hf://owner/name` of a model hub, or a folder.
        licence: of the weights, by its identifier on the hub, such as apache-2.0.
        data: what the network was trained on; null lists the names of the run's files.
        intended_use: what it is for; null says that it is for images like those of the training.
        limits: what it is not for; null says what was not measured.
        private: whether a repository that is made can be seen by its owner only.

    Returns:
        Where the network is now, for a message.

    Raises:
        InputError: there is no such checkpoint, the folder has other files or cannot be written, or the hub refuses.
    """
    if is_address(to):
        HubAddress.read(to)  # before the seconds that reading takes
        needed("huggingface_hub", extra="hub")
    elif private:
        msg = (
            f"private is for repositories of a hub, and '{to}' is a folder. Leave it out, or give --to hf://owner/name."
        )
        raise InputError(msg)
    else:
        make_folder(to)
    if ckpt_path == "best" or ckpt_path == "last":
        which: Literal["best", "last"] = "best" if ckpt_path == "best" else "last"
        ckpt_path = str(checkpoint_of_run("runs", spec.name, None, which, spec.monitor_mode))
    require_checkpoint(ckpt_path)

    from engine.sharing.card import Words
    from engine.sharing.contents import Shared, push, save
    from engine.training.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(given_path(ckpt_path, fitting=False), spec.name)
    words = Words(licence=licence, data=data, intended_use=intended_use, limits=limits)
    shared = Shared.of_checkpoint(checkpoint, spec)
    if is_address(to):
        return f"{to}: {push(shared, HubAddress.read(to), words, private=private)}"
    names = save(shared, to, words)
    return f"the folder {Path(to)} with {', '.join(names)}; to a hub it goes with --to hf://owner/name"


def main(spec: TaskSpec, argv: Sequence[str] | None = None) -> int:
    """Parse the command line and share; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program(spec.name)} share"
        given = parse_function(share, command, argv, __doc__, skip=("spec",))
        sys.stdout.write(f"Shared in {share(spec, **given)}\n")

    return run_command(act)
