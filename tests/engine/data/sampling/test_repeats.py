"""How often samples come: the papers' formulas by plain loops, and passes that keep them exactly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.loader import SampleLoader, seeded
from engine.data.mixture import Mixture
from engine.data.sampling.labels import SampleLabels, together
from engine.data.sampling.repeats import (
    LEAST_SHARE,
    Chosen,
    ClassFocus,
    Repeats,
    balanced,
    preferring_rare,
    repeat_factors,
)
from engine.data.sampling.settings import BoxSampling, MaskSampling
from engine.errors import InputError
from tests.engine.data.test_loader import Noisy

# Rows are images, columns classes; the last image shows nothing, and class 3 is nowhere.
TABLE = np.array(
    [[9, 0, 1, 0], [5, 0, 0, 0], [4, 2, 0, 0], [7, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0]]
)
LABELS = SampleLabels.of_table(TABLE)


def lvis(table: np.ndarray, threshold: float) -> list[float]:
    """As the paper writes it, image by image."""
    images = len(table)
    found = []
    for row in table:
        factors = [1.0]
        for class_id in np.flatnonzero(row):
            share = sum(1 for other in table if other[class_id]) / images
            factors.append(max(1.0, math.sqrt(threshold / share)))
        found.append(max(factors))
    return found


@pytest.mark.parametrize("threshold", [0.001, 0.2, 0.5, 1.0])
def test_repeat_factors_are_lvis(threshold):
    assert repeat_factors(LABELS, threshold) == pytest.approx(lvis(TABLE, threshold), rel=1e-12)


def test_repeat_factors_are_detectron2s_example():
    # Of its test of the sampler: c1 is in 1 of 2 images, c0 in both; with threshold 0.5 factors are 1.
    labels = SampleLabels.of_table(np.array([[1, 1], [1, 0]]))
    assert repeat_factors(labels, 0.5).tolist() == [1.0, 1.0]
    assert repeat_factors(labels, 1.0).tolist() == pytest.approx([math.sqrt(2), 1.0])


def drawn_by_class(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(image) where a class is drawn first, and then one of its images."""
    found = np.zeros(len(table))
    present = [class_id for class_id in range(table.shape[1]) if table[:, class_id].any()]
    for class_id in present:
        share = weights[class_id] / weights[present].sum()
        own = np.flatnonzero(table[:, class_id])
        for image in own:
            found[image] += share / len(own)
    return found


def test_balanced_is_a_class_and_then_an_image():
    expected = drawn_by_class(TABLE, np.ones(4)) * 7  # images that show something
    assert balanced(LABELS).repeats() == pytest.approx([*expected[:-1], 1.0], rel=1e-12)


def test_rare_classes_as_in_daformer():
    pixels = TABLE * 10_000
    shares = pixels.sum(0) / pixels.sum()
    weights = np.exp((1 - shares) / 0.1)
    expected = drawn_by_class(pixels, weights) * 7
    found = preferring_rare(SampleLabels.of_table(pixels), 0.1).repeats()
    assert found == pytest.approx([*expected[:-1], 1.0], rel=1e-9)
    assert np.isfinite(preferring_rare(SampleLabels.of_table(pixels), 1e-4).repeats()).all()


def test_an_image_with_a_few_pixels_of_a_class_is_not_taken_for_it():
    few = int(LEAST_SHARE * 1e6) // 2
    table = np.array([[10**6, few, 0], [10**6, 10**5, 1], [10**6, 0, 0]])
    preference = preferring_rare(SampleLabels.of_table(table), 0.01)
    taken = {(int(s), int(c)) for s, c in zip(*preference.labels[1:3], strict=True)}
    # Class 2 has enough pixels nowhere, so that it is taken where it is.
    assert taken == {(0, 0), (1, 0), (2, 0), (1, 1), (1, 2)}


def test_the_class_of_a_sample_is_bayes():
    """Drawing an image by its share and then its class is drawing a class and then its image."""
    preference = balanced(LABELS)
    focus = ClassFocus(preference)
    joint = {(int(s), int(c)): p for s, c, p in zip(*preference.labels[1:3], preference.shares, strict=True)}
    with seeded(3):
        counts = Counter(focus.draw(2) for _ in range(4000))
    own = {c: p for (s, c), p in joint.items() if s == 2}
    for class_id, share in own.items():
        assert counts[class_id] / 4000 == pytest.approx(share / sum(own.values()), abs=0.03)
    assert focus.draw(7) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 6), min_size=1, max_size=30).filter(lambda counts: sum(counts) > 0.1), st.integers(0, 99))
def test_passes_have_one_length_and_round_up_or_down(counts, seed):
    repeats = Repeats(np.array(counts), "any")
    assert 0 <= repeats.length - sum(counts) < 1
    places, numbers = repeats.order(np.random.default_rng(seed))
    assert len(places) == len(numbers) == repeats.length
    found = np.bincount(places, minlength=len(counts))
    assert (np.abs(found - repeats.counts) < 1 + 1e-6).all()
    for place in range(len(counts)):
        assert sorted(numbers[places == place]) == list(range(found[place]))


