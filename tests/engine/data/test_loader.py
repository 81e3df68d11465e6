"""The sequence of batches: its shares and orders, two processes, workers, and resuming within an epoch."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from engine.data.loader import SampleLoader
from engine.data.mixture import Mixture
from engine.distributed import all_gather_objects
from engine.errors import InputError

SIZES, RATIO, BATCH = (23, 7), (3.0, 1.0), 6


class Noisy(Dataset):
    """Each sample is its number and random numbers of torch's generator, as an augmenter draws them."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> tuple[str, int, int]:
        assert 0 <= place < self.size
        return self.name, place, int(torch.randint(2**62, ()))


def loader(seed=3, workers=0, rank=0, world=1, steps=None, sizes=SIZES, ratio=RATIO, batch=BATCH):
    sets = [Noisy(name, size) for name, size in zip("ab", sizes, strict=False)]
    mixture = Mixture(sizes, ratio, batch, seed)
    return SampleLoader(sets, mixture, list, steps=steps, rank=rank, world=world, num_workers=workers)


def epochs(given, count):
    return [list(given) for _ in range(count)]


def passes(samples, size):
    """A set's samples, pass by pass; the last may be unfinished."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


class TestShares:
    @settings(max_examples=80, deadline=None)
    @given(
        sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        ratio=st.tuples(st.floats(0, 50), st.floats(0.01, 50)),
        batch=st.integers(1, 9),
    )
    def test_any_sets_in_any_ratio(self, sizes, ratio, batch):
        mixture = Mixture(sizes, ratio, batch, seed=0)
        share = ratio[0] / (ratio[0] + ratio[1])
        seen = Counter()
        visits = Counter()
        for step in range(30):
            draws = mixture.at(step)
            assert len(draws) == batch
            seen.update(draw.which for draw in draws)
            visits.update((draw.which, draw.visit, draw.place) for draw in draws)
            # The share is right to half a sample at every step, which is less than a batch.
            assert abs(seen[0] - share * batch * (step + 1)) <= 0.5 + 1e-6
            assert abs(sum(d.which == 0 for d in draws) - share * batch) < 1 + 1e-6
        assert max(visits.values()) == 1  # nothing twice in a pass
        for which, size in enumerate(sizes):
            full = seen[which] // size
            assert all((which, visit, place) in visits for visit in range(full) for place in range(size))

    def test_an_epoch_is_one_pass_of_the_set_that_takes_longer(self):
        # 23 samples at 4.5 a batch, 7 at 1.5.
        assert Mixture((23, 7), (3, 1), 6, 0).pass_steps == 5
        assert Mixture((23, 7), (1, 3), 6, 0).pass_steps == 15
        assert Mixture((23, 700), (1, 0), 6, 0).pass_steps == 3
        assert Mixture((23,), (1,), 6, 0).pass_steps == 3
        assert Mixture((2,), (1,), 6, 0).pass_steps == 1
        assert len(loader(steps=4)) == len(list(loader(steps=4))) == 4

    def test_one_set_is_seen_whole_in_each_pass_though_epochs_end_within(self):
        given = loader(sizes=(23,), ratio=(1.0,))
        assert len(given) == 3
        samples = [sample for epoch in epochs(given, 12) for batch in epoch for sample in batch]
        for seen in passes(samples, 23)[:-1]:
            assert sorted(place for _, place, _ in seen) == list(range(23))

    def test_refusals(self):
        for sizes, ratio, batch, message in (
            ((3, 3), (1.0,), 2, "2 sets are to be mixed"),
            ((3, 3, 3), (1.0, 1.0, 1.0), 2, "3 sets are to be mixed"),
            ((3, 3), (-1.0, 1.0), 2, r"ratio is \[-1.0, 1.0\]"),
            ((3, 3), (0.0, 0.0), 2, "not all of them 0"),
            ((3, 3), (float("nan"), 1.0), 2, r"ratio is \[nan, 1.0\]; allowed: a list, each a number, at least 0"),
            ((3, 0), (1.0, 1.0), 2, "has no image"),
            ((3, 3), (1.0, 1.0), 0, "batch is 0; allowed: a whole number, at least 1"),
        ):
            with pytest.raises(InputError, match=message):
                Mixture(sizes, ratio, batch, 0)
        with pytest.raises(InputError, match="on 4 processes"):
            loader(world=4)
        with pytest.raises(InputError, match="0 in an epoch"):
            loader(steps=0)


class TestOrders:
    def test_none_repeats_within_an_epoch(self):
        (epoch,) = epochs(loader(ratio=(1.0, 1.0), steps=30), 1)
        for name, size in zip("ab", SIZES, strict=True):
            seen = passes([sample for batch in epoch for sample in batch if sample[0] == name], size)
            orders = [tuple(place for _, place, _ in one) for one in seen if len(one) == size]
            assert len(orders) >= 3
            assert len(set(orders)) == len(orders)
            # The random numbers of a sample do not repeat either.
            assert len({noise for one in seen for _, _, noise in one}) == sum(map(len, seen))

    def test_they_follow_the_seed_alone(self):
        before = torch.random.get_rng_state()
        torch.manual_seed(1)
        one = epochs(loader(), 2)
        torch.manual_seed(2)
        assert epochs(loader(), 2) == one
        assert epochs(loader(seed=4), 2) != one
        torch.random.set_rng_state(before)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_the_random_state_of_the_process_stays(self, workers):
        before = torch.random.get_rng_state()
        epochs(loader(workers=workers), 1)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_a_failed_sample_leaves_no_trace_either(self):
        class Torn(Noisy):
            def __getitem__(self, place):
                torch.rand(())
                raise InputError(f"sample {place} is torn")

        before = torch.random.get_rng_state()
        with pytest.raises(InputError, match="is torn"):
            next(iter(SampleLoader([Torn("a", 4)], Mixture((4,), (1.0,), 2, 0), list)))
        assert torch.equal(torch.random.get_rng_state(), before)


class TestGoingOn:
    @pytest.mark.by_default("12-2-2", "5-0-2", "5-0-0")
    @pytest.mark.parametrize(("workers", "later"), [(0, 0), (2, 0), (0, 2), (2, 2)])
    @pytest.mark.parametrize("seen", [1, 5, 12])
    def test_a_killed_training_sees_the_same_batches(self, workers, later, seen):
        whole = [batch for epoch in epochs(loader(), 4) for batch in epoch]
        first = loader(workers=workers)
        steps = len(first)
        before, state = [], None
        while len(before) < seen:
            for batch in first:
                before.append(batch)
                state = json.loads(json.dumps(first.state_dict()))  # while the batch is used
                if len(before) == seen:
                    break  # workers have made others ahead
        second = loader(seed=99, workers=later)  # the seed is the checkpoint's
        second.load_state_dict(state)
        assert second.state_dict() == state
        rest = list(second)
        # The interrupted epoch ends where it would have ended; after an epoch that was at its end the next one follows.
        assert len(rest) == (-seen % steps or steps)
        rest += list(second)
        assert before + rest == whole[: seen + len(rest)]

    def test_an_iterator_asked_for_but_not_used_counts_nothing(self):
        given, other = loader(), loader()
        iter(given)
        assert next(iter(given)) == next(iter(other))
        state = given.state_dict()
        assert state["position"] == 1
        given.load_state_dict(state)
        iter(given)  # as Lightning does where the epoch was at its end
        assert len(list(given)) == len(given)

    def test_other_data_are_refused_within_an_epoch(self):
        state = loader().state_dict()
        for changed, message in (
            ({"batch": 4}, "cannot go on with 4 in place of 6 images per step on all devices"),
            ({"ratio": (1.0, 1.0)}, r"cannot go on with \[1.0, 1.0\] in place of \[3.0, 1.0\] as ratio"),
            ({"sizes": (23, 8)}, "cannot go on with 23 and 8 in place of 23 and 7 images"),
        ):
            with pytest.raises(InputError, match=f"{message}.*from the end of an epoch"):
                loader(**changed).load_state_dict(state)

    @settings(max_examples=30, deadline=None)
    @given(batches=st.lists(st.integers(1, 9), min_size=2, max_size=4), ratio=st.sampled_from([(3.0, 1.0), (1.0, 1.0)]))
    def test_batches_of_another_size_go_on_with_the_next_sample(self, batches, ratio):
        """Where an epoch has ended; whatever the sizes, each set is seen in the order of one uninterrupted sequence."""
        seen, state, total = [], None, 0
        for batch in batches:
            given = loader(batch=batch, ratio=ratio, steps=3, seed=3 if state is None else 99)
            if state is not None:
                note = given.load_state_dict(state, within_epoch=False)
                assert (note is None) == (batch == state["batch"])
            seen += [sample for drawn in given for sample in drawn]
            total += 3 * batch
            state = json.loads(json.dumps(given.state_dict()))
        alone = [sample for drawn in loader(batch=1, ratio=ratio, steps=total) for sample in drawn]
        for name in "ab":
            assert [s for s in seen if s[0] == name] == [s for s in alone if s[0] == name]

    def test_other_sets_go_on_after_an_epoch(self):
        state = loader().state_dict()
        given = loader(sizes=(30, 7))
        assert (
            given.load_state_dict(state, within_epoch=False)
            == "the training goes on with 30 and 7 in place of 23 and 7 images"
        )
        assert {
            place for drawn in epochs(given, 9) for batch in drawn for name, place, _ in batch if name == "a"
        } == set(range(30))


class Unruly(Noisy):
    """Draws from every generator of the process, as a user's own transform may."""

    def __getitem__(self, place):
        import random

        return super().__getitem__(place), random.random(), float(np.random.rand())  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_every_generator_of_the_process_is_seeded(workers):
    def read(workers, seed=3):
        return list(SampleLoader([Unruly("a", 9)], Mixture((9,), (1.0,), 3, seed), list, num_workers=workers))

    random_state = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert read(workers) == read(0)
    assert read(workers, seed=4) != read(0)
    assert np.random.get_state()[1].tolist() == random_state  # noqa: NPY002


