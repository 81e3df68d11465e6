"""Each head trains on two processes, and the result is one network."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

from detection import load_network
from tests.ports import be_process, free_port

HEADS = ("retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn")


def run_process(rank, world, port, folder):
    """One process of a training of every head, set up as torchrun does it."""
    from tests.detection.heads.small import fit

    os.chdir(folder)
    be_process(rank, world, port)
    torch.set_num_threads(1)
    for head in HEADS:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            two = f"--trainer.devices {world} --trainer.strategy ddp --data.batch_size 2"
            said = fit(head, f"{two} --trainer.max_epochs 1", f"{head}_two")
        assert said.code == 0, said.err
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # ten trainings
def test_two_processes_train_one_network(heads_set, tmp_path):
    for name in ("scenes", "heads.yaml"):
        (tmp_path / name).symlink_to(heads_set / name)
    multiprocessing.set_forkserver_preload(["engine.cli.effdense_cli", "detection.data.module"])
    import torch.multiprocessing

    given = (2, free_port(), str(tmp_path))
    torch.multiprocessing.start_processes(run_process, given, nprocs=2, start_method="forkserver")
    for head in HEADS:
        run = tmp_path / f"runs/detection/{head}_two"
        network = load_network(Path(run, "checkpoints/last.ckpt"))
        assert isinstance(network, nn.Module)
        assert network.config.head == head
        assert all(value.isfinite().all() for value in network.state_dict().values())
        with (run / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        scored = [row["val_ap"] for row in rows if row["val_ap"]]
        assert len(scored) == 1  # by both together, once
        assert len([row for row in rows if row["train_loss"]]) == 3  # 12 images, 2 processes of 2
