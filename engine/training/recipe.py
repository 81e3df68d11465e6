"""The training recipe: optimisers with proper parameter groups, and the learning rate of every step.

Each task chooses its own numbers. The averaging of weights is in `engine.training.averaging`; the trainer clips the
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from timm.optim import Lion, Muon, param_groups_weight_decay
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import (
    AboveZeroToOne,
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ZeroToBelowOne,
)


@dataclass(frozen=True)
class Optimizer(Checked):
    """The optimiser and its step size.

    Args:
        name: The update rule.
        lr: Learning rate for `lr_batch` images; a step over the global batch B uses lr * B / lr_batch.
        lr_batch: Number of images that `lr` is meant for; 0 takes `lr` as it is, for any batch.
        momentum: Momentum of sgd, rmsprop and muon; the first moment's decay (beta 1) of adamw and lion.
        weight_decay: Decay of kernels towards zero; norms, biases and scalars have none. It is L2 for sgd and
            rmsprop (the official loss adds wd/2 * ||w||², whose gradient is wd * w), decoupled for the others.
        nesterov: Nesterov's momentum in sgd and muon.
        squares: Decay of the squared gradients' average in rmsprop (alpha) and adamw (beta 2), and beta 2 of lion and
            muon; 0 takes 0.9 for rmsprop (the EfficientNet paper), 0.999 for adamw, 0.99 for lion and 0.95 for muon.
        backbone_lr: Factor on the learning rate of the parameters in a module called `backbone`.
        layer_decay: Factor on the learning rate from each stage of the backbone to the one before it, so that the stem
            learns slowest (Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545, trains with 0.8 or 0.9 of groups
            of layers); 1 is the same rate for all.
    """

    name: Literal["sgd", "rmsprop", "adamw", "lion", "muon"] = "sgd"
    lr: PositiveFloat = 0.01
    lr_batch: NonNegativeInt = 0
    momentum: ZeroToBelowOne = 0.9
    weight_decay: NonNegativeFloat = 0.0
    nesterov: bool = False
    squares: ZeroToBelowOne = 0.0
    backbone_lr: NonNegativeFloat = 1.0
    layer_decay: AboveZeroToOne = 1.0
    group: ClassVar[str] = "optimizer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.name not in ("sgd", "muon") or self.momentum == 0):
            msg = (
                "optimizer.nesterov is given, but only sgd and muon with a momentum have it. Leave it out, or take "
                "name: sgd."
            )
            raise InputError(msg)

    def scaled_lr(self, global_batch: int) -> float:
        """The peak learning rate for a global batch (images per optimiser step over all devices).

        >>> Optimizer(lr=0.08, lr_batch=64).scaled_lr(128)
        0.16
        """
        return self.lr * global_batch / self.lr_batch if self.lr_batch else self.lr


@dataclass(frozen=True)
class Schedule(Checked):
    """The course of the learning rate: a linear warm-up, then a decrease.

    Args:
        name: The decrease after the warm-up; `poly` is (1 - progress) ** power; `flat_cosine` is none for the share
            `flat`, and then a cosine (Lyu et al., "RTMDet", arXiv 2212.07784, trains so); `exponential` multiplies the
            rate by `decay` every `decay_epochs` epochs.
        warmup_epochs: Length of the warm-up in epochs; parts of one are allowed.
        warmup_steps: Length of the warm-up in optimiser steps; takes the place of `warmup_epochs`.
        warmup_start: Factor on the learning rate at the first step.
        min_lr: Factor on the learning rate at the last step.
        power: Exponent of `poly`.
        flat: Share of the steps after the warm-up at the full rate, of `flat_cosine`.
        decay: Factor of `exponential` (0.97 in the EfficientNet paper, section 5).
        decay_epochs: Epochs between two of its decreases (2.4 there).
    """

    name: Literal["cosine", "poly", "constant", "flat_cosine", "exponential"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt | None = None
    warmup_start: ClosedUnitInterval = 0.0
    min_lr: ClosedUnitInterval = 0.0
    power: PositiveFloat = 1.0
    flat: ZeroToBelowOne = 0.5
    decay: AboveZeroToOne = 0.97
    decay_epochs: PositiveFloat = 2.4
    group: ClassVar[str] = "schedule"

    def warmup(self, total_steps: int, epochs: float) -> int:
        """The warm-up's length in steps, for a training of `total_steps` steps that takes `epochs` epochs."""
        if self.warmup_steps is not None:
            return min(self.warmup_steps, total_steps)
        return min(round(self.warmup_epochs * total_steps / max(epochs, 1e-9)), total_steps)


