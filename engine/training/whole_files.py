"""Checkpoint files that are whole at every moment: written beside, synced to the disk, then renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from engine.errors import InputError, OutputError
from engine.hub.folder import is_shared
from engine.outputs import durable_path
from engine.training.checkpoints import restored


def check_finite_weights(checkpoint: Mapping[str, object], path: str | Path) -> None:
    """Do nothing if all weights of a checkpoint are finite, those that are averaged and those that are not.

    Raises:
        InputError: a weight is infinite or not a number; the message names it.
    """
    for part in ("state_dict", "current_model_state"):
        weights = checkpoint.get(part)
        for name, value in weights.items() if isinstance(weights, Mapping) else ():
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
                msg = (
                    f"the weights are not finite any more, '{name}' first, so '{path}' is left as it was. Lower "
                    "model.optimizer.lr, lengthen model.schedule.warmup_epochs, or set trainer.gradient_clip_val to 10 "
                    "or less, and go on with --ckpt_path last."
                )
                raise InputError(msg)


def write_checkpoint(checkpoint: Mapping[str, object], path: str | Path) -> None:
    """Write a checkpoint so that `path` is the former file or the new one, whole, even if the process is killed.

    Args:
        checkpoint: tensors and plain values.
        path: the file.

    Raises:
        InputError: a weight is not finite; the former file is left.
        OutputError: the file cannot be written, as on a full disk; the former file is left.
    """
    check_finite_weights(checkpoint, path)
    try:
        with durable_path(path) as beside, beside.open("wb") as file:
            torch.save(dict(checkpoint), file)
    except RuntimeError as error:  # torch's own writer reports what the system said in these
        reason = next((cause for cause in _causes(error) if isinstance(cause, OSError)), None)
        if reason is None and "write" not in str(error):
            raise
        said = "writing failed" if reason is None else reason.strerror
        raise OutputError(_full(path, said)) from error
    except OutputError as error:
        cause = error.__cause__
        raise OutputError(_full(path, cause.strerror if isinstance(cause, OSError) else None)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _full(path: str | Path, reason: str | None) -> str:
    return (
        f"cannot write the checkpoint '{path}': {reason or 'writing failed'}. The former one, if there was one, is "
        "whole. Make room, and go on with --ckpt_path last."
    )


def onto_cpu(storage: object, location: object) -> object:
    """Where Lightning puts what it reads, before a network takes it to its device."""
    return storage


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoint files, each whole at every moment, and without weights that are not finite.

    Lightning writes through a temporary file in TMPDIR and copies it in place where that is another file system: a
    kill or a full disk then leaves half a file in place of the former one.
    """

    def save_checkpoint(self, checkpoint: dict[str, object], path: str | Path, storage_options: object = None) -> None:
        """As Lightning's; addresses such as s3://… are left to it.

        Raises:
            InputError: as `write_checkpoint`.
        """
        if "://" in str(path):
            check_finite_weights(checkpoint, path)
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., object] | None = onto_cpu, weights_only: bool | None = None
    ) -> dict[str, object]:
        """As Lightning's, and from a folder with a shared network.

        Raises:
            InputError: see `engine.hub.weights.read_shared`.
        """
        if is_shared(path):
            return restored(path)
        content: dict[str, object] = super().load_checkpoint(path, map_location, weights_only)
        return content
