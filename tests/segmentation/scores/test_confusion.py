"""The confusion matrix and its scores against loops over pixels and against smp's counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segmentation_models_pytorch.metrics import get_stats

from segmentation.scores.confusion import (
    class_accuracies,
    class_confusion,
    class_ious,
    count_pairs,
    mean_of_valid,
    pixel_accuracy,
)


def by_hand(true, predicted, count):
    """Scores from sets of pixels, without a matrix."""
    counted = true != 255
    ious, accuracies = [], []
    for row in range(count):
        is_true, is_predicted = (true == row) & counted, (predicted == row) & counted
        union = (is_true | is_predicted).sum()
        ious.append((is_true & is_predicted).sum() / union if union else np.nan)
        accuracies.append((is_true & is_predicted).sum() / is_true.sum() if is_true.any() else np.nan)
    right = (true == predicted)[counted]
    return ious, accuracies, right.mean() if right.size else np.nan


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_scores_equal_sets_of_pixels(count, seed, size_hw):
    rng = np.random.default_rng(seed)
    true = rng.choice([*range(count), 255], size_hw).astype(np.uint8)
    predicted = rng.choice([*range(count), 255, count], size_hw).astype(np.uint8)
    confusion = class_confusion(count_pairs(true, predicted), count)
    ious, accuracies, right = by_hand(true, predicted, count)
    np.testing.assert_allclose(class_ious(confusion), ious, rtol=0, atol=1e-15)
    np.testing.assert_allclose(class_accuracies(confusion), accuracies, rtol=0, atol=1e-15)
    np.testing.assert_allclose(pixel_accuracy(confusion), right, rtol=0, atol=1e-15)
    assert confusion.sum() == (true != 255).sum()


def test_counts_equal_those_of_smp():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, (2, 60, 70), dtype=np.uint8)
    confusion = class_confusion(count_pairs(true, predicted), 5)
    tp, fp, fn, _ = get_stats(
        torch.tensor(predicted[None]).long(), torch.tensor(true[None]).long(), mode="multiclass", num_classes=5
    )
    np.testing.assert_array_equal(np.diagonal(confusion), tp[0])
    np.testing.assert_array_equal(confusion.sum(0)[:5] - np.diagonal(confusion), fp[0])
    np.testing.assert_array_equal(confusion.sum(1) - np.diagonal(confusion), fn[0])


def test_a_class_that_is_absent_from_both_is_no_one():
    # smp counts it as 1, which lifts the mean.
    true = np.array([[0, 0, 1, 1]], np.uint8)
    predicted = np.array([[0, 0, 0, 1]], np.uint8)
    ious = class_ious(class_confusion(count_pairs(true, predicted), 3))
    assert ious[:2].tolist() == [2 / 3, 1 / 2]
    assert np.isnan(ious[2])
    assert mean_of_valid(ious) == pytest.approx(7 / 12)
    assert np.isnan(mean_of_valid(np.array([np.nan])))


def test_every_pair_of_values_has_its_place():
    true, predicted = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    assert (count_pairs(true, predicted) == 1).all()
    pairs = count_pairs(true[3:4], predicted[3:4])
    assert (pairs[3] == 1).all()
    assert pairs.sum() == 256


def test_maps_that_do_not_fit():
    maps = np.zeros((2, 3), np.uint8)
    for other in (maps.T, maps.astype(np.int64)):
        with pytest.raises(ValueError, match="do not fit"):
            count_pairs(maps, other)
    with pytest.raises(ValueError, match="has row 7, but there are 3 classes"):
        class_confusion(count_pairs(np.full((1, 1), 7, np.uint8), np.zeros((1, 1), np.uint8)), 3)
