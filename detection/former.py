"""Names of earlier versions that command lines may still use, with what replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.tasks import FormerConfig

_TWO_A_DEVICE = "--data.batch_size 2 --trainer.max_epochs 600 --model.grad_checkpointing true"
FORMER_CONFIGS: Final[Mapping[str, FormerConfig]] = {
    f"coco_{member}": FormerConfig("coco", f"--model.member {member} {more}".rstrip())
    for member, more in {
        "d0": "",
        "d1": "",
        "d2": "",
        "d3": "",
        "d4": "--data.batch_size 8",
        "d5": "--data.batch_size 4",
        "d6": "--data.batch_size 4",
        "d7": _TWO_A_DEVICE,
        "d7x": _TWO_A_DEVICE,
        "lite0": "",
        "lite1": "",
        "lite2": "",
        "lite3": "",
        "lite3x": "",
        "lite4": "",
    }.items()
}
