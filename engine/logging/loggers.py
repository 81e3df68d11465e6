"""The loggers of a run by one word, and pictures in each of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from engine.errors import InputError
from engine.exports.extras import needed
from engine.reading.images import UInt8Array

LogWord: TypeAlias = Literal["tensorboard", "csv", "wandb", "mlflow"]


@runtime_checkable
class _TakesImages(Protocol):
    """A logger with Lightning's own call for images, as those of Weights & Biases and Comet."""

    def log_image(self, key: str, images: list[Image.Image], step: int | None = None) -> None: ...


class _Writer(Protocol):
    """TensorBoard's writer."""

    def add_image(self, tag: str, img_tensor: UInt8Array, global_step: int, dataformats: str) -> None: ...


class _Client(Protocol):
    """MLflow's client."""

    def log_image(self, run_id: str, image: Image.Image, artifact_file: str) -> None: ...


def make_own(word: LogWord | None, given: object) -> bool:
    """Whether a training makes its own loggers.

    Args:
        word: what `run.log` asks for.
        given: what `trainer.logger` asks for.

    Raises:
        InputError: both ask for loggers.
    """
    if given is None or given is True:
        return True
    if word is not None:
        what = "no logger at all" if given is False else "loggers of its own"
        msg = f"run.log is {word}, but trainer.logger asks for {what}. Leave one of them out."
        raise InputError(msg)
    return False


def make_loggers(word: LogWord | None, folder: Path, task: str) -> list[Logger]:
    """A CSV logger, from which the curves are drawn, and the one that is asked for; all write into the run's folder.

    Args:
        word: TensorBoard, which None takes too, nothing more than CSV, Weights & Biases or MLflow.
        folder: the run's folder.
        task: the task, after which a project or an experiment is named.

    Raises:
        InputError: the package of the logger is not installed.
    """
    if word == "wandb" or word == "mlflow":
        needed(word, extra=word)
    root, version = str(folder.parent), folder.name
    loggers: list[Logger] = [CSVLogger(root, name="", version=version)]
    if word is None or word == "tensorboard":
        loggers.append(TensorBoardLogger(root, name="", version=version))
    if word == "wandb":
        # Without `offline`, so that WANDB_MODE and `wandb offline` decide.
        loggers.append(WandbLogger(name=folder.name, save_dir=str(folder), project=f"effdense-{task}", log_model=False))
    if word == "mlflow":
        # MLFLOW_TRACKING_URI names a server. Without it everything stays in the folder, as files: the client alone has
        # no database, and from 3.7 on asks to be told so.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        tracking = MLFlowLogger(
            experiment_name=f"effdense-{task}", run_name=folder.name, save_dir=str(folder / "mlruns"), log_model=False
        )
        loggers.append(tracking)
    return loggers


def log_picture(logger: Logger, name: str, picture: UInt8Array, step: int) -> None:
    """Give a picture to a logger that takes some.

    Args:
        logger: any of Lightning's; one that takes no pictures, such as that of CSV, is left alone.
        name: such as `val/precision_and_recall`.
        picture: (h, w, 3) RGB.
        step: the training step.
    """
    if isinstance(logger, TensorBoardLogger):
        writer: _Writer = logger.experiment
        writer.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        client: _Client = logger.experiment
        if logger.run_id is not None:
            client.log_image(logger.run_id, Image.fromarray(picture), f"pictures/{name}.png")
    elif isinstance(logger, _TakesImages):
        logger.log_image(name, [Image.fromarray(np.ascontiguousarray(picture))], step=step)


def file_stem(title: str) -> str:
    """The name of a file for a title.

    >>> file_stem("Precision, recall and F1 over the least score")
    'precision_recall_and_f1_over_the_least_score'
    """
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
