"""Mixed samples in the trainings of all tasks: the same with workers, and none at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.detection.small import command
from tests.every_task import watching

MIXED = {
    "detection": "--data.augmentation.mosaic 0.7 --data.augmentation.copy_paste 0.5 --data.augmentation.mixup 0.5",
    "segmentation": "--data.augmentation.mosaic 1",
    "joint": "--data.augmentation.mosaic 0.7 --data.augmentation.copy_paste 0.5",
}
POLICY = {"detection": "v1", "segmentation": "randaugment", "joint": "v2"}
ERASING = "--data.augmentation.erasing 0.5"
BRIEF = (
    "--config small.yaml --data.batch_size 3 --trainer.max_epochs 2 --trainer.limit_val_batches 0 "
    "--trainer.num_sanity_val_steps 0"
)


def batches(task: str, options: str, name: str) -> list[dict[str, torch.Tensor]]:
    watch = f"--trainer.callbacks+ {watching.__name__}.Batches --trainer.callbacks.place {name} --run.name {name}"
    policy = f"--data.augmentation.policy.name {POLICY[task]} {ERASING}"
    watching.run(task, f"fit {BRIEF} {policy} {options} {watch}")
    return [torch.load(path) for path in sorted(Path(name).glob("train-*.pt"))]


@pytest.mark.slow
def test_workers_change_nothing_and_the_end_is_plain(task):
    labels = "class_ids" if task == "segmentation" else "boxes_xyxy"
    plain = batches(task, "--data.num_workers 0", "plain")
    alone = batches(task, f"{MIXED[task]} --data.augmentation.closing 0.5 --data.num_workers 0", "alone")
    workers = batches(task, f"{MIXED[task]} --data.augmentation.closing 0.5 --data.num_workers 2", "workers")
    assert len(plain) == len(alone) == len(workers) > 1
    half = len(plain) // 2
    equal = [
        [
            a[labels].shape == b[labels].shape and torch.equal(a[labels], b[labels])
            for a, b in zip(one, other, strict=True)
        ]
        for one, other in ((alone, workers), (alone, plain))
    ]
    assert all(equal[0])
    assert not any(equal[1][:half])
    assert all(equal[1][half:])


@pytest.mark.parametrize("task", ["joint"], indirect=True)
def test_images_with_masks_are_not_blended(task):
    said = command(f"fit {BRIEF} --data.augmentation.mixup 0.5", watching.find_task(task))
    assert said.code == 2
    assert "a pixel of two images has no one class" in said.err
