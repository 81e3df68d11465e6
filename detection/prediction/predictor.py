"""Objects in images: load a detector, give it a picture, and get boxes in the picture's own pixels.

detector = load("runs/detection/demo/checkpoints/last.ckpt")
found = detector.predict("street.jpg", score_threshold=0.5)
found.draw("street.jpg").save("boxes.png")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.weights.exported import load_exported
from detection.weights.load import load_network
from engine.exports.files import check_exported_use, is_exported
from engine.prediction.canvas import Canvas, CanvasPolicy, OnCanvas, canvas_limit
from engine.prediction.predictor import Predictor, check_numbers
from engine.reading.images import Letterbox
from engine.reading.pixels import Source
from engine.reading.reader import PixelReader
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import stored_settings

DEFAULT_SCORE = 0.3


class DetectorSettings(TypedDict, total=False):
    """What a call may ask for in place of the predictor's own settings.

    Attributes:
        score_threshold: keep detections above this score; 0.3 where neither this nor `postprocess` is given.
        canvas: `full` lays every image on the canvas of training and validation; `tight` on one no larger than it
            needs, which is faster.
        image_size: height and width of the canvas in pixels, or the side of a square; None is what the detector was
            made for.
        postprocess: the other settings; its own score threshold is replaced.
    """

    score_threshold: float
    canvas: CanvasPolicy
    image_size: int | tuple[int, int] | None
    postprocess: Postprocess | None


class DetectionPredictor(Predictor[OnCanvas, Found]):
    """A detector with everything that prediction needs.

    Args:
        network: the detector.
        postprocess: suppression settings.
        canvas: see `DetectorSettings`.
        image_size: see `DetectorSettings`.

    Raises:
        InputError: the canvas is too small, the network lays images on another one itself, or `canvas` is not an
            allowed word.
    """

    network: EfficientDet

    def __init__(
        self,
        network: EfficientDet,
        postprocess: Postprocess = Postprocess(score_threshold=DEFAULT_SCORE),
        canvas: CanvasPolicy = "full",
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__(network, network.reading)
        self.postprocess = postprocess
        inside = network.takes_pictures
        limit_hw = canvas_limit(network.config.image_size, image_size, inside=inside)
        self.canvas = Canvas(limit_hw, network.fill_color, network.stride, canvas, inside)

    @property
    def classes(self) -> BoxClasses:
        """The detector's class list."""
        return self.network.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The colour of the canvas beside the image."""
        return self.network.fill_color

    @property
    def prepare(self) -> Canvas:
        """Lays an image on its canvas."""
        return self.canvas

    def with_settings(self, **settings: Unpack[DetectorSettings]) -> DetectionPredictor:
        """A predictor of the same network with other settings.

        Raises:
            InputError: a setting is out of range.
        """
        postprocess = asked_postprocess(self.postprocess, settings.get("postprocess"), settings.get("score_threshold"))
        policy = settings.get("canvas", self.canvas.policy)
        size = settings.get("image_size")
        limit = self.canvas.limit_hw if size is None else size
        return DetectionPredictor(self.network, postprocess, policy, limit).with_reading(self.reading)

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> list[Found]:
        """The objects of images on canvases of one size, in pixels of the originals."""
        letterboxes = [sample.letterbox for sample in samples]
        batch = batch_on_canvas(images, letterboxes)
        if self.network.suppresses:
            detections = self.network.detect(batch, self.postprocess)
        else:
            predictions = self.network.predictions(images)
            check_numbers(*predictions[:2])
            detections = self.network.detections(predictions, batch, self.postprocess)
        return found_in(detections, self.classes, letterboxes, self.reader)

    def predict(self, image: Source, **settings: Unpack[DetectorSettings]) -> Found:
        """Find objects in one image: a path or an (H, W, 3) uint8 RGB array.

        Raises:
            InputError: the image is missing, cannot be read or is not an (H, W, 3) uint8 array, or a setting is out of
                range.
        """
        return self.predict_many([image], **settings)[0]

    def predict_many(
        self, images: Sequence[Source], *, batch_size: int = 8, **settings: Unpack[DetectorSettings]
    ) -> list[Found]:
        """Find objects in each of several images.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            batch_size: images that are computed together.
            settings: see `DetectorSettings`.

        Raises:
            InputError: as `predict`, or `images` is a single image.
        """
        predictor = self.with_settings(**settings) if settings else self
        return super(DetectionPredictor, predictor).predict_many(images, batch_size=batch_size)


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> DetectionPredictor:
    """A detector ready to predict.

    Args:
        source: a checkpoint written by `python -m detection fit`, the name of a published detector such as
            `tf_efficientdet_d0`, a file of a kind that `detection.weights.load` knows, such as one written by
            `python -m detection convert`, or one that `python -m deployment export` wrote.
        device: where it computes; exported files compute on the CPU.
        fold: fold its batch norms, which is faster; leave this out to train it further.

    Raises:
        InputError: the file is missing, damaged or of another kind, or the name is unknown.
    """
    if is_exported(source):
        check_exported_use(source, device, fold=fold)
        exported = load_exported(source)
        return DetectionPredictor(exported, answering(exported.own_postprocess))
    detector = load_network(source).to(device)
    postprocess = stored_postprocess(source, "detection")
    return DetectionPredictor(detector.fold() if fold else detector, postprocess)


def stored_postprocess(source: str | Path, task: str) -> Postprocess:
    """The suppression settings that a checkpoint was trained and scored with, or else the usual ones.

    The score above which boxes are answers is not taken from them: scores are measured down to almost 0.
    """
    stored = stored_settings(found_source(source, task), "postprocess") or {}
    make: Callable[..., Postprocess] = Postprocess
    return answering(make(**stored))


def answering(postprocess: Postprocess) -> Postprocess:
    """The same suppression, with the score above which boxes are answers."""
    return replace(postprocess, score_threshold=DEFAULT_SCORE)


def asked_postprocess(own: Postprocess, given: Postprocess | None, score_threshold: float | None) -> Postprocess:
    """Suppression settings of a call: given values replace the predictor's own."""
    if score_threshold is None:
        score_threshold = own.score_threshold if given is None else DEFAULT_SCORE
    return replace(given or own, score_threshold=score_threshold)


