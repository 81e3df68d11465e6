"""Two processes train a joint network as one does, even if one has only boxes and the other only masks."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from joint.task import JointTask
from tests.joint.small import command, write_configs
from tests.ports import be_process, free_port
from tests.segmentation.small import logged

# In double precision, because a last digit on the other side of a ReLU's kink would grow within a few steps.
LINE = (
    "--trainer.precision 64-true --trainer.max_epochs 1 --ema.decay 0 --model.optimizer.name sgd "
    "--model.optimizer.lr 0.02 --model.optimizer.lr_batch 8 --model.schedule.warmup_steps 1 "
    "--data.steps_per_epoch 2 --trainer.callbacks+ tests.segmentation.small.Still "
    "--trainer.callbacks+ tests.detection.small.Gradients"
)
# Of two processes with one image each, one has the image with boxes and the other that with the mask.
ONE_EACH = "--config two.yaml --trainer.limit_val_batches 0"
RUNS = {
    "fixed": (f"{ONE_EACH} --model.balance.measure 1", 1),
    "pcgrad": (f"{ONE_EACH} --model.balance.method pcgrad --model.balance.measure 1", 1),
    "per_task": (f"{ONE_EACH} --model.norms per_task --model.balance.method uncertainty", 1),
    "both": (
        "--config both.yaml --model.balance.method uncertainty --model.segmenter.architecture.aux_head true "
        "--model.segmentation_loss.dice 1",
        2,
    ),
}


def fit(name, processes):
    """Run a training on one process, or as one of several."""
    options, size = RUNS[name]
    run = f"{name}{processes}"
    devices = "" if processes == 1 else f"--trainer.devices {processes} --trainer.strategy ddp"
    batch = size * (2 // processes)
    said = command(
        f"fit {options} {LINE} --trainer.callbacks.place {run} --run.name {run} --data.batch_size {batch} {devices}"
    )
    assert said.code == 0, said.err


@contextmanager
def counted_calls():
    """The names of the collective calls of each training step, but for DDP's own of the gradients."""
    steps, usual = [], JointTask.training_step

    def seen(function):
        def call(*args, **kwargs):
            if steps:
                steps[-1].append(function.__name__)
            return function(*args, **kwargs)

        return call

    def step(task, batch, batch_idx):
        steps.append([])
        try:
            return usual(task, batch, batch_idx)
        finally:
            done.append(steps.pop())

    done = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "barrier", "all_gather", "broadcast", "all_gather_object", "broadcast_object_list"):
            patch.setattr(torch.distributed, name, seen(getattr(torch.distributed, name)))
        patch.setattr(JointTask, "training_step", step)
        yield done


def run_process(rank, world, port, folder, name):
    """One process of a training, set up as torchrun does it."""
    from tests.joint.test_processes import fit

    os.chdir(folder)
    be_process(rank, world, port)
    torch.set_num_threads(1)
    with counted_calls() as calls, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        fit(name, world)
    Path(f"{name}.{rank}.json").write_text(json.dumps(calls))
    torch.distributed.destroy_process_group()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in RUNS if name != "fixed"]


@pytest.fixture(scope="module", params=["fixed", *SLOW])
def run(request, streets, photos, tmp_path_factory):
    """Name and folder of the same training on one process and on two with half as many images each."""
    import torch.multiprocessing

    folder = tmp_path_factory.mktemp("processes")
    write_configs(folder, streets, photos)
    port = free_port()
    # Loaded once, not by each process.
    multiprocessing.set_forkserver_preload(["engine.cli.effdense_cli", "joint.data.module", "joint.prediction.trainer"])
    context = torch.multiprocessing.start_processes(
        run_process, (2, port, str(folder), request.param), nprocs=2, start_method="forkserver", join=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit(request.param, 1)
    while not context.join():
        pass
    return request.param, folder


def test_two_processes_have_the_gradients_of_one(run):
    name, folder = run
    for step in range(2):
        one, two = (torch.load(folder / f"{name}{count}/{step}.pt") for count in (1, 2))
        assert one.keys() == two.keys()
        for key, gradient in one.items():
            # Plain DDP: nothing without a gradient.
            assert gradient is not None, key
            scale = gradient.abs().max().clamp(min=1e-3)
            assert ((two[key] - gradient).abs().max() / scale) < 1e-5, (step, key)
        heads = ("detector.class_head", "detector.fpn", "segmenter.head", "backbone")
        assert all(any(gradient.abs().max() > 1e-4 for key, gradient in one.items() if head in key) for head in heads)
    assert ("uncertainty.log_variances" in one) == (name in ("per_task", "both"))


def test_two_processes_take_and_log_the_steps_of_one(run):
    name, folder = run
    one, two = (
        torch.load(folder / f"runs/joint/{name}{count}/checkpoints/last.ckpt", weights_only=True) for count in (1, 2)
    )
    assert one["global_step"] == two["global_step"] == 2
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-5, atol=1e-7)
    for part in ("loss", "detection_loss", "segmentation_loss", "box_loss"):
        values = [logged(folder / f"runs/joint/{name}{count}", f"train_{part}") for count in (1, 2)]
        assert len(values[0]) == 2
        assert values[1] == pytest.approx(values[0], rel=1e-5)


def test_a_step_has_one_collective_call(run):
    name, folder = run
    measured = 2 if name in ("fixed", "pcgrad") else 0  # the gradients of both losses, which `balance.measure` asks for
    for rank in range(2):
        calls = json.loads((folder / f"{name}.{rank}.json").read_text())
        assert calls == [["all_reduce"] * (1 + measured)] * 2


def test_two_processes_measure_what_one_does(run):
    """Three scenes: one process has one of them twice."""
    name, folder = run
    if name == "both":
        measures = ("val_ap", "val_ar100", "val_miou", "val_category_iou", "val_joint", "val_loss")
        count, near = 1, {"abs": 1e-6}
    else:
        measures, count, near = ("gradient_cosine", "gradient_norm_ratio"), 2 * (name != "per_task"), {"rel": 1e-5}
    for measure in measures:
        one, two = (logged(folder / f"runs/joint/{name}{processes}", measure) for processes in (1, 2))
        assert len(one) == count
        assert two == pytest.approx(one, **near)
