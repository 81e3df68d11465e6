"""A segmenter from a checkpoint, or from a network of segmentation-models-pytorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from backbones.contract import Freezing
from engine.hub.folder import is_shared
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import check_fit, described, read_checkpoint
from segmentation.data.classes import MaskClasses
from segmentation.network.family import SegmenterArchitecture
from segmentation.network.model import Segmenter
from segmentation.weights.smp import load_smp


def load_network(source: str | Path, *, freezing: Freezing | None = None, **overrides: Any) -> Segmenter:
    """The bare network, in evaluation mode on the CPU: to train it further, or as a part of another network.

    Args:
        source: a checkpoint written by `python -m segmentation fit`, or `best` or `last` of the latest run; or a folder
            that smp's `save_pretrained` wrote, or a file with such a network's state dict (see
            `segmentation.weights.smp.load_smp`).
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `SegmenterArchitecture` that hold no weights; an `output_stride` changes the atrous rates
            with it. For weights of smp, the arguments of `load_smp` as well.

    Raises:
        InputError: the file is missing, damaged or of another kind, or the weights do not fit what was asked for.
    """
    source = found_source(source, "segmentation")
    path = Path(source)
    if (path.is_dir() and not is_shared(path)) or "encoder" in overrides:
        return load_smp(source, freezing=freezing, **overrides).to(memory_format=torch.channels_last)
    checkpoint = read_checkpoint(path, "segmentation")
    state = {key.removeprefix("segmenter."): value for key, value in checkpoint.state_dict.items()}
    settings = checkpoint.model
    with described(source):
        config = SegmenterArchitecture.from_settings(settings)
        classes = MaskClasses.from_dict(settings["classes"])
    if "output_stride" in overrides:
        config = config.at_stride(overrides["output_stride"])  # with the rates that belong to it
    config = SegmenterArchitecture.from_dict({**config.to_dict(), **overrides})
    network = Segmenter(config, classes=classes, **(freezing or {}))
    check_fit(source, network.state_dict(), state)
    network.load_state_dict(state)
    return network.eval().to(memory_format=torch.channels_last)
