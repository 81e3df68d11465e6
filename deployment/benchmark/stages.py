"""One measured run: images are read, prepared, computed and answered, and each stage is timed."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from backbones.folding import fold
from deployment.benchmark.candidates import Candidate
from deployment.benchmark.members import CLASSIFICATION, Classifier, build, open_any
from deployment.networks import Network
from detection.network.detector import Detector
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor
from detection.prediction.predictor import load as load_detector
from engine.exports.files import Runtime, computed
from engine.prediction.canvas import Canvas, OnCanvas
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
Answer = Found | Segmented | JointFound | Tensor


class Stages(NamedTuple):
    """Seconds of one run.

    Attributes:
        read: files to pixels.
        prepare: pixels to a batch of canvases of the network's size.
        network: the runtime. In PyTorch it ends with logits, but for a segmenter; in a file it ends where the file
            does, which is with boxes and classes unless they were left out.
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


class _Classifying:
    """Computes an EfficientNet alone."""

    def __init__(self, network: Classifier | Runtime) -> None:
        self.network = network
        self.canvas_color, self.stride = Classifier.fill_color, Classifier.stride

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Tensor]:
        """The probabilities of each image's classes."""
        if isinstance(self.network, nn.Module):
            return list(self.network(images))
        return list(computed(self.network, images, torch.zeros(len(images), 2))["scores"])


class _Segmenting:
    """Computes a segmenter on canvases."""

    def __init__(self, predictor: SegmentationPredictor) -> None:
        self.predictor = predictor

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> Sequence[Segmented]:
        """The classes of the canvases' pixels."""
        return self.predictor.compute(images, [WholeImage(sample.image) for sample in samples])


def _computing(candidate: Candidate, file: Path | None, score_threshold: float, watch: Watch) -> Computing:
    subject = candidate.subject
    if subject.task == CLASSIFICATION:
        return _classifying(candidate, file, watch)
    predictor: DetectionPredictor | JointPredictor | SegmentationPredictor
    if subject.kind == "member" and file is None:
        network, _ = build(subject.source)
        assert not isinstance(network, Classifier)
        predictor = _of_member(network)
    else:
        source = subject.source if file is None else file
        predictor = _LOADERS[subject.task](source)
    if isinstance(predictor, SegmentationPredictor):
        runtime: Runtime | None = getattr(predictor.network, "runtime", None)
        if runtime is None:
            watch.over(predictor, "compute")  # strips of logits become classes at once
        else:
            watch.over(runtime, "run")
        return _Segmenting(predictor)
    least = _least(predictor.network)
    ready = predictor.with_settings(image_size=candidate.size_hw, score_threshold=max(score_threshold, least))
    runtime = getattr(ready.network, "runtime", None)
    if runtime is not None:
        watch.over(runtime, "run")
    elif isinstance(ready, JointPredictor):
        watch.over(ready.network, "forward")
    else:
        watch.over(ready.network, "predictions")
    return ready


_LOADERS: dict[str, Callable[[str | Path], DetectionPredictor | JointPredictor | SegmentationPredictor]] = {
    "detection": load_detector,
    "joint": load_joint,
    "segmentation": load_segmenter,
}


def _of_member(network: Network) -> DetectionPredictor | JointPredictor | SegmentationPredictor:
    folded = network.fold()
    if isinstance(folded, JointNetwork):
        return JointPredictor(folded)
    return DetectionPredictor(folded) if isinstance(folded, EfficientDet) else SegmentationPredictor(folded)


def _least(network: Detector | JointNetwork) -> float:
    """The score below which a file with the suppression inside gives no boxes; 0 for everything else."""
    runtime: Runtime | None = getattr(network, "runtime", None)
    if runtime is None or runtime.about.postprocess is None:
        return 0.0
    make: Callable[..., Postprocess] = Postprocess
    return make(**runtime.about.postprocess).score_threshold


def _classifying(candidate: Candidate, file: Path | None, watch: Watch) -> _Classifying:
    if file is not None:
        runtime = open_any(str(file))
        watch.over(runtime, "run")
        return _Classifying(runtime)
    network, _ = build(candidate.subject.source)
    assert isinstance(network, Classifier)
    fold(network, torch.zeros(1, 3, 2 * network.stride, 2 * network.stride))
    watch.over(network, "forward")
    return _Classifying(network.to(memory_format=torch.channels_last))


def _surroundings(computing: Computing, size_hw: tuple[int, int]) -> tuple[PixelReader, Canvas]:
    """How pictures are read, and the canvas that they are laid on."""
    if isinstance(computing, _Classifying):
        return PixelReader(), Canvas(size_hw, computing.canvas_color, computing.stride)
    if isinstance(computing, _Segmenting):
        predictor = computing.predictor
        return predictor.reader, Canvas(size_hw, predictor.fill_color, predictor.stride)
    assert isinstance(computing, DetectionPredictor | JointPredictor)
    return computing.reader, computing.canvas