def test_the_same_batches_again_and_again():
    def read(overfit, workers=0):
        given = SampleLoader([Noisy("a", 9)], Mixture((9,), (1.0,), 2, 3), list, num_workers=workers, overfit=overfit)
        return [batch for epoch in epochs(given, 2) for batch in epoch]

    first = read(None)
    assert read(2) == first[:2] * 4
    assert read(1, workers=1) == first[:1] * 8


def read_in_process(rank, world, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    given = loader(rank=rank, world=world, workers=rank)  # the processes need not even have as many workers
    mine = [batch for epoch in epochs(given, 4) for batch in epoch]
    everyone = all_gather_objects(mine)
    states = all_gather_objects(given.state_dict())
    if rank == 0:
        Path(folder, "seen.json").write_text(json.dumps({"batches": everyone, "states": states}))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_see_every_sample_once_a_pass(tmp_path):
    multiprocessing.set_forkserver_preload(["torch.distributed", "engine.data.loader"])
    torch.multiprocessing.start_processes(read_in_process, (2, str(tmp_path)), nprocs=2, start_method="forkserver")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["states"][0] == seen["states"][1]
    first, second = ([[tuple(sample) for sample in batch] for batch in mine] for mine in seen["batches"])
    alone = [batch for epoch in epochs(loader(), 4) for batch in epoch]
    assert len(first) == len(second) == len(alone) == 20
    for one, other, both in zip(first, second, alone, strict=True):
        assert len(one) == len(other) == BATCH // 2
        assert sorted(one + other) == sorted(both)  # and with the same random numbers
        assert abs(sum(name == "a" for name, *_ in one) - sum(name == "a" for name, *_ in other)) <= 1
    for name, size in zip("ab", SIZES, strict=True):
        places = Counter(dict.fromkeys(range(size), 0))
        for one, other in zip(first, second, strict=True):
            places.update(place for sample, place, _ in one + other if sample == name)
            # At any step each sample was seen in every pass that has ended, and at most once in the current one.
            assert max(places.values()) - min(places.values()) <= 1
        assert sum(places.values()) == {"a": 90, "b": 30}[name]


def test_gradients_do_not_depend_on_the_processes():
    """Two processes have together the samples that one process has, so that sums over them are equal too."""
    weights = torch.linspace(-1, 1, 23)
    one, shared = loader(batch=4), [loader(batch=4, rank=rank, world=2) for rank in range(2)]
    for whole, *parts in zip(one, *shared, strict=True):
        total = sum(weights[place] for _, place, _ in whole)
        assert torch.isclose(sum(weights[place] for part in parts for _, place, _ in part), total, atol=1e-6)


def test_neighbouring_passes_are_not_correlated():
    """The mean shift of a sample's place from one pass to the next is that of independent orders, n / 3."""
    mixture = Mixture((400,), (1.0,), 400, seed=0)
    orders = [[draw.place for draw in mixture.at(step)] for step in range(20)]
    shifts = []
    for one, other in pairwise(orders):
        where = {place: number for number, place in enumerate(other)}
        shifts += [abs(number - where[place]) for number, place in enumerate(one)]
    assert sum(shifts) / len(shifts) == pytest.approx(400 / 3, rel=0.05)
