"""A segmenter learns from another, and its checkpoint is as without a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.distillation.losses import channel_distance
from engine.distillation.teachers import Teachers
from engine.errors import InputError
from segmentation import Segmenter
from segmentation.data.classes import MaskClasses
from segmentation.training.distiller import SegmenterDistiller
from segmentation.training.settings import Distillation
from tests.segmentation.small import command

SMALL = {"decoder_channels": 16, "skip_channels": 8, "drop_path": 0.0}


def distiller(student, teacher, **given):
    return SegmenterDistiller(student, Teachers(("t",), lambda _: teacher, Segmenter.fold), Distillation(**given))


def test_classes_are_compared_by_name():
    student = Segmenter("lite0", classes=MaskClasses(("sky", "car", "road")), **SMALL).eval()
    teacher = Segmenter("lite0", classes=MaskClasses(("road", "sky")), **SMALL).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    made = distiller(student, teacher, logits=3, temperature=2)
    assert not list(made.parameters())
    logits = student(images)
    with torch.no_grad():
        coarse = [torch.nn.functional.avg_pool2d(each, 4) for each in (logits[:, [0, 2]], teacher(images)[:, [1, 0]])]
        wanted = 3 * channel_distance(*coarse, 2)
    assert float(made(images, logits)) == pytest.approx(float(wanted), rel=1e-4)
    enlarged = distiller(student, teacher, enlarge=1.5)
    enlarged(images, logits).backward()
    assert all(p.grad is None for p in enlarged.teachers.networks[0].parameters())
    with pytest.raises(InputError, match="0 classes in common"):
        distiller(student, Segmenter("lite0", classes=MaskClasses(("a", "b")), **SMALL))


@pytest.mark.slow
def test_a_training_with_a_teacher_goes_on_exactly(here):
    line = "fit --config streets.yaml --trainer.limit_val_batches 0 --model.schedule.name poly"
    assert command(f"{line} --run.name teacher --trainer.max_epochs 1").code == 0
    teacher = "--model.distillation.teachers [runs/segmentation/teacher/checkpoints/last.ckpt]"
    line += " --model.schedule.name constant"
    for name, epochs in (("whole", 2), ("paused", 1)):
        said = command(f"{line} {teacher} --run.name {name} --trainer.max_epochs {epochs}")
        assert said.code == 0, said.err
    said = command(f"{line} --run.name paused --ckpt_path last")
    assert said.code == 0, said.err
    whole, paused = (
        torch.load(Path(f"runs/segmentation/{name}/checkpoints/last.ckpt"), weights_only=True)
        for name in ("whole", "paused")
    )
    assert whole["global_step"] == paused["global_step"] == 6
    assert all(torch.equal(value, paused["state_dict"][name]) for name, value in whole["state_dict"].items())
    assert all(name.startswith("segmenter.") for name in whole["state_dict"])
