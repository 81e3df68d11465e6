"""The collective calls with one process and with three."""

import json
import multiprocessing
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from engine import distributed
from engine.errors import InputError


def test_without_a_group_each_call_is_the_identity():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    value = {"a": []}
    assert distributed.all_gather_objects(value) == [value]
    tensor = torch.ones(2, requires_grad=True)
    total = distributed.all_reduce_sum(tensor)
    assert total.tolist() == [1, 1]
    assert not total.requires_grad
    total += 1
    assert tensor.tolist() == [1, 1]
    assert distributed.run_on_main(lambda: 7) == 7
    distributed.barrier()


def fail():
    msg = "no such file. Give another."
    raise InputError(msg)


def slow_answer():
    time.sleep(2)
    return "late"


def wait_long(rank, world, folder):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=timedelta(seconds=1)
    )
    answers = [distributed.run_on_main(slow_answer), distributed.run_on_main(lambda: "soon")]
    Path(folder, f"{rank}.json").write_text(json.dumps(answers))
    dist.destroy_process_group()


def test_the_main_process_may_take_longer_than_the_limit_of_the_group(tmp_path):
    multiprocessing.set_forkserver_preload(["torch.distributed"])
    torch.multiprocessing.start_processes(wait_long, (2, str(tmp_path)), nprocs=2, start_method="forkserver")
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == ["late", "soon"]


def run_process(rank, world, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    values = torch.tensor([1.0, rank])
    seen = {
        "place": [distributed.rank(), distributed.world_size(), distributed.is_main()],
        # The value of rank 0 is empty: a gather that takes its length for all would lose the others.
        "gathered": distributed.all_gather_objects(list(range(rank))),
        "sum": distributed.all_reduce_sum(values).tolist(),
        "unchanged": values.tolist(),
        "from_main": distributed.run_on_main(lambda: f"rank {distributed.rank()}"),
    }
    try:
        distributed.run_on_main(fail)
    except InputError as error:
        seen["error"] = str(error)
    distributed.barrier()
    Path(folder, f"{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


def test_three_processes(tmp_path):
    multiprocessing.set_forkserver_preload(["torch.distributed"])  # PyTorch is loaded once, not by each process
    torch.multiprocessing.start_processes(run_process, (3, str(tmp_path)), nprocs=3, start_method="forkserver")
    for rank in range(3):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "place": [rank, 3, rank == 0],
            "gathered": [[], [0], [0, 1]],
            "sum": [3, 3],
            "unchanged": [1, rank],
            "from_main": "rank 0",
            "error": "no such file. Give another.",
        }


def test_an_error_on_the_main_process_is_raised_as_it_is():
    with pytest.raises(InputError, match="Give another"):
        distributed.run_on_main(fail)
