"""The predictor of any task as the work of a batcher."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeGuard, cast

import torch

from classification.prediction.classified import Classified
from classification.prediction.predictor import ClassificationPredictor
from deployment.networks import source_and_task
from deployment.serving.pictures import pixels_of_stranger
from detection.prediction.found import Found
from detection.prediction.predictor import TILES, DetectionPredictor
from engine.errors import InputError
from engine.prediction.predictor import PreparedImage
from engine.reading.images import UInt8Array
from engine.tasks import find_task
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented

AnyPredictor: TypeAlias = DetectionPredictor | SegmentationPredictor | JointPredictor | ClassificationPredictor
AnyAnswer: TypeAlias = Found | Segmented | JointFound | Classified


class PredictorWork:
    """Whole images of any task, letter-boxed by the readers and computed in one pass.

    Args:
        predictor: the predictor, used by one thread but for its preparation.
    """

    def __init__(self, predictor: AnyPredictor) -> None:
        self.predictor = predictor
        predictor.network.eval()

    def prepare(self, content: bytes) -> PreparedImage:
        """An image as the network sees it."""
        return self.predictor.prepare(pixels_of_stranger(content, self.predictor.reader))

    def pixels(self, prepared: PreparedImage) -> int:
        """Height times width."""
        height, width, _ = map(int, prepared.image.shape)
        return height * width

    def compute(self, images: Sequence[PreparedImage]) -> Sequence[AnyAnswer]:
        """The answers."""
        run = cast(Callable[[Sequence[PreparedImage]], Sequence[AnyAnswer]], self.predictor.run)
        return run(images)


class TiledWork:
    """Images of a detector that computes them in tiles.

    Args:
        predictor: the detector.
    """

    def __init__(self, predictor: DetectionPredictor) -> None:
        self.predictor = predictor

    def prepare(self, content: bytes) -> UInt8Array:
        """The image's pixels."""
        return pixels_of_stranger(content, self.predictor.reader)

    def pixels(self, prepared: UInt8Array) -> int:
        """Height times width."""
        return int(prepared.shape[0] * prepared.shape[1])

    def compute(self, images: Sequence[UInt8Array]) -> Sequence[AnyAnswer]:
        """The answers."""
        return self.predictor.predict_many(list(images), batch_size=TILES)


def is_tiled(predictor: AnyPredictor) -> TypeGuard[DetectionPredictor]:
    """Whether it is a detector that computes images in tiles."""
    return isinstance(predictor, DetectionPredictor) and predictor.inference.window is not None


def open_predictor(
    source: str | Path, task: str | None, device: str, score_threshold: float | None
) -> tuple[AnyPredictor, str]:
    """Load the predictor of any task, and say which task it is.

    Args:
        source: what the `load` of a task takes.
        task: the task; None takes the one that the file names.
        device: where it computes.
        score_threshold: boxes above this score are answers; None leaves it to the predictor.

    Raises:
        InputError: the file is missing, damaged or of another task; there is no such device; or a network that
            finds no boxes was given a score.
    """
    source, task = source_and_task(source, task)
    load = cast(Callable[[str | Path, str], AnyPredictor], pkgutil.resolve_name(find_task(task).predictor))
    predictor = load(source, _checked(device))
    if score_threshold is None:
        return predictor, task
    if isinstance(predictor, SegmentationPredictor | ClassificationPredictor):
        what = "classes of pixels" if isinstance(predictor, SegmentationPredictor) else "classes of images"
        msg = f"score_threshold is {score_threshold}, but '{source}' finds {what}, not boxes. Leave it out."
        raise InputError(msg)
    if isinstance(predictor, JointPredictor):
        return predictor.with_settings(score_threshold=score_threshold), task
    return predictor.with_settings(score_threshold=score_threshold), task


def _checked(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        msg = f"device '{device}' cannot be used: {reason}. Give cpu, or cuda:0 where there is a GPU."
        raise InputError(msg) from error
    return device
