"""What a training says of itself while it runs: that it diverges, waits for images, or does not see its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT

from engine.checked import checked
from engine.data.loader import SampleLoader
from engine.distributed import all_gather_objects
from engine.finiteness.trend import Trend
from engine.numbers import PositiveInt
from engine.training.watching import LOOK_EVERY, WatchedModule

STARVED = 0.3  # share of the time; below it more workers gain little
_STEPS = 50  # after which the share is looked at
_LISTED = 10
_LEAST_STEPS = 50  # before which no network finds every class, and a warning would tell nothing
_REMEDY = (
    "Lower model.optimizer.lr, lengthen model.schedule.warmup_epochs, or set trainer.gradient_clip_val to 10 or less"
)


@runtime_checkable
class Scored(Protocol):
    """Scores that tell classes apart."""

    def never_found(self) -> Mapping[str, Sequence[str]]:
        """The classes of the truth of which nothing is found, for each kind of labels."""
        ...


class Watch(Callback):
    """Look at a training while it runs.

    Args:
        every: steps between two looks at losses and gradients on a GPU, each of which waits for it; 1 finds the layer
            of a loss that is no number. On a processor each step is looked at.
        warn: whether a line says that the loss rises for good, that steps wait for images, that classes are in no
            training image, or that none of their objects is found in the second half of the training.
    """

    @checked
    def __init__(self, every: PositiveInt = LOOK_EVERY, warn: bool = True) -> None:
        self.every = every
        self.warn = warn
        self._begun = 0.0
        self._waited = 0.0
        self._steps = 0
        self._told: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say how often to look."""
        if isinstance(pl_module, WatchedModule):
            pl_module.look_every = self.every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to compare losses."""
        if self.warn and isinstance(pl_module, WatchedModule):
            pl_module.trend = Trend(trainer.estimated_stepping_batches * trainer.accumulate_grad_batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Begin to measure with the second batch of an epoch: workers start before the first."""
        loader = trainer.train_dataloader
        if isinstance(loader, SampleLoader) and self._steps == 0:
            self._begun, self._waited = perf_counter(), loader.waited

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Say once that steps wait for images, and once that the loss rises."""
        self._steps += 1
        loader = trainer.train_dataloader
        if self.warn and isinstance(loader, SampleLoader) and self._steps == _STEPS:
            share = (loader.waited - self._waited) / max(perf_counter() - self._begun, 1e-9)
            if share > STARVED:
                self._say("starves", f"{share:.0%} of the time the training waits for images, which {loader.made_by}. "
                          "Give more --data.num_workers where there are processors, smaller images, or less "
                          "augmentation")  # fmt: skip
            self._steps = 0
        if isinstance(pl_module, WatchedModule) and pl_module.rise is not None:
            self._say("diverges", f"{pl_module.rise}. {_REMEDY}")
            pl_module.rise = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the classes that no image of any process has shown in an epoch."""
        self._steps = 0
        loader = trainer.train_dataloader
        if not self.warn or "classes" in self._told or not isinstance(loader, SampleLoader) or loader.appearing is None:
            return
        if loader.position < loader.mixture.pass_steps:
            return  # not all images were there yet
        self._told.add("classes")
        first, *others = all_gather_objects(loader.appearing.missing())
        for kind, names in first.items():
            left = [name for name in names if all(name in other.get(kind, ()) for other in others)]
            if left:
                shown = ", ".join(left[:_LISTED]) + (f" and {len(left) - _LISTED} more" if len(left) > _LISTED else "")
                seen = loader.position * loader.mixture.batch
                rank_zero_info(
                    f"warning: {len(left)} of {len(loader.appearing.names[kind])} classes of {kind} are in none of the "
                    f"{seen:,} samples so far, and cannot be learnt: {shown}. Run the command check on the set, or "
                    "look at data.augmentation.min_side and the crops."
                )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the classes of which nothing is found, once in the second half of the training."""
        scores: object = getattr(pl_module, "scores", None)
        if not self.warn or trainer.state.fn != "fit" or trainer.sanity_checking or not isinstance(scores, Scored):
            return
        steps: float = trainer.estimated_stepping_batches
        if trainer.global_step < max(steps / 2, _LEAST_STEPS):
            return
        for kind, names in scores.never_found().items():
            if names:
                shown = ", ".join(names[:_LISTED]) + (
                    f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
                )
                self._say(
                    f"never {kind}",
                    f"after {trainer.global_step:,} steps nothing of {len(names)} classes of {kind} is found in the "
                    f"validation: {shown}. Give them more images, data.sampling.name repeat_factor, a lower "
                    "learning rate, or more steps",
                )

    def _say(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            rank_zero_info(f"warning: {line}.")