def test_the_mean_over_passes_is_the_number():
    counts = np.array([1.0, 1.3, 2.75, 1.0, 0.4, 1.0])
    repeats = Repeats(counts, "any")
    found = sum(np.bincount(repeats.order(np.random.default_rng(i))[0], minlength=6) for i in range(4000)) / 4000
    assert found == pytest.approx(repeats.counts, abs=0.03)


def sampled(workers=0, rank=0, world=1, batch=4, counts=(1.0, 3.5, 1.0, 1.2, 1.0), seed=3):
    repeats = Repeats(np.array(counts), "repeat_factor")
    mixture = Mixture((repeats.length,), (1.0,), batch, seed, repeats=(repeats,))
    return SampleLoader([Noisy("a", len(counts))], mixture, list, rank=rank, world=world, num_workers=workers)


def flat(loader, count):
    return [batch for _ in range(count) for batch in loader]


class TestTheSequence:
    def test_copies_differ_within_a_pass(self):
        samples = [sample for batch in flat(sampled(batch=8), 3) for sample in batch]
        noise = [value for _, _, value in samples]
        assert len(set(noise)) == len(noise) == 24
        for start in (0, 8, 16):
            counts = Counter(place for _, place, _ in samples[start : start + 8])
            assert counts[1] in (3, 4)
            assert all(counts[place] >= 1 for place in range(5))

    def test_workers_and_processes_change_nothing(self):
        alone = flat(sampled(), 3)
        assert flat(sampled(workers=2), 3) == alone
        parts = [flat(sampled(rank=rank, world=2), 3) for rank in range(2)]
        both = [[*a, *b] for a, b in zip(*parts, strict=True)]
        assert [sorted(batch) for batch in both] == [sorted(batch) for batch in alone]

    @pytest.mark.parametrize("stop", [1, 2, 3])
    def test_it_goes_on_within_a_pass(self, stop):
        whole = flat(sampled(), 3)
        first = sampled()
        seen = []
        for batch in first:
            seen.append(batch)
            if len(seen) == stop:
                break
        second = sampled(seed=9)
        second.load_state_dict(first.state_dict())
        seen += list(second)
        assert seen == whole[: len(seen)]
        assert flat(second, 1) == whole[len(seen) : len(seen) + len(second)]

    def test_other_repeats_are_refused_within_an_epoch_and_told_at_its_end(self):
        state = sampled().state_dict()
        other = sampled(counts=(1.0, 1.0, 3.5, 1.2, 1.0))
        with pytest.raises(InputError, match=r"repeat_factor \w{8} in place of repeat_factor \w{8} as sampling"):
            other.load_state_dict(state)
        assert "as sampling" in other.load_state_dict(state, within_epoch=False)
        plain = SampleLoader([Noisy("a", 5)], Mixture((5,), (1.0,), 4, 3), list)
        assert "every in place of repeat_factor" in plain.load_state_dict(state, within_epoch=False)

    def test_a_checkpoint_of_before_goes_on(self):
        plain = SampleLoader([Noisy("a", 5)], Mixture((5,), (1.0,), 4, 3), list)
        state = plain.state_dict()
        del state["orders"]
        assert plain.load_state_dict(state) is None


def test_labels_of_two_kinds_stay_apart():
    boxes = SampleLabels.counted(3, np.array([0, 0, 2]), np.array([1, 1, 0]))
    assert [part.tolist() for part in boxes[1:]] == [[0, 2], [1, 0], [2.0, 1.0]]
    pixels = SampleLabels.of_table(np.array([[5, 0], [0, 6], [7, 8]]))
    both = together([boxes, pixels])
    assert sorted(zip(*(part.tolist() for part in both[1:]), strict=True)) == [
        (0, 1, 2.0), (0, 2, 5.0), (1, 3, 6.0), (2, 0, 1.0), (2, 2, 7.0), (2, 3, 8.0),
    ]  # fmt: skip
    assert boxes.repeated(2).sample_ids.tolist() == [0, 2, 3, 5]
    assert [part.tolist() for part in boxes.taken(np.array([2, 1]))[1:]] == [[0], [0], [1.0]]


def test_nothing_to_go_by():
    none = SampleLabels.counted(4, np.empty(0, np.int64), np.empty(0, np.int64))
    for name in ("repeat_factor", "class_balanced", "rare_class"):
        chosen = Chosen.of(none, MaskSampling(name))
        assert chosen.repeats.length == 4
        assert chosen.focus is None or chosen.focus.draw(0) is None


def test_refusals():
    with pytest.raises(InputError, match=r"sampling\.threshold is for name repeat_factor"):
        BoxSampling("class_balanced", threshold=0.5)
    with pytest.raises(InputError, match=r"sampling\.temperature is for name rare_class"):
        MaskSampling("class_balanced", temperature=0.5)
    with pytest.raises(InputError, match="allowed"):
        BoxSampling("rare_class")
