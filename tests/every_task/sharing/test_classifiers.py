"""A classifier that was made in Python is shared and taken as one of a training is."""

from __future__ import annotations

import numpy as np
import pytest

from classification.data.classes import LabelClasses
from classification.network.model import Classifier
from classification.prediction.predictor import ClassificationPredictor, load
from engine.errors import InputError
from tests.every_task.sharing.test_hub import same_bits


def test_pushed_and_pulled_is_the_same_classifier(hub, tmp_path):
    network = Classifier("lite0", classes=LabelClasses(("red", "green")), image_size=64).eval()
    own = ClassificationPredictor(network, threshold=0.625)
    own.push_to_hub("me/colours")
    pulled = load("hf://me/colours", fold=False)
    same_bits(pulled.network, network)
    assert (pulled.threshold, pulled.classes) == (0.625, own.classes)
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    np.testing.assert_array_equal(pulled.predict(picture).probabilities, own.predict(picture).probabilities)
    card = hub.repositories["me/colours"].files()["README.md"].decode()
    assert "pipeline_tag: image-classification" in card
    assert "A classification network of 2 classes: red, green." in card
    with pytest.raises(InputError, match=r"folded for prediction.*Load it with fold=False"):
        ClassificationPredictor(network.fold()).save_pretrained(tmp_path / "colours")
