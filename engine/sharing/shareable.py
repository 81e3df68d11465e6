"""Predictors whose network can be given to others: `save_pretrained` and `push_to_hub`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Unpack, runtime_checkable

import torch
from torch import Tensor, nn

from engine.errors import InputError
from engine.hub.addresses import HubAddress
from engine.hub.folder import WEIGHTS, is_shared
from engine.prediction.journal import stamp_of
from engine.sharing.card import Words
from engine.sharing.contents import Shared, push, save, shaping
from engine.tasks import TaskSpec
from engine.training.checkpoints import Checkpoint, is_checkpoint, read_checkpoint, versions


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a predictor's network was read from.

    Attributes:
        path: the file, or the folder of a shared network.
        stamp: size and time of change of the file with the weights.
    """

    path: Path
    stamp: tuple[int, int]

    @classmethod
    def of(cls, source: str | Path) -> Origin | None:
        """The origin in a file or folder; None for weights of another program."""
        return cls(Path(source), stamp_of(_weights(source))) if is_checkpoint(source) else None

    def read(self, task: str) -> Checkpoint:
        """The checkpoint.

        Raises:
            InputError: the file is gone, or has changed since the network was loaded.
        """
        file = _weights(self.path)
        if not file.is_file() or stamp_of(file) != self.stamp:
            msg = f"'{file}' has changed since the network was loaded from it. Load it again, then share it."
            raise InputError(msg)
        return read_checkpoint(self.path, task)


@runtime_checkable
class Folds(Protocol):
    """A network that can be folded for prediction, after which it has other weights."""

    folded: bool


class Shareable(ABC):
    """A predictor with a network that others can load, bit by bit the same."""

    spec: ClassVar[TaskSpec]
    part: ClassVar[str]  # the network's name within its task, as the weights of a checkpoint are called
    network: nn.Module
    origin: Origin | None = None

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """What a checkpoint of this network would hold of it: plain values by the names of the task's settings."""

    def save_pretrained(self, folder: str | Path, **words: Unpack[Words]) -> Path:
        """Write the network into a folder that `load` takes: safetensors, config.json and a model card.

        The card is written from the run whose checkpoint was loaded, if its folder is still there.

        Args:
            folder: where to; a network that was shared in it before is replaced.
            words: what only you can say, see `Words`: licence, data, intended use and limits.

        Returns:
            The folder.

        Raises:
            InputError: the folder has files of others or cannot be written; or the network was folded and did not come
                from a checkpoint, or the checkpoint has changed since.
        """
        save(self._shared(), folder, words)
        return Path(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False, **words: Unpack[Words]) -> str:
        """Send the network to a model hub, where `load("hf://owner/name")` takes it from.

        Args:
            repo_id: `owner/name`; the repository is made if there is none.
            private: whether a repository that is made can be seen by its owner only.
            words: as in `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            InputError: as `save_pretrained`; or `huggingface_hub` is not installed (extra `hub`), or the hub refuses.
        """
        return push(self._shared(), HubAddress.read(repo_id), words, private=private)

    def _shared(self) -> Shared:
        stored = None if self.origin is None else Shared.of_checkpoint(self.origin.read(self.spec.name), self.spec)
        if isinstance(self.network, Folds) and self.network.folded:
            if stored is None:
                msg = "this network is folded for prediction, which others cannot train. Load it with fold=False."
                raise InputError(msg)
            return stored
        state = {f"{self.part}.{name}": value for name, value in self.network.state_dict().items()}
        if stored is not None and _same(state, stored.state):
            return stored
        model = shaping(self.settings(), self.spec) if stored is None else stored.model
        return Shared(self.spec, model, state, versions())


def _weights(source: str | Path) -> Path:
    return Path(source, WEIGHTS) if is_shared(source) else Path(source)


def _same(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> bool:
    """Whether all weights of a network are still those of its checkpoint, which may have others of its training."""
    return all(name in stored and torch.equal(value.detach().cpu(), stored[name]) for name, value in own.items())
