"""The folder of a training run: its configuration, versions, logs and checkpoints.

runs/detection/version_0/
    config.yaml        every setting, to repeat the run
    versions.json      packages, commit and command line
    metrics.csv        and TensorBoard's events file, or what `--run.log` asks for
    pictures/          of training batches, curves, mistakes and images
    checkpoints/       best-….ckpt by the task's measure, last.ckpt of the last epoch's end
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from engine.checked import Checked
from engine.errors import InputError
from engine.logging.loggers import LogWord
from engine.numbers import PositiveInt
from engine.outputs import make_folder, write_json, write_text
from engine.training.checkpoint_files import CHECKPOINTS, LAST
from engine.training.checkpoints import versions
from engine.training.claims import Claim, claim_next, next_version

_LONGEST_NAME = 200  # bytes; file systems take 255, and temporary names are a little longer
_LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 0, "gradient_clip_val": 0}


@dataclass(frozen=True)
class Run(Checked):
    """The folder that a training writes to.

    Args:
        root: Folder of all runs; a run's own folder is ROOT/TASK/NAME.
        name: Name of the run; without one it is version_0, version_1 and so on.
        save_steps: Write the last checkpoint every N steps too, for long epochs; without it, only at the end of each
            epoch. Only for tasks whose training can be resumed within an epoch, as our own can.
        log: Where a training logs to beside metrics.csv: to tensorboard, nowhere else (csv), wandb or mlflow; null is
            tensorboard, or the loggers of trainer.logger.
        pictures: Draw training batches, curves, mistakes and images into the run's folder, and log them.
    """

    root: str = "runs"
    name: str | None = None
    save_steps: PositiveInt | None = None
    log: LogWord | None = None
    pictures: bool = True
    group: ClassVar[str] = "run"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name in ("", ".", "..") or re.search(r"[/\\]", self.name)):
            msg = f"run.name is '{self.name}'; allowed: one folder name, without / or \\."
            raise InputError(msg)
        if self.name is not None and len(os.fsencode(self.name)) > _LONGEST_NAME:
            msg = f"run.name has {len(os.fsencode(self.name))} bytes; allowed are {_LONGEST_NAME}. Give a shorter one."
            raise InputError(msg)


def check_counts(settings: Namespace) -> None:
    """Do nothing if the numbers that Lightning takes unchecked, and fails with later or ignores, can be used.

    Args:
        settings: All settings of a command.

    Raises:
        InputError: one of them is too small or too large.
    """
    for name, least in _LEAST.items():
        value = settings["trainer"].get(name)
        if value is not None and value < least:
            msg = f"trainer.{name} is {value:g}; allowed: a number of at least {least}. Leave it out for the default."
            raise InputError(msg)
    seed = settings.get("seed_everything")
    if seed is not None and not 0 <= seed < 1 << 32:
        msg = f"seed_everything is {seed}; allowed: a whole number from 0 to {(1 << 32) - 1}."
        raise InputError(msg)


def claim_run(run: Run, task: str, resumed: Path | None) -> Claim:
    """Claim the folder to write to; only the first process of a training does.

    A training that is resumed from the last checkpoint of a run writes on in the folder of that run.

    Raises:
        InputError: the named run has checkpoints already, another training writes to it, or the root folder cannot be
            written.
    """
    folder = run_folder(run, task, resumed)
    fresh = run.name is None and re.fullmatch(r"version_\d+", folder.name) and not folder.exists()
    return claim_next(folder.parent) if fresh else Claim(folder)


def run_folder(run: Run, task: str, resumed: Path | None) -> Path:
    """The folder that `claim_run` would claim.

    Raises:
        InputError: the named run has checkpoints already, or the root folder cannot be written.
    """
    place = make_folder(Path(run.root, task))
    if resumed is not None and resumed.name == LAST and resumed.parent.name == CHECKPOINTS:
        folder = resumed.parent.parent
        if folder.parent.resolve() == place.resolve() and run.name in (None, folder.name):
            return place / folder.name
    if run.name is None:
        return next_version(place)
    folder = place / run.name
    # The name of a run that failed before its first checkpoint may be used again; its files are renamed with a number.
    if any((folder / CHECKPOINTS).glob("[!.]*.ckpt")):
        msg = f"run '{folder}' exists. Choose another --run.name, or go on with it: --ckpt_path last."
        raise InputError(msg)
    return folder


def _set_aside(path: Path) -> None:
    """Rename a file of an earlier part of the run: config.yaml becomes config.1.yaml, then config.2.yaml."""
    if path.exists():
        number = 1
        while (older := path.with_suffix(f".{number}{path.suffix}")).exists():
            number += 1
        path.rename(older)


@rank_zero_only
def keep_metrics(folder: Path) -> None:
    """Rename the metrics of a run that is resumed, as Lightning's logger removes the file when it starts."""
    _set_aside(folder / "metrics.csv")


class Progress(TQDMProgressBar):
    """Lightning's progress bar, which leaves one line per epoch and does not show the shortened name of the run."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    def on_train_start(self, *_: object) -> None:
        """Begin with a bar that leaves no line, because every epoch leaves its own."""
        super().on_train_start()
        self.train_progress_bar.leave = False

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The measures to show."""
        measures = super().get_metrics(trainer, pl_module)
        measures.pop("v_num", None)
        return measures

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the line of the bar, so that the message after it begins on a new line."""
        super().on_exception(trainer, pl_module, exception)
        sys.stdout.write("\n")
        sys.stdout.flush()


class RandomState(Callback):
    """Keeps torch's random state in checkpoints, so that a resumed training goes on as if it had not stopped.

    The shuffling of DataLoaders and the seeds of their workers are drawn from it too. All processes have the same
    seed, so that the state of the first process, which is the one saved, is right for all.
    """

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the random generators of the CPU and of this process's GPU."""
        state = {"cpu": torch.get_rng_state()}
        return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore the state: after the network is built, before the data of the first epoch are drawn."""
        torch.set_rng_state(state_dict["cpu"].cpu())
        if "cuda" in state_dict and torch.cuda.is_available():
            torch.cuda.set_rng_state(state_dict["cuda"].cpu())


def _commit() -> str | None:
    """The commit of this source tree, with `-dirty` if files were changed since; None outside a checkout."""
    source = Path(__file__).parents[2]
    git = shutil.which("git")
    if git is None or not (source / ".git").exists():
        return None
    command = [git, "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return answer.stdout.strip() or None


class SaveRun(SaveConfigCallback):
    """Write the configuration and the versions when a training begins; only on the first process.

    Args:
        parser: The parser that read the configuration.
        config: The configuration.
        folder: The run's folder.
        program: How the program is called, such as `python -m detection`.
        arguments: The command line after the program's name.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, folder: Path, program: str, arguments: Sequence[str]
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder = folder
        self.program = program
        self.arguments = list(arguments)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml and versions.json; a resumed run keeps the earlier ones by number."""
        for name in ("config.yaml", "versions.json"):
            _set_aside(self.folder / name)
        write_text(self.folder / "config.yaml", self.parser.dump(self.config, skip_none=False))
        own = sys.argv[-len(self.arguments) :] == self.arguments
        command = sys.orig_argv if own else [*self.program.split(), *self.arguments]
        record = {"command": shlex.join(command), "commit": _commit(), "versions": versions()}
        write_json(self.folder / "versions.json", record)
