"""The callback that draws a run: training batches, curves, and what each evaluation found."""

from __future__ import annotations

import os
import pkgutil
import time
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from engine.data.contracts import SplitName
from engine.errors import InputError
from engine.logging.drawing import Picture, batch_picture, pictures_of, write_picture, write_tables
from engine.logging.loggers import log_picture
from engine.reports.contents import Report
from engine.reports.encoding import within_budget
from engine.reports.runs import REPORT, provenance, training_section
from engine.reports.write import write_report
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import CHECKPOINTS
from engine.training.task import DenseTask

PICTURES = "pictures"  # the folder below that of a run
_BATCHES = 2  # training batches that are drawn
_EVERY = 30.0  # seconds between two drawings of the curves


def evaluated_run(checkpoint: str | Path | None) -> Path | None:
    """The folder of the run that a checkpoint belongs to; None for one that lies in no run."""
    if checkpoint is None:
        return None
    place = Path(checkpoint).resolve().parent
    return place.parent if place.name == CHECKPOINTS else None


def run_pictures(spec: TaskSpec, folder: Path | None, checkpoint: Path | None) -> list[Callback]:
    """The callback for a run; none without one, or for a task that has no reports.

    Args:
        spec: the task.
        folder: the folder of a training.
        checkpoint: what `validate` and `test` evaluate, which tells the folder of its run.
    """
    place = folder or evaluated_run(checkpoint)
    return [] if place is None or spec.reporter is None else [RunPictures(place)]


class RunPictures(Callback):
    """Draws into the folder of a run, and gives the same pictures to its loggers.

    A training draws its first batches, its curves while it goes on, and at its end what the last validation found;
    `validate` and `test` draw what they found. Nothing is drawn on other processes than the first.

    Args:
        folder: the run's folder; pictures lie in `pictures/` below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self._batches = 0
        self._drawn_at = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Draw the first batches as the network sees them."""
        if self._batches >= _BATCHES or not trainer.is_global_zero or not isinstance(pl_module, DenseTask):
            return
        if pl_module.spec.batch_reporter is None:
            return
        begun = time.perf_counter()
        report: Report = pkgutil.resolve_name(pl_module.spec.batch_reporter)(pl_module, batch)
        picture = batch_picture(report, f"batch_{self._batches}")
        if picture is not None:
            self._keep(trainer, [picture], "train")
        self._batches += 1
        self.seconds += time.perf_counter() - begun

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves of a training, or what `validate` found."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn != "fit":
            self._evaluated(trainer, pl_module, "val")
        elif trainer.is_global_zero and time.monotonic() - self._drawn_at >= _EVERY:  # not in a short training
            self._curves(trainer, log=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what `test` found."""
        self._evaluated(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves, and what the last validation found."""
        if not isinstance(pl_module, DenseTask) or not pl_module.began:
            return
        if trainer.is_global_zero:
            self._curves(trainer, log=True)
        self._evaluated(trainer, pl_module, "val")

    def _curves(self, trainer: Trainer, *, log: bool) -> None:
        begun = time.perf_counter()
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.save()  # it writes every hundred steps only
        section = training_section(self.folder)
        if section is not None:
            self._keep(trainer, list(pictures_of(Report("Training", sections=(section,)))), "train", log=log)
        self._drawn_at = time.monotonic()
        self.seconds += time.perf_counter() - begun

    def _evaluated(self, trainer: Trainer, module: LightningModule, split: SplitName) -> None:
        """Draw what the task found; every process asks the task, as the answer gathers what all have seen."""
        if not isinstance(module, DenseTask) or module.spec.reporter is None or module.scores is None:
            return
        begun = time.perf_counter()
        found: Report = pkgutil.resolve_name(module.spec.reporter)(module, split)
        if trainer.is_global_zero:
            self._keep(trainer, list(pictures_of(found)), split)
            self._write(found, split)
            self.seconds += time.perf_counter() - begun
            rank_zero_info(f"Pictures and {REPORT} are in {self.folder} ({self.seconds:.1f} s)")

    def _keep(self, trainer: Trainer, pictures: list[Picture], split: SplitName, *, log: bool = True) -> None:
        """Write pictures and log them; a folder that cannot be written costs the pictures, not the run."""
        try:
            for picture in pictures:
                write_picture(picture, self.folder / PICTURES / split)
        except InputError as error:
            rank_zero_warn(f"no pictures: {error}")
        if log:
            for logger in trainer.loggers:
                for picture in pictures:
                    log_picture(logger, f"{split}/{picture.name}", picture.image, trainer.global_step)

    def _write(self, found: Report, split: SplitName) -> None:
        """Write the tables, and the report in one file."""
        training = training_section(self.folder)
        whole = replace(
            found,
            subtitle=f"{os.path.relpath(self.folder)}; {found.subtitle}",
            sections=(*found.sections, *(() if training is None else (training,))),
            provenance=provenance(self.folder),
        )
        try:
            write_tables(found.sections, self.folder / PICTURES / split)
            write_report(within_budget(whole), self.folder / (REPORT if split == "val" else f"report-{split}.html"))
        except InputError as error:
            rank_zero_warn(f"no report: {error}")
