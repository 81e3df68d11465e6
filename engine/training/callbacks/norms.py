"""Running statistics of batch norms that follow the number of steps, as the average of the weights does."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.modules.batchnorm import _BatchNorm

from engine.checked import checked


def share_of_batch(step: int, own: float) -> float:
    """The share of a batch in the running statistics, `own` once the training is long enough.

    It is 1 - min(1 - own, (1 + t) / (10 + t)), the share of new weights in TensorFlow's moving average after t updates
    (`ExponentialMovingAverage(num_updates=t)`, see `engine.training.averaging`). So the statistics are always those of
    about the last eighth of the training, and after 200 steps nothing is left of those that it began with, of which a
    share of 0.01 leaves 13 %.

    Args:
        step: t, steps that were done.
        own: the share in a long training, PyTorch's `momentum` of a batch norm.

    >>> [round(share_of_batch(step, 0.01), 3) for step in (0, 10, 200, 2000)]
    [0.9, 0.45, 0.043, 0.01]
    """
    return max(own, 9 / (10 + step))


class NormMomentum(Callback):
    """Let the running statistics of batch norms follow the number of steps.

    Args:
        warmup: whether a batch counts more in them at the start of the training, for trainings of less than about
            1,000 steps with the detector's share of 0.01, or 100 with the segmenter's of 0.1.
    """

    @checked
    def __init__(self, warmup: bool = False) -> None:
        self.warmup = warmup
        self._own: list[tuple[_BatchNorm, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember each norm's own share; those that average all batches equally have none and stay."""
        if self.warmup:
            norms = (module for module in pl_module.modules() if isinstance(module, _BatchNorm))
            self._own = [(norm, norm.momentum) for norm in norms if norm.momentum is not None]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Set the share of this step."""
        step = trainer.global_step
        for norm, own in self._own:
            norm.momentum = share_of_batch(step, own)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give each norm its own share back."""
        for norm, own in self._own:
            norm.momentum = own
        self._own = []