@runtime_checkable
class Staged(Protocol):
    """A backbone that says which parts come first, so that early ones can learn more slowly."""

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of each stage, the stem first."""
        ...


def _factors(module: nn.Module, config: Optimizer) -> dict[int, float]:
    """The factor on the learning rate of each parameter in a backbone, by its `id`."""
    factors = {id(p): config.backbone_lr for name, p in module.named_parameters() if "backbone" in name.split(".")}
    if config.backbone_lr != 1 and not factors:
        msg = (
            f"optimizer.backbone_lr is {config.backbone_lr}, but the network has no part called 'backbone'. Leave it "
            "out."
        )
        raise InputError(msg)
    if config.layer_decay == 1:
        return factors
    staged = [part for part in module.modules() if isinstance(part, Staged)]
    if not staged:
        msg = (
            f"optimizer.layer_decay is {config.layer_decay}, but the network's backbone does not say what its stages "
            "are. Leave it out."
        )
        raise InputError(msg)
    for backbone in staged:
        stages = backbone.stages()
        for number, stage in enumerate(stages):
            for parameter in (parameter for part in stage for parameter in part.parameters()):
                factors[id(parameter)] *= config.layer_decay ** (len(stages) - number)
    return factors


def _named_lr_groups(module: nn.Module, config: Optimizer, lr: float) -> Iterable[dict[str, object]]:
    factors = _factors(module, config)
    # timm's rule: no decay for biases and for tensors of at most one dimension, frozen parameters left out.
    for group in param_groups_weight_decay(module, weight_decay=config.weight_decay):
        by_factor: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        # The backbone first, as in checkpoints of before; the optimiser's state is restored by place.
        for factor, parameters in sorted(by_factor.items(), key=lambda item: (item[0] == 1, item[0])):
            yield group | {"params": parameters, "lr": lr * factor}


def build_optimizer(module: nn.Module, config: Optimizer, global_batch: int) -> torch.optim.Optimizer:
    """Build the optimiser over a module's trainable parameters.

    Args:
        module: The network; parameters with `requires_grad=False` are left out.
        config: Update rule and step size.
        global_batch: Images per optimiser step, over all devices and accumulated batches.

    Raises:
        InputError: nothing is trainable, or `backbone_lr` or `layer_decay` is given and there is no backbone for it.
    """
    lr = config.scaled_lr(global_batch)
    groups = [group for group in _named_lr_groups(module, config, lr) if group["params"]]
    if not groups:
        msg = "nothing to train: every parameter is frozen. Unfreeze a part of the network."
        raise InputError(msg)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov)
    if config.name == "rmsprop":
        # eps 1e-3 and decay 0.9 as in the EfficientNet paper's optimiser (arXiv 1905.11946, section 5).
        return torch.optim.RMSprop(groups, lr=lr, alpha=config.squares or 0.9, eps=1e-3, momentum=config.momentum)
    if config.name == "lion":
        lion: torch.optim.Optimizer = Lion(groups, lr=lr, betas=(config.momentum, config.squares or 0.99))
        return lion
    if config.name == "muon":
        # Depthwise kernels, biases and norms fall to AdamW in timm: the rows of a depthwise kernel are single channels,
        # which there is no sense in making orthogonal.
        betas = (0.9, config.squares or 0.95)
        muon: torch.optim.Optimizer = Muon(
            groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, betas=betas
        )
        return muon
    return torch.optim.AdamW(groups, lr=lr, betas=(config.momentum, config.squares or 0.999))


def lr_factor(step: int, total_steps: int, warmup_steps: int, schedule: Schedule, epoch_steps: float = 1.0) -> float:
    """The factor on the peak learning rate at a step.

    The decrease counts its progress from the end of the warm-up, so that there is no jump and the last value is
    `min_lr` exactly. (The official code divides the whole step by total - warm-up; its learning rate jumps down at
    the end of the warm-up and rises again in the last epoch.)

    Args:
        step: Number of optimiser steps already taken.
        total_steps: Number of optimiser steps of the whole training.
        warmup_steps: Number of steps of the warm-up.
        schedule: The course.
        epoch_steps: Number of optimiser steps of an epoch, for `exponential`.

    Examples:
        >>> poly = Schedule("poly", warmup_start=0.1, power=0.9)
        >>> [round(lr_factor(step, 110, 10, poly), 3) for step in (0, 5, 10, 60, 110)]
        [0.1, 0.55, 1.0, 0.536, 0.0]
    """
    if step < warmup_steps:
        return schedule.warmup_start + (1 - schedule.warmup_start) * step / warmup_steps
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "exponential":
        # In stairs, as the official code has it (`staircase=True`).
        turns = math.floor((step - warmup_steps) / (schedule.decay_epochs * epoch_steps) + 1e-9)
        return max(schedule.min_lr, schedule.decay**turns)
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if schedule.name == "flat_cosine":
        progress = max(0.0, (progress - schedule.flat) / (1 - schedule.flat))
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if "cosine" in schedule.name else (1 - progress) ** schedule.power
    return schedule.min_lr + (1 - schedule.min_lr) * fall


def build_scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule, total_steps: int, epochs: float) -> LambdaLR:
    """Build the scheduler, to be stepped after every optimiser step; its state is one step number.

    Args:
        optimizer: The optimiser, at its peak learning rates.
        schedule: The course.
        total_steps: Number of optimiser steps of the whole training.
        epochs: Number of epochs of the whole training; it turns `warmup_epochs` into steps.

    Raises:
        InputError: the number of steps is not known.
    """
    if not 0 < total_steps < math.inf:
        msg = "the learning rate needs the number of steps. Give trainer.max_epochs or trainer.max_steps above 0."
        raise InputError(msg)
    warmup_steps = schedule.warmup(total_steps, epochs)
    epoch_steps = total_steps / max(epochs, 1e-9)
    return LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, warmup_steps, schedule, epoch_steps))
