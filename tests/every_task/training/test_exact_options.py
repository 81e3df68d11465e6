"""Options with a state of their own: a training that was interrupted within an epoch ends like an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.detection.small import command
from tests.engine.checkpoints import assert_same_training, differences
from tests.every_task import watching

BRIEF = (
    "--config small.yaml --data.batch_size 2 --data.num_workers 0 --trainer.max_epochs 2 --trainer.limit_val_batches 0 "
    "--trainer.num_sanity_val_steps 0"
)
EVERY = (
    "--norms.warmup true --int8.simulate true --data.augmentation.policy.name randaugment "
    "--data.augmentation.erasing 0.5"
)
OWN = {
    "detection": "--model.loss.normaliser running --data.sampling.name repeat_factor --data.sampling.threshold 0.5",
    "segmentation": "--data.sampling.name rare_class",
    "joint": "--model.detection_loss.normaliser running --data.sampling.name class_balanced",
}


def stored(task: str, name: str) -> dict[str, object]:
    content: dict[str, object] = torch.load(Path(f"runs/{task}/{name}/checkpoints/last.ckpt"), weights_only=True)
    return content


@pytest.mark.slow  # three trainings; by default `test_schedules` has options of a state with them
def test_an_interrupted_training_ends_like_an_undisturbed_one(task):
    line = f"fit {BRIEF} {EVERY} {OWN[task]} --run.name"
    watching.run(task, f"{line} whole")
    crash = "--run.save_steps 1 --trainer.callbacks+ tests.joint.small.CrashAt --trainer.callbacks.crash 5"
    with pytest.raises(RuntimeError, match="power cut"):
        command(f"{line} cut {crash}", watching.find_task(task))
    broken = stored(task, "cut")
    assert broken["global_step"] == 4
    watching.run(task, f"{line} cut --ckpt_path last")
    whole, cut = stored(task, "whole"), stored(task, "cut")
    assert_same_training(whole, cut)
    own = [content["effdense"].get("running") for content in (whole, cut, broken)]
    assert not differences(own[0], own[1])
    assert (own[0] is None) == (task == "segmentation")
    assert own[0] is None or own[0] != own[2]
