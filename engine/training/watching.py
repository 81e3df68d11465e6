"""The steps of a training as they are watched: a loss or gradient that is no number ends it, and says where it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from engine.errors import InputError
from engine.finiteness.batch_files import write_batch
from engine.finiteness.culprit import first_culprit
from engine.finiteness.gradients import GradientNorms
from engine.finiteness.steps import Images, LastSteps, Step
from engine.finiteness.trend import Trend
from engine.outputs import make_folder
from engine.prediction.streaming import PredictingModule

LOOK_EVERY = 20  # steps between two looks at losses and gradients: each makes the host wait for the device


class WatchedModule(PredictingModule):
    """A Lightning module that ends the training when a loss or a gradient is no number.

    On a processor each step is looked at, before it changes the weights. On another device a look makes the host wait,
    and comes after `look_every` steps; until then a step is remembered with its batch, its losses and the largest
    element of each gradient, which stay on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batch: object = None
        self._last: Step | None = None
        self._steps = LastSteps(LOOK_EVERY)
        self._look_every = LOOK_EVERY
        self._named: list[tuple[str, nn.Parameter]] = []
        self.stops_at_bad_loss = True
        self.trying = False  # a step only tells how much memory it takes: it is neither watched nor logged
        self.trend: Trend | None = None  # of the losses that were looked at, where somebody asks for it
        self.rise: str | None = None  # what it says, to be told and taken away

    @property
    @abstractmethod
    def built(self) -> nn.Module:
        """The network."""

    @property
    def look_every(self) -> int:
        """Steps between two looks, on another device than a processor."""
        return self._look_every

    @look_every.setter
    def look_every(self, steps: int) -> None:
        self._look_every = steps
        self._steps = LastSteps(steps)

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Remember the batch, in case that its loss is no number."""
        self._batch = batch

    def watch(self, loss: Tensor, batch_idx: int, parts: Mapping[str, Tensor] | None = None) -> None:
        """Remember a step, and look at all since the last look where it is time.

        Args:
            loss: () what the step minimises.
            batch_idx: its place in the epoch.
            parts: () the parts of the loss by their names, for the message.
        """
        if self.trying:
            return
        known = {name: part.detach() for name, part in (parts or {}).items()}
        self._last = Step(self.trainer.global_step, loss.detach(), known, self._batch)
        self._steps.add(self._last)
        if self.device.type == "cpu" or batch_idx % self.look_every == 0:
            self.check_finite()

    def on_before_optimizer_step(self, optimizer: TorchOptimizer) -> None:
        """Remember how large the gradients are; on a processor look at them, before they change the weights."""
        plugin = self.trainer.precision_plugin
        if self._last is None or (isinstance(plugin, MixedPrecision) and plugin.scaler is not None):
            return  # infinite gradients are what a scale is found by; such a step changes nothing
        if not self._named:
            self._named = list(self.built.named_parameters())
        self._steps.learned(self._last._replace(gradients=GradientNorms.of(self._named)))
        if self.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """Do nothing if losses and gradients since the last look are finite; else write the batch to the run's folder.

        Raises:
            InputError: one is not finite.
        """
        losses, step = self._steps.look()
        if self.trend is not None:
            self.rise = self.trend.add(losses) or self.rise
        if step is None or not self.stops_at_bad_loss:
            return
        parts = ", ".join(f"{name.removeprefix('train_')} {float(part):.4g}" for name, part in step.parts.items())
        what, where = f"loss became {float(step.loss)}", ""
        if step.gradients is not None and bool(step.loss.isfinite()):
            what = f"gradient of a loss of {float(step.loss):.4g} became infinite or nan"
            where = f"; back from the loss, the first layer with such a gradient is '{step.gradients.culprit()}'"
        elif isinstance(step.batch, Images):
            where = f"; {self._culprit(step.batch.images)}"
        file = None
        if self.trainer.loggers and self.trainer.log_dir:
            file = write_batch(make_folder(self.trainer.log_dir), step, self.trainer.global_rank)
        kept = "" if file is None else f". Its batch is in '{file}'"
        msg = (
            f"the {what} at step {step.number}{f' ({parts})' if parts else ''}{where}{kept}. "
            "Lower model.optimizer.lr, lengthen model.schedule.warmup_epochs, or set trainer.gradient_clip_val to 10 "
            "or less."
        )
        raise InputError(msg)

    def _culprit(self, images: Tensor) -> str:
        with self.trainer.precision_plugin.forward_context():
            return first_culprit(self.built, lambda: self.built(images))

    def on_train_epoch_end(self) -> None:
        """Look once more, before a checkpoint replaces a good one."""
        self.check_finite()
