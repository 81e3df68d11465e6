"""Detection and segmentation from one pass of one EfficientNet.

from joint import load
network = load("best.ckpt")
both = network.predict("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joint.network.model import JointNetwork as JointNetwork
    from joint.prediction.predictor import load as load
    from joint.weights.load import load_network as load_network

_HOMES = {
    "JointNetwork": "joint.network.model",
    "load": "joint.prediction.predictor",
    "load_network": "joint.weights.load",
}
__all__ = ["JointNetwork", "load", "load_network"]


def __getattr__(name: str) -> object:
    # Imported on first use: `python -m joint --help` and `boxes` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'joint' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value
