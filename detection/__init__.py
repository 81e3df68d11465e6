"""EfficientDet: train it, score it, and find objects in images.

from detection import load
detector = load("best.ckpt")
found = detector.predict("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detection.network.model import EfficientDet as EfficientDet
    from detection.prediction.predict import load as load

_HOMES = {"EfficientDet": "detection.network.model", "load": "detection.prediction.predict"}
__all__ = ["EfficientDet", "load"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `python -m detection --help` and `score` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'detection' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
