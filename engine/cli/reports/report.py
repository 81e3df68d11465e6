"""`python -m TASK report RUN`: scores a run's checkpoint and writes all that it shows into one HTML file."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.outputs import make_folder
from engine.reports.runs import REPORT, provenance, require_run, training_section
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode, checkpoint_in, on_this_machine, require_checkpoint

Split = Literal["val", "test"]


@dataclass(frozen=True)
class Asked:
    """What the command was asked for.

    Attributes:
        run: the run's folder.
        split: the images that are scored.
        output: the file to write.
        words: the command line that scores them.
    """

    run: Path
    split: Split
    output: Path
    words: tuple[str, ...]


def report(
    spec: TaskSpec,
    run: Path,
    split: Split = "val",
    ckpt_path: str = "best",
    output: Path | None = None,
    root: str | None = None,
) -> Asked:
    """Write the report of a run.

    Args:
        spec: the task.
        run: the run's folder, such as runs/detection/version_0.
        split: the images that are scored.
        ckpt_path: the run's best or last checkpoint, or a file.
        output: the HTML file; null is report.html in the run's folder, or report-test.html for the split test.
        root: where the data lie, if they moved since the training.

    Raises:
        InputError: the folder is none of a run, or has no checkpoint.
    """
    config = require_run(run)
    checkpoint = _checkpoint(run, ckpt_path, spec.monitor_mode)
    output = output or run / (REPORT if split == "val" else f"report-{split}.html")
    make_folder(output.parent)  # before the minutes that the scoring takes
    others = ("--run.pictures", "false", *(() if root is None else ("--data.root", root)))
    command = "validate" if split == "val" else "test"
    words = (command, "--config", str(config), "--ckpt_path", str(checkpoint), *others)
    return Asked(run, split, output, words)


def _checkpoint(run: Path, given: str, mode: Mode) -> Path:
    if given == "best":
        try:
            return checkpoint_in(run, "best", mode)
        except InputError:  # without a validation none is the best
            given = "last"
    if given == "last":
        return checkpoint_in(run, "last", mode)
    require_checkpoint(given)
    return Path(on_this_machine(given))


def write(asked: Asked, spec: TaskSpec, task: object) -> None:
    """Write the report of a scored task.

    Raises:
        InputError: the file cannot be written, or those of the run cannot be read.
    """
    from engine.reports.encoding import within_budget
    from engine.reports.write import write_report

    assert spec.reporter is not None
    shown = pkgutil.resolve_name(spec.reporter)(task, asked.split)
    training = training_section(asked.run)
    whole = replace(
        shown,
        subtitle=f"{os.path.relpath(asked.run)}; {shown.subtitle}",
        sections=(*shown.sections, *(() if training is None else (training,))),
        provenance=provenance(asked.run),
    )
    write_report(within_budget(whole), asked.output)
    size = asked.output.stat().st_size / 1e6
    sys.stdout.write(f"Report: {asked.output} ({size:.1f} MB), which opens in a browser without a network\n")


def main(spec: TaskSpec, argv: Sequence[str] | None = None) -> int:
    """Parse the command line, score, write; returns 2 after one short line of error, else 0."""
    found: list[Asked] = []

    def ask() -> None:
        command = f"{program(spec.name)} report"
        given = parse_function(report, command, argv, __doc__, positional=True, skip=("spec",))
        found.append(report(spec, **given))

    if status := run_command(ask):
        return status
    from engine.cli.effdense_cli import EffDenseCLI, run_cli

    started: list[EffDenseCLI] = []
    if status := run_cli(spec, found[0].words, program(spec.name), started):
        return status
    return run_command(lambda: write(found[0], spec, started[0].model))
