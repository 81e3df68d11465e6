"""The options by which every task takes the settings of a recipe."""

from __future__ import annotations

from collections.abc import Mapping

# By the words of `engine.recipes.rules`; a task adds those of its own.
COMMON: Mapping[str, str] = {
    "batch": "data.batch_size",
    "epochs": "trainer.max_epochs",
    "evaluate_every": "trainer.check_val_every_n_epoch",
    "clip": "trainer.gradient_clip_val",
    "optimizer": "model.optimizer.name",
    "lr": "model.optimizer.lr",
    "lr_batch": "model.optimizer.lr_batch",
    "weight_decay": "model.optimizer.weight_decay",
    "backbone_lr": "model.optimizer.backbone_lr",
    "warmup_steps": "model.schedule.warmup_steps",
    "average": "ema.decay",
    "hflip": "data.augmentation.hflip",
    "scale_min": "data.augmentation.scale_min",
    "scale_max": "data.augmentation.scale_max",
}
