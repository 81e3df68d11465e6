"""Classification on EfficientNet: train it, score it, name what images show, and turn images into vectors.

from classification import load
classifier = load("best.ckpt")
found = classifier.predict("cell.jpg")
vectors = classifier.embed(["cell.jpg", "other.jpg"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classification.network.model import Classifier as Classifier
    from classification.prediction.predictor import load as load
    from classification.weights.load import load_network as load_network

_HOMES = {
    "Classifier": "classification.network.model",
    "load": "classification.prediction.predictor",
    "load_network": "classification.weights.load",
}
__all__ = ["Classifier", "load", "load_network"]


def __getattr__(name: str) -> object:
    # Imported on first use: `python -m classification --help` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'classification' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value