def batch_on_canvas(images: Tensor, letterboxes: Sequence[Letterbox]) -> DetectionBatch:
    """A batch without labels.

    Args:
        images: (B, 3, H, W) uint8 RGB canvases.
        letterboxes: where the images lie on them.
    """
    count, device = len(letterboxes), images.device
    return DetectionBatch(
        images,
        boxes_xyxy=torch.zeros(count, 0, 4, device=device),
        class_ids=torch.zeros(count, 0, dtype=torch.int64, device=device),
        image_ids=torch.arange(count, device=device),
        scales=torch.tensor([box.scale for box in letterboxes], dtype=torch.float32, device=device),
        sizes_hw=torch.tensor([box.image_hw for box in letterboxes], dtype=torch.int64, device=device),
    )


def found_in(
    detections: Detections,
    classes: BoxClasses,
    letterboxes: Sequence[Letterbox],
    read: PixelReader = PixelReader(),
) -> list[Found]:
    """The answers for the images of a batch, from detections in original pixels."""
    # To the host as whole tensors: each copy waits for the device.
    boxes, scores = detections.boxes_xyxy.float().cpu().numpy(), detections.scores.float().cpu().numpy()
    class_ids = detections.class_ids.cpu().numpy()
    category_ids = np.array(classes.category_ids, dtype=np.int64)
    names = [name or f"id {category_id}" for name, category_id in zip(classes.names, classes.category_ids, strict=True)]
    found = []
    for row, (letterbox, count) in enumerate(zip(letterboxes, (class_ids >= 0).sum(1).tolist(), strict=True)):
        rows = class_ids[row, :count]
        labels = [names[class_id] for class_id in rows.tolist()]
        found.append(
            Found(boxes[row, :count], scores[row, :count], labels, rows, category_ids[rows], letterbox.image_hw, read)
        )
    return found
