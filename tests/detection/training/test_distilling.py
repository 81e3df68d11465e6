"""A detector learns from a larger one: the same after a pause, and nothing of the teacher is in its checkpoint."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from detection import EfficientDet, load_network
from detection.data.classes import BoxClasses
from detection.network.anchors import make_anchors
from detection.training.distiller import DetectorDistiller
from detection.training.settings import Distillation
from engine.distillation.teachers import Teachers
from engine.errors import InputError
from engine.training.checkpoints import save_metadata
from tests.detection.small import CANVAS_HW, command

SMALL = {"image_size": CANVAS_HW, "fpn_cells": 1, "head_repeats": 1, "drop_path": 0.0}
LINE = "fit --config small.yaml --model.distillation.teachers [teacher.ckpt]"
ENDS = "--trainer.limit_val_batches 0"


def detector(channels=16, *, classes=3, **given):
    torch.manual_seed(channels)
    return EfficientDet("lite0", classes, **{**SMALL, "fpn_channels": channels, **given})


def distiller(student, teacher, **given):
    teachers = Teachers(("t",), lambda _: teacher, EfficientDet.fold)
    return DetectorDistiller(student, teachers, Distillation(("t",), **given))


def images(count=2, canvas_hw=CANVAS_HW):
    return torch.randint(0, 256, (count, 3, *canvas_hw), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_copy_has_nothing_to_learn():
    student, teacher = detector().eval(), detector().eval()
    teacher.load_state_dict(student.state_dict())
    made = distiller(student, teacher)
    assert not list(made.parameters())
    with torch.no_grad():
        answers = student.answers(images())
        lessons = made(images(), answers, student.lattice(CANVAS_HW))
    each = float(lessons.classes) / answers.class_logits.numel()  # folding moves the last digits of a score
    assert [float(lessons.features), each, float(lessons.boxes)] == pytest.approx([0, 0, 0], abs=1e-6)


def test_lessons_are_those_of_the_papers():
    """Against plain words, anchor by anchor, for a teacher of another width that knows two of the three classes."""
    student, teacher = detector(16), detector(24, classes=2)
    student.set_classes(BoxClasses(("a", "b", "c"), (1, 2, 3)))
    teacher.set_classes(BoxClasses(("c", "a"), (1, 2)))
    torch.nn.init.normal_(teacher.class_head.predict.pointwise.bias, -2.0)
    made = distiller(student.eval(), teacher.eval(), focusing=2.0)
    assert [adapter.weight.shape[:2] for adapter in made.adapters[0]] == [(24, 16)] * 5
    answers = student.answers(images())
    lessons = made(images(), answers, student.lattice(CANVAS_HW))
    with torch.no_grad():
        taught = teacher.answers(images())
        y, p = taught.class_logits.sigmoid(), answers.class_logits.sigmoid()[..., [2, 0]]
        classes = ((y - p).abs() ** 2 * -(y * p.log() + (1 - y) * (1 - p).log())).sum()
        sure = y.amax(-1) ** 2
        apart = (answers.box_deltas - taught.box_deltas).abs()
        huber = torch.where(apart < 0.1, apart**2 / 2, 0.1 * (apart - 0.05)).mean(-1)
    assert float(lessons.classes) == pytest.approx(float(classes), rel=1e-3)
    assert float(lessons.boxes) == pytest.approx(float((huber * sure).sum()), rel=1e-3)
    assert float(lessons.sureness) == pytest.approx(float(sure.sum()), rel=1e-3)
    sum(lessons.terms(made.config, lessons.sureness).values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters())
    assert all(p.grad is None for p in made.teachers.networks[0].parameters())


def test_of_enlarged_images_coarser_levels_teach():
    """The anchors of the levels that are compared have the same places and sizes relative to the image."""
    student = detector().eval()
    teacher = detector(24, image_size=(256, 256))
    made = distiller(student, teacher)
    lessons = made(images(), student.answers(images()), student.lattice(CANVAS_HW))
    assert len(made.adapters[0]) == 4
    assert 0 < float(lessons.features) < 2
    own, other = make_anchors(CANVAS_HW, student.config), make_anchors((256, 256), teacher.config)
    skipped = teacher.lattice((256, 256)).counts()[0]
    shared = len(other) - skipped
    torch.testing.assert_close(own[:shared] * 2, other[skipped:])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"anchor_scale": 4.0}, "anchor_scale 4.0, and this network has 3.0"),
        ({"classes": 2}, "knows none of the classes"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(given, words):
    student, teacher = detector(), detector(24, **given)
    teacher.set_classes(BoxClasses.in_order([(f"other_{i}", i) for i in range(1, len(teacher.classes) + 1)]))
    with pytest.raises(InputError, match=words):
        distiller(student, teacher)
    distiller(student, teacher, classes=0, boxes=0)


@pytest.fixture(scope="module")
def taught(small_set, tmp_path_factory):
    """A wider teacher, as a training writes it, and a student of two epochs."""
    folder = tmp_path_factory.mktemp("taught")
    for name in ("scenes", "small.yaml"):
        (folder / name).symlink_to(small_set / name)
    categories = json.loads((folder / "scenes/annotations/instances_train.json").read_text())["categories"]
    teacher = detector(24, classes=len(categories))
    teacher.set_classes(BoxClasses.in_order((each["name"], each["id"]) for each in categories))
    stored = {"state_dict": {f"detector.{key}": value for key, value in teacher.state_dict().items()}}
    save_metadata(stored, "detection", teacher.settings())
    torch.save(stored, folder / "teacher.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = command(f"{LINE} --model.schedule.name constant --run.name whole {ENDS}")
        assert said.code == 0, said.err
    return folder


def content(name):
    return torch.load(f"runs/detection/{name}/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.slow
def test_a_training_with_a_teacher_goes_on_exactly(taught, monkeypatch):
    monkeypatch.chdir(taught)
    said = command(f"{LINE} --model.schedule.name constant --run.name paused {ENDS} --trainer.max_epochs 1")
    assert said.code == 0, said.err
    # Without the option: the checkpoint names its teachers.
    resumed = f"fit --config small.yaml --run.name paused {ENDS} --ckpt_path last"
    said = command(resumed)
    assert said.code == 0, said.err
    whole, paused = content("whole"), content("paused")
    assert whole["global_step"] == paused["global_step"] == 6
    for part in ("state_dict", "current_model_state"):
        assert whole[part].keys() == paused[part].keys()
        assert all(torch.equal(value, paused[part][name]) for name, value in whole[part].items())
    with Path("runs/detection/whole/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("features", "classes", "boxes"):
        assert any(row[f"train_distilled_{name}"] for row in rows)
    said = command(f"{resumed} --trainer.max_epochs 3 --model.distillation.classes 3")
    assert said.code == 2
    assert "model.distillation.classes is 3.0" in said.err


def test_the_checkpoint_holds_the_student_alone(taught, monkeypatch):
    monkeypatch.chdir(taught)
    stored = content("whole")
    extra = {name for name in stored["state_dict"] if not name.startswith("detector.")}
    assert extra
    assert all(name.startswith("distiller.adapters.") for name in extra)
    assert stored["effdense"]["model"]["distillation"]["teachers"] == ["teacher.ckpt"]
    assert len(stored["effdense"]["model"]["teacher_fingerprints"][0]) == 64
    network = load_network("runs/detection/whole/checkpoints/last.ckpt")
    assert network.config.fpn_channels == 16
    monkeypatch.setattr("detection.task.make_distiller", None)  # nothing but a training asks for teachers
    said = command("validate --config small.yaml --ckpt_path last --run.name whole")
    assert said.code == 0, said.err
