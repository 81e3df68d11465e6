"""One measured run: images are read, prepared, computed and answered, and each stage is timed."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from classification.data.framing import Framing
from classification.network.model import Classifier
from classification.prediction.classified import Classified
from classification.prediction.predictor import ClassificationPredictor, FramedImage
from classification.prediction.predictor import load as load_classifier
from deployment.benchmark.candidates import Candidate
from deployment.benchmark.members import build
from deployment.networks import AnyNetwork
from detection.network.detector import Detector
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor
from detection.prediction.predictor import load as load_detector
from engine.exports.files import Runtime
from engine.prediction.canvas import Canvas, OnCanvas
from engine.reading.images import Letterbox, UInt8Array
from engine.reading.reader import PixelReader
from joint.network.model import JointNetwork
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor
from joint.prediction.predictor import load as load_joint
from segmentation.inference.predictor import SegmentationPredictor, WholeImage
from segmentation.inference.predictor import load as load_segmenter
from segmentation.inference.segmented import Segmented

P = ParamSpec("P")
R = TypeVar("R")
Answer = Found | Segmented | JointFound | Classified
Loadable = DetectionPredictor | JointPredictor | SegmentationPredictor | ClassificationPredictor


class Stages(NamedTuple):
    """Seconds of one run.

    Attributes:
        read: files to pixels.
        prepare: pixels to a batch of canvases of the network's size.
        network: the runtime. In PyTorch it ends with logits, but for a segmenter, and for R-CNN, whose layers and
            suppressions take turns; in a file it ends where the file does, which is with boxes and classes unless they
            were left out.
        finish: the rest: answers in pixels of the original images.
    """

    read: float
    prepare: float
    network: float
    finish: float

    @property
    def total(self) -> float:
        """Seconds from files to answers."""
        return sum(self)


class Computing(Protocol):
    """What the predictors of the tasks have in common here."""

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Answer]:
        """The answers for images of one size."""


class Watch:
    """Adds up the time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, owner: object, name: str) -> None:
        """Time all calls of a method of one object from now on."""
        setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, call: Callable[P, R]) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


class Opened:
    """A candidate that is ready to compute.

    Args:
        candidate: the candidate.
        file: its exported file; None computes the network in PyTorch.
        score_threshold: boxes at or below it are no answers.

    Raises:
        InputError: the file is damaged, or its runtime is not installed.
    """

    def __init__(self, candidate: Candidate, file: Path | None, score_threshold: float) -> None:
        torch.set_num_threads(candidate.threads)
        self.candidate = candidate
        self.watch = Watch()
        self.computing = _computing(candidate, file, score_threshold, self.watch)
        self.reader, self.canvas = _surroundings(self.computing, candidate.size_hw)
        # PyTorch computes a float32 network in bfloat16 where it is told so; a file says it itself.
        self._narrow = file is None and candidate.precision == "bfloat16"

    def answers(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Answer]:
        """The answers for a batch of canvases, (B, 3, H, W) uint8."""
        narrow = torch.autocast("cpu", torch.bfloat16) if self._narrow else contextlib.nullcontext()
        with torch.no_grad(), narrow:
            return self.computing.compute(images, samples)

    def run(self, pictures: Sequence[Path]) -> Stages:
        """Read, prepare and compute pictures as one batch, and drop the answers."""
        self.watch.seconds = 0.0
        times = [time.perf_counter()]
        pixels = [self.reader(path) for path in pictures]
        times.append(time.perf_counter())
        samples = [self.canvas(image) for image in pixels]
        images = torch.stack([sample.image for sample in samples]).permute(0, 3, 1, 2)
        times.append(time.perf_counter())
        self.answers(images, samples)
        times.append(time.perf_counter())
        read, prepare, rest = (after - before for before, after in itertools.pairwise(times))
        return Stages(read, prepare, self.watch.seconds, rest - self.watch.seconds)


class Classifying:
    """Computes a classifier on squares of any side.

    Args:
        predictor: the classifier.
        side: of the squares, in pixels.
    """

    def __init__(self, predictor: ClassificationPredictor, side: int) -> None:
        self.predictor = predictor
        self.square = _Square(replace(predictor.network.framing, image_size=side))

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Classified]:
        """The classes of squares."""
        return self.predictor.compute(images, [FramedImage(sample.image) for sample in samples])


@dataclass(frozen=True)
class _Square:
    """Cuts the square that a classifier sees out of a picture, and takes it for a picture of its own."""

    framing: Framing

    def __call__(self, image: UInt8Array) -> OnCanvas:
        """The square of an (H, W, 3) uint8 RGB image."""
        side = self.framing.image_size
        return OnCanvas(self.framing(image), Letterbox.own((side, side)))


class Segmenting:
    """Computes a segmenter on canvases."""

    def __init__(self, predictor: SegmentationPredictor) -> None:
        self.predictor = predictor

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Segmented]:
        """The classes of the canvases' pixels."""
        return self.predictor.compute(images, [WholeImage(sample.image) for sample in samples])


def _computing(candidate: Candidate, file: Path | None, score_threshold: float, watch: Watch) -> Computing:
    subject = candidate.subject
    if subject.kind == "member" and file is None:
        predictor = _of_member(build(subject.source)[0])
    else:
        predictor = _LOADERS[subject.task](subject.source if file is None else file)
    runtime: Runtime | None = getattr(predictor.network, "runtime", None)
    if runtime is not None:
        watch.over(runtime, "run")
    if isinstance(predictor, SegmentationPredictor):
        if runtime is None:
            watch.over(predictor, "compute")  # strips of logits become classes at once
        return Segmenting(predictor)
    if isinstance(predictor, ClassificationPredictor):
        if runtime is None:
            watch.over(predictor.network, "forward")
        return Classifying(predictor, candidate.size_hw[0])
    least = _least(runtime)
    ready = predictor.with_settings(image_size=candidate.size_hw, score_threshold=max(score_threshold, least))
    if runtime is None:
        watch.over(ready.network, "forward" if isinstance(ready, JointPredictor) else "predictions")
        if isinstance(ready.network, HeadedDetector) and isinstance(ready.network.head, FasterRcnnHead):
            watch.over(ready.network.head, "detections")  # proposals, their boxes and masks
    return ready


_LOADERS: dict[str, Callable[[str | Path], Loadable]] = {
    "detection": load_detector,
    "joint": load_joint,
    "segmentation": load_segmenter,
    "classification": load_classifier,
}


def _of_member(network: AnyNetwork) -> Loadable:
    folded = network.fold()
    if isinstance(folded, JointNetwork):
        return JointPredictor(folded)
    if isinstance(folded, Classifier):
        return ClassificationPredictor(folded)
    return DetectionPredictor(folded) if isinstance(folded, Detector) else SegmentationPredictor(folded)


def _least(runtime: Runtime | None) -> float:
    """The score below which a file with the suppression inside gives no boxes; 0 for everything else."""
    if runtime is None or runtime.about.postprocess is None:
        return 0.0
    make: Callable[..., Postprocess] = Postprocess
    return make(**runtime.about.postprocess).score_threshold


def _surroundings(
    computing: Computing, size_hw: tuple[int, int]
) -> tuple[PixelReader, Callable[[UInt8Array], OnCanvas]]:
    """How pictures are read, and the canvas that they are laid on."""
    if isinstance(computing, Classifying):
        return computing.predictor.reader, computing.square
    if isinstance(computing, Segmenting):
        predictor = computing.predictor
        return predictor.reader, Canvas(size_hw, predictor.fill_color, predictor.stride)
    assert isinstance(computing, DetectionPredictor | JointPredictor)
    return computing.reader, computing.canvas
