"""Two processes train and measure as one does."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from tests.classification.small import command
from tests.ports import be_process, free_port

# Two steps of plain gradient descent over 12 images, whose norms stand still, so that only sums differ.
STEPS = (
    "fit --config small.yaml --data.root few --trainer.max_epochs 1 --trainer.num_sanity_val_steps 0 --ema.decay 0 "
    "--trainer.precision 64-true --model.optimizer.name sgd --model.optimizer.lr 0.01 --model.frozen_stages 2 "
    "--model.loss.class_weights balanced --trainer.callbacks+ tests.segmentation.small.Still"
)
MEASURE = "validate --config small.yaml --ckpt_path runs/classification/two/checkpoints/last.ckpt --run.pictures false"


def run_process(rank: int, world: int, port: int, folder: str) -> None:
    """One process of a training and a validation, set up as torchrun does it."""
    os.chdir(folder)
    be_process(rank, world, port)
    torch.set_num_threads(1)
    devices = f"--trainer.devices {world} --trainer.strategy ddp"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        said = command(f"{STEPS} --run.name two --data.batch_size 3 {devices}")
        assert said.code == 0, said.err
        said = command(f"{MEASURE} {devices} --model.scores two.json")
    assert said.code == 0, said.err
    assert bool(said.out) == (rank == 0)  # the table once
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_and_measure_as_one(color_set, tmp_path, monkeypatch):
    import torch.multiprocessing

    monkeypatch.chdir(tmp_path)
    for name in ("colors", "small.yaml"):
        (tmp_path / name).symlink_to(color_set / name)
    for path in sorted((color_set / "colors").rglob("*.png")):
        if int(path.stem) < 4:
            target = Path("few", *path.relative_to(color_set / "colors").parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    context = torch.multiprocessing.start_processes(
        run_process, (2, free_port(), str(tmp_path)), nprocs=2, start_method="forkserver", join=False
    )
    said = command(f"{STEPS} --run.name one --data.batch_size 6")
    assert said.code == 0, said.err
    while not context.join():
        pass
    one, two = (
        torch.load(f"runs/classification/{name}/checkpoints/last.ckpt", weights_only=True) for name in ("one", "two")
    )
    assert one["global_step"] == two["global_step"] == 2
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-4, atol=1e-6)
    # 15 images on two processes: one of them is seen twice.
    assert command(f"{MEASURE} --model.scores one.json").code == 0
    assert Path("one.json").read_text() == Path("two.json").read_text()
