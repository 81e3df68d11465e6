"""Names of earlier versions that command lines may still use, with what replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.tasks import FormerConfig

FORMER_CONFIGS: Final[Mapping[str, FormerConfig]] = {
    f"cityscapes_{member}": FormerConfig("cityscapes", f"--model.member {member} {more}".rstrip())
    for member, more in {
        "b0": "",
        "b2": "",
        "b4": "--data.batch_size 4 --model.grad_checkpointing true",
        "v2_s": "--data.batch_size 4",
    }.items()
}
