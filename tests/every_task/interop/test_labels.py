"""A classifier's answers in the forms of other libraries, judged by the libraries where they are installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from classification.data.classes import LabelClasses
from classification.prediction.classified import Classified
from engine.errors import InputError

NAMES = ("cat", "dog", "bird")
ONE = Classified(np.array([0.25, 0.625, 0.125], np.float32), LabelClasses(NAMES))
SEVERAL = Classified(np.array([0.75, 0.25, 0.5], np.float32), LabelClasses(NAMES, several=True))
NONE = Classified(np.array([0.25, 0.25, 0.125], np.float32), LabelClasses(NAMES, several=True))


def test_pandas():
    pytest.importorskip("pandas")
    table = ONE.to_pandas().set_index("class")
    assert table["probability"].to_dict() == {"cat": 0.25, "dog": 0.625, "bird": 0.125}
    assert table["class_id"].to_list() == [0, 1, 2]
    assert table["found"].to_list() == [False, True, False]
    assert SEVERAL.to_pandas()["found"].to_list() == [True, False, True]
    assert not NONE.to_pandas()["found"].any()


def test_torchmetrics_finds_what_was_found():
    metrics = pytest.importorskip("torchmetrics.classification")
    assert metrics.MulticlassAccuracy(3, average="micro")(ONE.to_torchmetrics(), torch.tensor([1])).item() == 1
    assert metrics.MulticlassAccuracy(3, average="micro")(ONE.to_torchmetrics(), torch.tensor([0])).item() == 0
    exact = metrics.MultilabelExactMatch(3, threshold=0.4)
    assert exact(SEVERAL.to_torchmetrics(), torch.tensor([[1, 0, 1]])).item() == 1


def test_supervision():
    pytest.importorskip("supervision")
    theirs = ONE.to_supervision()
    ids, confidences = theirs.get_top_k(2)
    assert [(NAMES[row], value) for row, value in zip(ids, confidences, strict=True)] == [
        (one.label, one.probability) for one in ONE.top(2)
    ]
    assert len(theirs) == 3


def test_fiftyone():
    fo = pytest.importorskip("fiftyone")
    one = ONE.to_fiftyone()
    assert isinstance(one, fo.Classification)
    assert (one.label, one.confidence) == ("dog", 0.625)
    several = SEVERAL.to_fiftyone()
    assert isinstance(several, fo.Classifications)
    assert [(each.label, each.confidence) for each in several.classifications] == [("cat", 0.75), ("bird", 0.5)]
    assert NONE.to_fiftyone().classifications == []


@pytest.mark.parametrize("package", ["pandas", "supervision", "fiftyone"])
def test_a_missing_package_is_named(package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    said = rf"^this needs the package {package}, which is not installed\. Run: pip install {package}$"
    with pytest.raises(InputError, match=said):
        getattr(ONE, f"to_{package}")()
