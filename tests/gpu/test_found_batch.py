"""The memory of a GPU, as `data.batch_size auto` measures it."""

from __future__ import annotations

import pytest
import torch

from engine.training.finding.batches import CudaMemory, find_batch

MIB = 2**20


@pytest.mark.gpu
def test_a_step_takes_what_it_allocates_and_one_that_fails_is_none():
    device = torch.device("cuda")
    memory = CudaMemory(device)

    def step(images: int) -> None:
        torch.empty(images * 256 * MIB, dtype=torch.uint8, device=device)

    before = torch.cuda.memory_allocated(device) / MIB
    for images in (1, 3):
        peak = memory.peak_mib(lambda images=images: step(images))
        assert peak is not None
        assert peak - before == pytest.approx(256 * images, abs=4)
    assert (
        memory.peak_mib(lambda: step(4 * torch.cuda.get_device_properties(device).total_memory // (256 * MIB))) is None
    )
    limit = memory.limit_mib()
    found = find_batch(memory, step, most=64)
    assert found.images == min(64, int((limit - before) / 256))
