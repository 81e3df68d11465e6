"""Trained networks that teach another: they compute without gradient, learn nothing, and are in no checkpoint.

A checkpoint of the student keeps only a fingerprint of each teacher, and a training that goes on compares it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Self, TypeVar

import torch
from torch import nn

from engine.errors import InputError

Network = TypeVar("Network", bound=nn.Module)
FINGERPRINTS = "teacher_fingerprints"  # in a checkpoint's settings
SETTINGS = "distillation"


class Teachers(Generic[Network]):
    """Networks in evaluation mode, which no module counts as its own.

    Args:
        sources: checkpoints or names, as the user gave them.
        load: reads one; its errors are those of the user.
        fold: makes a network fast that is not trained any further.
    """

    def __init__(
        self, sources: Sequence[str], load: Callable[[str], Network], fold: Callable[[Network], Network]
    ) -> None:
        self.sources = tuple(sources)
        whole = [load(source) for source in sources]
        self.fingerprints = tuple(fingerprint(network) for network in whole)
        self.networks = [fold(network).eval().requires_grad_(False) for network in whole]

    def on(self, device: torch.device) -> list[Network]:
        """The networks, moved to a device where they are not there yet."""
        return [network.to(device) for network in self.networks]

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Itself, because the copy of a student, such as its average, needs no other teachers."""
        return self


def fingerprint(network: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a network's state, the same for every file that holds them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_same_lessons(stored: Mapping[str, object], present: Mapping[str, object], source: str) -> None:
    """Do nothing if a training goes on with the teachers and the settings that it began with.

    Args:
        stored: the settings in its checkpoint.
        present: the same of the command.
        source: the checkpoint.

    Raises:
        InputError: teachers were added, left out or replaced, or a weight of theirs differs.
    """
    before, now = (_list(settings.get(FINGERPRINTS)) for settings in (stored, present))
    if before != now:
        weights = ", of which at least one has other weights" if len(before) == len(now) else ""
        msg = (
            f"the training of '{source}' had {len(before)} teachers, and is to go on with {len(now)}{weights}. Give "
            "the same --model.distillation.teachers, or start anew with --model.pretrained."
        )
        raise InputError(msg)
    own, other = (_without_teachers(settings.get(SETTINGS)) for settings in (stored, present))
    differing = [name for name in other if own.get(name) != other[name]]
    if differing:
        name = differing[0]
        msg = (
            f"model.distillation.{name} is {other[name]}, but the training of '{source}' has {own.get(name)}. Leave it "
            "out, or start anew with --model.pretrained."
        )
        raise InputError(msg)


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _without_teachers(settings: object) -> dict[str, object]:
    """The weights and the like; where the files lie may change."""
    return {key: value for key, value in settings.items() if key != "teachers"} if isinstance(settings, dict) else {}
