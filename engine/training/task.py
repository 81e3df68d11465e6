"""What the Lightning modules of all tasks share: optimiser and schedule, checks of the loss, and checkpoints."""

from __future__ import annotations

import math
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from engine.data.contracts import SplitName, TaskData
from engine.distillation.teachers import check_same_lessons
from engine.errors import InputError
from engine.hardware.memory import keep_freed_memory
from engine.losses.running_mean import RunningMean
from engine.outputs import make_folder
from engine.reading.options import Way
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode
from engine.training.checkpoints import DISTILLER, KEY, misfits, save_metadata, without_distiller
from engine.training.keeping import check_monitors
from engine.training.plugins import HalfNetwork
from engine.training.progress import STEPS_KEY, moved_step, place_scheduler, stored_steps_per_epoch
from engine.training.recipe import Optimizer, Schedule, build_optimizer, build_scheduler
from engine.training.watching import WatchedModule

RUNNING = "running"  # the key of the running mean in the project's own entry of a checkpoint
_ENDLESS = 1e9  # epochs of a training without an end, over which a warm-up is counted


class Scores(Protocol):
    """The result of an evaluation."""

    def as_dict(self, prefix: str) -> dict[str, float]:
        """Numbers to log, each name with the prefix before it."""
        ...

    def table(self) -> str:
        """The scores as a table of text."""
        ...


class _Called(Protocol):
    """What Lightning's Trainer has without declaring it."""

    callbacks: list[Callback]


class Looked(Protocol):
    """What a quick check found; `engine.checking.findings.CheckReport` is one."""

    def first_look(self, command: str) -> str:
        """The line to print, with the command that tells more."""
        ...


class QuickCheck(Protocol):
    """What `TaskSpec.quick_check` names."""

    def __call__(self, data: object, network: nn.Module) -> Looked | None:
        """What is wrong with the data; None says nothing."""
        ...


Data = TypeVar("Data", bound=TaskData)


