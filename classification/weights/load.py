"""A classifier from a checkpoint, or with ImageNet's classes from published weights."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from backbones.contract import Freezing
from classification.data.classes import LabelClasses
from classification.network.family import ClassifierArchitecture
from classification.network.model import Classifier, StoredClassifier
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import check_fit, read_checkpoint


def load_network(source: str | Path, *, freezing: Freezing | None = None, **overrides: object) -> Classifier:
    """The bare network, in evaluation mode on the CPU: to train it further, or as a part of another network.

    Args:
        source: a checkpoint written by `python -m classification fit`, or `best` or `last` of the latest run.
        freezing: the constructor's `frozen_stages`, `freeze_norm` and `grad_checkpointing`.
        overrides: fields of `ClassifierArchitecture` that hold no weights.

    Raises:
        InputError: the file is missing, damaged or of another kind, or the weights do not fit what was asked for.
    """
    source = found_source(source, "classification")
    checkpoint = read_checkpoint(source, "classification")
    state = {key.removeprefix("classifier."): value for key, value in checkpoint.state_dict.items()}
    settings = cast("StoredClassifier", checkpoint.model)
    config = ClassifierArchitecture.from_settings(settings)
    config = ClassifierArchitecture.from_dict({**config.to_dict(), **overrides})
    network = Classifier(config, classes=LabelClasses.from_dict(settings["classes"]), **(freezing or {}))
    check_fit(source, network.state_dict(), state)
    network.load_state_dict(state)
    return network.eval().to(memory_format=torch.channels_last)
