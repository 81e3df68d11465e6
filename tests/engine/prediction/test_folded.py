"""A predictor's copy for prediction: folded, with the network of another runtime shared."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from detection.network.model import EfficientDet
from engine.prediction.predictor import Predictor


class OfAnotherRuntime:
    folded = True

    def fold(self):
        raise AssertionError("it is folded already")

    def __deepcopy__(self, memo):
        raise TypeError("a session cannot be copied")


def test_what_another_runtime_computes_is_shared():
    given = SimpleNamespace(network=OfAnotherRuntime())
    with pytest.raises(TypeError):
        copy.deepcopy(given.network)
    assert Predictor.folded(given).network is given.network


def test_a_network_of_pytorch_is_copied_and_stays_as_it_was():
    given = SimpleNamespace(network=EfficientDet("lite0", image_size=(64, 64)).eval())
    before = {name: value.clone() for name, value in given.network.state_dict().items()}
    found = Predictor.folded(given)
    assert found.network is not given.network
    assert found.network.folded
    assert not given.network.folded
    torch.testing.assert_close(dict(given.network.state_dict()), before, rtol=0, atol=0)
