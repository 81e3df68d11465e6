"""Learning rates and batches that are found by trying: a test leaves no weights, and a tried step leaves no trace."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from tests.detection.small import command
from tests.engine.checkpoints import assert_same_training
from tests.every_task import watching

BRIEF = (
    "--config small.yaml --data.num_workers 0 --trainer.limit_val_batches 0 --trainer.num_sanity_val_steps 0 "
    "--trainer.max_epochs 1"
)


@pytest.mark.slow
def test_a_range_test_suggests_a_rate_and_keeps_nothing(task):
    said = command(f"fit {BRIEF} --data.batch_size 2 --lr_find.steps 20 --run.name test", watching.find_task(task))
    assert said.code == 0, said.err
    found = re.search(r"Give --model\.optimizer\.lr (\S+), ", said.out + said.err)
    assert found is not None, said.out + said.err
    assert 1e-6 < float(found[1]) < 1
    folder = Path(f"runs/{task}/test")
    with (folder / "lr_find.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 10 < len(rows) <= 20
    rates = [float(row["lr"]) for row in rows]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[1] / rates[0] == pytest.approx(1e7 ** (1 / 19), rel=1e-3)
    assert not list(folder.rglob("*.ckpt"))


@pytest.mark.slow
def test_a_batch_that_is_found_trains_as_if_it_had_been_given(task):
    said = command(f"fit {BRIEF} --data.batch_size auto --run.name found", watching.find_task(task))
    assert said.code == 0, said.err
    found = re.search(r"data\.batch_size auto: (\d+) images", said.out + said.err)
    assert found is not None, said.out + said.err
    watching.run(task, f"fit {BRIEF} --data.batch_size {found[1]} --run.name given")
    one, other = (
        torch.load(f"runs/{task}/{name}/checkpoints/last.ckpt", weights_only=True) for name in ("found", "given")
    )
    assert_same_training(one, other)
    watching.run(task, f"fit {BRIEF} --trainer.max_epochs 2 --data.batch_size auto --run.name found --ckpt_path last")
