"""Scores beside scikit-learn's, for any batches and any order."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from classification.data.classes import LabelClasses
from classification.scores.metric import ClassificationScores, several_scores, single_scores
from classification.scores.records import ClassificationRecords

RNG = np.random.default_rng(0)
NAMES = tuple("abcdefgh")


def test_one_label_an_image():
    truth = RNG.integers(0, 7, 300)  # no image has the last class
    logits = RNG.normal(size=(300, 8)) + 2 * np.eye(8)[truth] * (RNG.random((300, 1)) < 0.7)
    probabilities = torch.from_numpy(logits).softmax(1).float()
    scores = single_scores(LabelClasses(NAMES), probabilities, torch.from_numpy(truth))
    found = probabilities.argmax(1).numpy()
    assert scores.score == scores.numbers["top1"] == pytest.approx(sk.accuracy_score(truth, found))
    top5 = sk.top_k_accuracy_score(truth, probabilities.numpy(), k=5, labels=range(8))
    assert scores.numbers["top5"] == pytest.approx(top5)
    with pytest.warns(UserWarning, match="y_pred contains classes"):  # of the class that no image has
        assert scores.numbers["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, found))
    assert np.array_equal(scores.confusion, sk.confusion_matrix(truth, found, labels=range(8)))
    each = sk.precision_recall_fscore_support(truth, found, labels=range(8), zero_division=0)
    for name, values in zip(("precision", "recall", "F1"), each, strict=False):
        mine = list(scores.classes[name].values())
        assert mine[:7] == pytest.approx(values[:7].tolist())
        assert mine[7] is None
    # Guo et al., equation 3, by hand.
    confidence, right = probabilities.max(1).values.numpy(), found == truth
    rows = np.minimum((confidence * 15).astype(int), 14)
    error = sum(
        abs(confidence[rows == row].mean() - right[rows == row].mean()) * (rows == row).mean()
        for row in np.unique(rows)
    )
    assert scores.numbers["calibration_error"] == pytest.approx(error, abs=1e-5)
    assert set(ClassificationScores.names(LabelClasses(NAMES))) == {"score", *scores.numbers}
    json.dumps(scores.to_dict(), allow_nan=False)
    assert "top-5" in scores.table()


def test_several_labels():
    truth = (RNG.random((200, 8)) < 0.3).astype(np.float32)
    truth[:, 5] = 0
    probabilities = np.clip(0.35 * truth + 0.6 * RNG.random((200, 8)), 0, 1).astype(np.float32)
    classes = LabelClasses(NAMES, several=True)
    scores = several_scores(classes, torch.from_numpy(probabilities), torch.from_numpy(truth), 0.5)
    found, there = probabilities >= 0.5, truth.sum(0) > 0
    precisions = [sk.average_precision_score(truth[:, row], probabilities[:, row]) for row in np.flatnonzero(there)]
    assert scores.score == scores.numbers["map"] == pytest.approx(np.mean(precisions), abs=1e-5)
    f1 = sk.f1_score(truth, found, average=None, zero_division=0)[there]
    assert scores.numbers["f1_macro"] == pytest.approx(f1.mean(), abs=1e-5)
    assert scores.numbers["f1_micro"] == pytest.approx(sk.f1_score(truth, found, average="micro"), abs=1e-5)
    assert scores.numbers["exact_match"] == pytest.approx(sk.accuracy_score(truth, found), abs=1e-6)
    assert np.array_equal(scores.confusion, sk.multilabel_confusion_matrix(truth, found))
    assert scores.classes["AP"]["f"] is None
    assert scores.classes["images"]["f"] == 0
    assert set(ClassificationScores.names(classes)) == {"score", *scores.numbers}
    json.dumps(scores.to_dict(), allow_nan=False)


@pytest.mark.parametrize("several", [False, True])
def test_batches_and_repeats_do_not_matter(several):
    classes = LabelClasses(("a", "b", "c"), several)
    probabilities = torch.rand(10, 3, generator=torch.Generator().manual_seed(0))
    targets = (probabilities.roll(1, 0) > 0.4).float() if several else torch.arange(10) % 3
    whole = ClassificationRecords(classes, 0.5)
    whole.add(torch.arange(10), probabilities, targets)
    parts = ClassificationRecords(classes, 0.5)
    for rows in (torch.tensor([9, 3, 4]), torch.tensor([0, 1, 2, 3]), torch.tensor([5, 6, 7, 8, 0])):
        parts.add(rows, probabilities[rows], targets[rows])
    assert parts.scores().as_dict() == whole.scores().as_dict()
    assert parts.gather().places.tolist() == list(range(10))
