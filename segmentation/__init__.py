"""DeepLabv3+ on EfficientNet: train it, score it, and segment images of any size.

from segmentation import load
segmenter = load("best.ckpt")
found = segmenter.predict("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segmentation.inference.predictor import load as load
    from segmentation.network.model import Segmenter as Segmenter
    from segmentation.weights.load import load_network as load_network

_HOMES = {
    "Segmenter": "segmentation.network.model",
    "load": "segmentation.inference.predictor",
    "load_network": "segmentation.weights.load",
}
__all__ = ["Segmenter", "load", "load_network"]


def __getattr__(name: str) -> object:
    # Imported on first use: `python -m segmentation --help` and `score` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'segmentation' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value
