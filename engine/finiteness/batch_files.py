"""The batch of a loss that is no number, as files that can be looked at."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from engine.finiteness.steps import Images, Step

NAME = "bad_batch"
_MOST = 8  # pictures


def write_batch(folder: Path, step: Step, rank: int = 0) -> Path | None:
    """Write the tensors of a step's batch, and its first images as pictures.

    Args:
        folder: the run's.
        step: the step.
        rank: the process, whose number is in the names of all but the first.

    Returns:
        The file of the tensors, which has the step and its losses as metadata; None for a batch without images.
    """
    batch = step.batch
    if not isinstance(batch, Images):
        return None
    stem = NAME if rank == 0 else f"{NAME}_{rank}"
    fields = {name: value for name, value in batch._asdict().items() if isinstance(value, Tensor)}
    losses = {name: str(float(value)) for name, value in {"loss": step.loss, **step.parts}.items()}
    path = folder / f"{stem}.safetensors"
    content = {name: value.detach().cpu().contiguous() for name, value in fields.items()}
    save_file(content, path, {"step": str(step.number), **losses})
    for place, image in enumerate(batch.images[:_MOST].detach().cpu()):
        pixels = image.clamp(0, 255).nan_to_num(0.0).to(torch.uint8) if image.is_floating_point() else image
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(folder / f"{stem}_{place}.png")
    return path