class DenseTask(WatchedModule, ABC, Generic[Data]):
    """A network with its training recipe; its type parameter is the contract of its data module.

    The class of a task names its `spec` and, in `part`, the attribute that holds its network (the prefix of the keys
    in its checkpoints). It builds the network in `build`, which is called once the trainer knows the data.

    Validation and test share their steps: `validation_step` collects records, and `evaluate` scores them all.

    Args:
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        outputs: files that `evaluate` writes; None for a file that is not asked for.
    """

    spec: ClassVar[TaskSpec]
    part: ClassVar[str]

    def __init__(self, optimizer: Optimizer, schedule: Schedule, *outputs: str | None) -> None:
        super().__init__()
        self.outputs = tuple(file for file in outputs if file is not None)
        self.scores: Scores | None = None
        self.optimizer = optimizer
        self.schedule = schedule
        self.began = False
        self._peaks: list[float] = []
        self._resumed = False
        self._steps_before: float | None = None
        self.running: RunningMean | None = None  # of what the losses are divided by, in a task that asks for it

    @abstractmethod
    def build(self) -> nn.Module:
        """The network; the weights that it starts from may depend on the command and the data."""

    def build_distiller(self) -> nn.Module | None:
        """What compares the network with its teachers in a training; None, the default, without teachers.

        Its parameters are trained beside the network's and stay in checkpoints for a training that goes on; nothing
        else reads them.
        """
        return None

    def lessons(self) -> Mapping[str, object]:
        """The settings of the distillation, and the fingerprints of the teachers; empty without."""
        return {}

    @abstractmethod
    def description(self) -> str:
        """A description of the network and its data, for the line that is printed when a training starts."""

    @abstractmethod
    def network_settings(self) -> Mapping[str, object]:
        """Plain values from which the reader of a checkpoint builds the network again."""

    @abstractmethod
    def evaluate(self, split: SplitName) -> Scores:
        """The scores of a split from the records of all processes, the same on each of them."""

    def logged(self) -> Mapping[str, Mode | None] | None:
        """The names of all that a training with a validation logs, each with whether "max" or "min" is better.

        A callback whose `monitor` is not among them is refused before the first step. None, the default, states
        nothing; the trainer then finds such a callback after the first epoch.
        """
        return None

    def evaluation_loss(self) -> float | None:
        """The loss of all images of an evaluation on all devices, to be logged; None in a task that counts none."""
        return None

    def setup(self, stage: str) -> None:
        """Check that the results can be written before the long work that finds them, and keep true boxes whole."""
        plugin = self.trainer.precision_plugin
        if type(plugin) is HalfPrecision:
            self.trainer.strategy.precision_plugin = HalfNetwork(plugin.precision)
        for file in self.outputs:
            make_folder(Path(file).parent)

    def configure_model(self) -> None:
        """Build the network, once the trainer knows the data."""
        if self.part not in self._modules:
            # A network with published weights comes in eval mode, and Lightning would leave it so during training.
            self._modules[self.part] = self.build().train().to(memory_format=torch.channels_last)
            if self.fitting and (distiller := self.build_distiller()) is not None:
                setattr(self, DISTILLER, distiller)

    @property
    def built(self) -> nn.Module:
        """The network, which `configure_model` has built."""
        network = self._modules[self.part]
        assert network is not None
        return network

    @property
    def fitting(self) -> bool:
        """Whether the command is `fit`."""
        return self._trainer is not None and self.trainer.state.fn == "fit"

    @property
    def restoring(self) -> bool:
        """Whether the weights of a checkpoint replace those that the network starts with."""
        return self.restores or (self._trainer is not None and self.trainer.ckpt_path is not None)

    @property
    def way(self) -> Way:
        """Whether a training starts or goes on, or a trained network is used."""
        if not self.fitting:
            return "score"
        return "resume" if self.restoring else "start"

    @property
    def data(self) -> Data | None:
        """The trainer's data module, or None without one."""
        # Lightning's Trainer sets the attribute without declaring it.
        return cast("Data | None", getattr(self.trainer, "datamodule", None)) if self._trainer is not None else None

    def on_fit_start(self) -> None:
        """Print what is trained."""
        if self.device.type == "cpu":
            keep_freed_memory()
        sizes = [(p.numel(), p.requires_grad) for p in self.built.parameters()]
        total, trained = sum(size for size, _ in sizes), sum(size for size, wanted in sizes if wanted)
        frozen = "" if trained == total else f", {trained / 1e6:.1f} M of them trained"
        name, _, rest = self.description().partition("; ")
        rank_zero_info(f"{name}: {total / 1e6:.1f} M parameters{frozen}; {rest}")
        if self.trainer.is_global_zero and self.spec.quick_check is not None:
            check: QuickCheck = pkgutil.resolve_name(self.spec.quick_check)
            if (found := check(self.data, self.built)) is not None:
                rank_zero_info(found.first_look(f"python -m {self.spec.name} {self.spec.check_command}"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser for the global batch, and its schedule, which takes a step with it."""
        learning = nn.ModuleList(self.get_submodule(name) for name in (self.part, DISTILLER) if name in self._modules)
        optimizer = build_optimizer(learning, self.optimizer, self._global_batch())
        steps: float = self.trainer.estimated_stepping_batches
        epochs: float = self.trainer.max_epochs or 0
        batches = max(1.0, self._steps_per_epoch())
        if not math.isfinite(steps):
            if self.schedule.name != "constant":
                msg = (
                    f"the learning rate of schedule {self.schedule.name} falls to the end of the training, which "
                    "trainer.max_epochs -1 or trainer.max_time alone do not tell. Give trainer.max_epochs or "
                    "trainer.max_steps above 0 (max_time may end it earlier), or --model.schedule.name constant."
                )
                raise InputError(msg)
            self.trainer.fit_loop.setup_data()  # where there is an end, Lightning has done it
            epochs = _ENDLESS
            steps = max(1.0, self._steps_per_epoch()) * epochs
        if epochs <= 0:
            epochs = max(1, math.ceil(steps / batches))
        scheduler = build_scheduler(optimizer, self.schedule, int(steps), epochs)
        self._peaks = [float(rate) for rate in scheduler.base_lrs]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _steps_per_epoch(self) -> float:
        return self.trainer.num_training_batches / self.trainer.accumulate_grad_batches

    def on_train_start(self) -> None:
        """Go on with the course of the learning rate where the epochs that are done end.

        Lightning restores a number of steps and the former peak. Both may mean something else now: the epochs may have
        another number of steps, and the peak follows the batch (`optimizer.lr_batch`).
        """
        self.began = True
        self._check_monitors()
        if not self._resumed:
            return
        self._resumed = False
        scheduler = self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, LRScheduler)
        present, step = self._steps_per_epoch(), scheduler.last_epoch
        before = self._steps_before or present
        by_epochs = self.trainer.max_steps == -1  # else the end is a number of steps, which stays
        moved = moved_step(step, before, present) if by_epochs and present != before else step
        peak = max(float(rate) for rate in scheduler.base_lrs)
        # Also where nothing differs but the end: the rate that was restored is that of the former course.
        place_scheduler(scheduler, moved, self._peaks)
        if present == before and peak == max(self._peaks):
            return
        parts = []
        if present != before:
            parts.append(f"steps of an epoch: {present:g}, before {before:g}")
        if peak != max(self._peaks):
            parts.append(f"the peak of the learning rate is {max(self._peaks):g}, before {peak:g}")
        goes_on = f"its course goes on after {step / before:.4g} epochs" if by_epochs else f"it goes on at step {moved}"
        rank_zero_info(f"{'; '.join(parts)}; {goes_on}")

    def _check_monitors(self) -> None:
        names = self.logged()
        if names is None:
            return
        trainer = self.trainer
        if trainer.enable_validation and trainer.val_dataloaders is None:
            # Without batches before the training, Lightning makes the loaders in the first epoch that validates.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True
        if not sum(trainer.num_val_batches):
            names = {name: better for name, better in names.items() if not name.startswith("val_")}
        kind = type(self)
        complete = f"{kind.__module__}:{kind.__qualname__}" == self.spec.module
        check_monitors(cast("_Called", self.trainer).callbacks, names, self.spec.name, complete)

    def _global_batch(self) -> int:
        given: TaskData | None = self.data if self.data is not None else self.trainer.train_dataloader
        assert given is not None
        return int(given.batch_size) * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def on_test_epoch_start(self) -> None:
        """As before a validation."""
        self.on_validation_epoch_start()

    def test_step(self, batch: object, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Score all images of all devices once."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """As after a validation."""
        self._score("test")

    def _score(self, split: SplitName) -> None:
        scores = self.evaluate(split)
        if self.trainer.sanity_checking:
            return
        loss = self.evaluation_loss()
        found = {} if loss is None else {f"{split}_loss": loss}
        for name, value in {**found, **scores.as_dict(f"{split}_")}.items():
            self.log(name, value, prog_bar=name in self.spec.in_progress_bar, rank_zero_only=False)
        self.scores = scores

    def on_validation_end(self) -> None:
        """Print the table of `validate` below the progress bar that has just ended."""
        if self.trainer.state.fn != "fit" and self.trainer.is_global_zero and self.scores is not None:
            sys.stdout.write(f"{self.scores.table()}\n")

    def on_test_end(self) -> None:
        """As after a validation."""
        self.on_validation_end()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that do not fit the network that the file itself describes."""
        if self.fitting and not checkpoint.get("optimizer_states"):
            msg = (
                f"'{self.trainer.ckpt_path}' holds a network and no state of a training to go on from, as pruned ones. "
                "Give it as --model.pretrained."
            )
            raise InputError(msg)
        if self.fitting:
            self._resumed, self._steps_before = True, stored_steps_per_epoch(checkpoint, KEY)
            check_same_lessons(checkpoint[KEY]["model"], self.lessons(), str(self.trainer.ckpt_path))
            if self.running is not None:
                self.running.restore(checkpoint[KEY].get(RUNNING, {}))
        else:
            checkpoint["state_dict"] = without_distiller(checkpoint["state_dict"])
        wrong = misfits(self.state_dict(), checkpoint["state_dict"])
        if wrong:
            msg = (
                f"the weights in '{self.trainer.ckpt_path}' do not fit the network that it describes: {len(wrong)} "
                f"differ, such as '{wrong[0]}'. Give a checkpoint as `fit` wrote it."
            )
            raise InputError(msg)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Store the settings of the network, so that it can be rebuilt from the file alone.

        Raises:
            InputError: the last loss is not finite, so that the weights are not worth to be kept.
        """
        self.check_finite()
        recipe = {"optimizer": asdict(self.optimizer), "schedule": asdict(self.schedule)}
        save_metadata(checkpoint, self.spec.name, {**self.network_settings(), **recipe, **self.lessons()})
        own = checkpoint[KEY]
        if self.fitting and isinstance(own, dict):
            own[STEPS_KEY] = self._steps_per_epoch()
            if self.running is not None:
                own[RUNNING] = self.running.state()
