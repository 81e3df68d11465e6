"""Detection and segmentation from one pass of one EfficientNet.

from joint import load
network = load("best.ckpt")
both = network.predict("street.jpg")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joint.answers import load as load
    from joint.network.model import JointNetwork as JointNetwork

_HOMES = {"JointNetwork": "joint.network.model", "load": "joint.answers"}
__all__ = ["JointNetwork", "load"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `python -m joint --help` and `boxes` must not wait for torch.
    if name not in _HOMES:
        msg = f"module 'joint' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
