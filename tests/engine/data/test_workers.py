"""How many workers there are, and that their start by a fork server gives the same samples."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from engine.data import workers
from engine.data.workers import free_processors, too_many_workers, worker_context, worker_count


@pytest.mark.parametrize(
    ("cores", "quota", "devices", "free", "unasked"),
    [
        (2, None, 1, 2, 2),
        (64, None, 1, 64, 8),
        (64, 3, 1, 3, 3),
        (64, 96, 8, 8, 8),
        (4, None, 8, 1, 1),
        (1, 1, 1, 1, 1),
    ],
)
def test_no_more_than_the_processors(monkeypatch, cores, quota, devices, free, unasked):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    monkeypatch.setattr(workers, "processor_quota", lambda: quota)
    assert free_processors(devices) == free
    assert worker_count(None, devices) == unasked
    assert worker_count(17, devices) == 17  # a user's own choice stays
    assert too_many_workers(None, devices) is None
    assert too_many_workers(free, devices) is None
    assert f"data.num_workers is {free + 1}" in str(too_many_workers(free + 1, devices))
    assert f"Give --data.num_workers {free} or less" in str(too_many_workers(free + 1, devices))


def test_no_fork_where_cuda_is_used(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "fork")
    assert worker_context(2) is None
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert worker_context(0) is None
    assert worker_context(2) == "forkserver"
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert worker_context(2) is None
