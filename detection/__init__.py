"""EfficientDet: train it, score it, and find objects in images.

from detection import load
detector = load("best.ckpt")
found = detector.predict("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detection.network.model import EfficientDet as EfficientDet
    from detection.prediction.predictor import load as load
    from detection.weights.load import load_network as load_network

_HOMES = {
    "EfficientDet": "detection.network.model",
    "load": "detection.prediction.predictor",
    "load_network": "detection.weights.load",
}
__all__ = ["EfficientDet", "load", "load_network"]


def __getattr__(name: str) -> object:
    # Imported on first use: `python -m detection --help` and `score` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'detection' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value
