"""Sums of images are those of the set: each image once, whatever the batches and processes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.scores import image_sums
from engine.scores.image_sums import ImageSums


def test_without_images_there_is_no_sum():
    sums = ImageSums()
    assert sums.total() is None
    sums.add(torch.empty(0, dtype=torch.int64), torch.empty(0, 3))
    assert sums.total() is None


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_batches_and_processes_do_not_matter(images, processes, batch, seed):
    """A sampler gives every process as many images, so some come twice; one process may have none at all."""
    rng = torch.Generator().manual_seed(seed)
    values = 100 * torch.rand(images, 3, generator=rng)
    order = torch.arange(images).repeat(2)[: -(-images // processes) * processes]
    parts = []
    for rank in range(processes):
        part = ImageSums()
        for ids in order[rank::processes].split(batch):
            part.add(ids, values[ids])
        parts.append(part)
    own, usual = [], image_sums.all_gather_objects
    try:
        image_sums.all_gather_objects = lambda value: own.append(value) or [value]  # what each process would send
        for part in parts:
            part.total()
        image_sums.all_gather_objects = lambda _: [*own, None]
        totals = [part.total() for part in parts]
    finally:
        image_sums.all_gather_objects = usual
    for total in totals:
        torch.testing.assert_close(total, values.double().sum(0).float(), rtol=1e-6, atol=0)
        assert torch.equal(total, totals[0])
