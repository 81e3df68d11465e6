"""Objects in images, in Python: load a detector, hand it a picture, read boxes in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.data.dataset import collate, letterbox_sample
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.weights.load import SUFFIXES
from engine.data.images import Letterbox, UInt8Array
from engine.data.pixels import Source as Source
from engine.data.pixels import pixels_of
from engine.errors import InputError
from engine.prediction.pictures import draw_boxes
from engine.training.checkpoints import read_checkpoint

DEFAULT_SCORE = 0.3


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one image, surest first.

    Attributes:
        boxes_xyxy: (N, 4) float32 left, top, right, bottom in pixels of the original image.
        scores: (N,) float32 in [0, 1].
        labels: N class names.
        class_ids: (N,) rows of the detector's class list.
        category_ids: (N,) ids of the annotations it was trained on.
        size_hw: height and width of the original image.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: list[str]
    class_ids: npt.NDArray[np.int64]
    category_ids: npt.NDArray[np.int64]
    size_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: Source) -> Image.Image:
        """The image with the boxes drawn on it."""
        captions = [f"{label} {score:.2f}" for label, score in zip(self.labels, self.scores, strict=True)]
        return draw_boxes(pixels_of(image), self.boxes_xyxy, self.class_ids.tolist(), captions)


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> EfficientDet:
    """A detector ready to predict.

    Args:
        source: a checkpoint written by `python -m detection fit`, the name of a published detector such as
            `tf_efficientdet_d0`, or a file of a kind that `detection.weights.load` knows, such as one
            written by `python -m detection convert`.
        device: where it computes.
        fold: fold its batch norms, which is faster; not if it is to be trained further.

    Raises:
        InputError: the file is missing, damaged or of another kind, or the name is unknown.
    """
    path = Path(source)
    name = not path.suffix and not path.exists()
    if name or (path.suffix in SUFFIXES and path.suffix != ".ckpt"):
        detector = EfficientDet.from_pretrained(source)
    else:
        checkpoint = read_checkpoint(path, "detection")
        detector = EfficientDet.from_settings(checkpoint.model)
        state = {key.removeprefix("detector."): value for key, value in checkpoint.state_dict.items()}
        detector.load_state_dict(state)
    detector = detector.eval().to(device).to(memory_format=torch.channels_last)
    return detector.fold() if fold else detector


def predict(detector: EfficientDet, image: Source, **settings: Any) -> Found:
    """Find objects in one image.

    Args:
        detector: the network; it is put into eval mode.
        image: a path or an (H, W, 3) uint8 RGB array.
        settings: those of `predict_many`.

    Raises:
        InputError: the image is missing or cannot be read, or is no (H, W, 3) uint8 array.
    """
    return predict_many(detector, [image], **settings)[0]


def predict_many(
    detector: EfficientDet,
    images: Sequence[Source],
    *,
    score_threshold: float = DEFAULT_SCORE,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 8,
    postprocess: Postprocess | None = None,
) -> list[Found]:
    """Find objects in each of several images.

    Images are letter-boxed on a canvas no larger than they need: a wide image costs what its own shape costs.

    Args:
        detector: the network; it is put into eval mode.
        images: paths or (H, W, 3) uint8 RGB arrays.
        score_threshold: surer objects are returned.
        image_size: longest sides (H, W) of the canvas in pixels; None is what the detector was made for.
        batch_size: images of one shape that are computed together.
        postprocess: the other settings; its own score threshold is replaced.

    Raises:
        InputError: an image is missing or cannot be read, or is no (H, W, 3) uint8 array; or a setting is out of
            range.
    """
    if isinstance(images, str | Path | np.ndarray):
        msg = "predict_many takes a list of images; give [image], or call predict for one"
        raise InputError(msg)
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1"
        raise InputError(msg)
    config = replace(postprocess or Postprocess(), score_threshold=score_threshold)
    size = detector.config.image_size if image_size is None else image_size
    limit_hw = (size, size) if isinstance(size, int) else size
    if min(limit_hw) < 32:
        msg = f"image_size is {image_size}; give at least 32 pixels"
        raise InputError(msg)
    found: list[Found] = []
    detector.eval()
    for start in range(0, len(images), batch_size):
        found += _predict_batch(detector, [pixels_of(i) for i in images[start : start + batch_size]], limit_hw, config)
    return found


def tight_canvas(image_hw: tuple[int, int], limit_hw: tuple[int, int], stride: int) -> tuple[int, int]:
    """The smallest canvas, in multiples of the stride, for an image that is fitted into `limit_hw`.

    It never exceeds the limit: what the network itself adds up to a multiple of the stride is its own to fill.
    """
    scale = min(limit_hw[0] / image_hw[0], limit_hw[1] / image_hw[1])
    needed = (max(1, -(-int(side * scale) // stride)) * stride for side in image_hw)
    height, width = (min(side, limit) for side, limit in zip(needed, limit_hw, strict=True))
    return height, width


def _predict_batch(
    detector: EfficientDet, images: Sequence[UInt8Array], limit_hw: tuple[int, int], config: Postprocess
) -> list[Found]:
    """Images of one batch, grouped by canvas so that none pays for another's shape."""
    canvases = [tight_canvas(_size(image), limit_hw, detector.config.stride) for image in images]
    results: dict[int, Found] = {}
    device = detector.mean.device
    for canvas_hw in dict.fromkeys(canvases):
        members = [index for index, canvas in enumerate(canvases) if canvas == canvas_hw]
        # The image is fitted into the limit, not into the canvas, whose rounding would enlarge it.
        boxes = [replace(Letterbox.fit(_size(images[i]), limit_hw), canvas_hw=canvas_hw) for i in members]
        placed = zip(members, boxes, strict=True)
        samples = [letterbox_sample(images[i], box, detector.fill_color, i) for i, box in placed]
        batch = DetectionBatch(*(tensor.to(device) for tensor in collate(samples)))
        detections = detector.detect(batch, config)
        for row, index in enumerate(members):
            results[index] = found_in(detections, row, detector.classes, samples[row].size_hw)
    return [results[index] for index in range(len(images))]


def found_in(detections: Detections, row: int, classes: BoxClasses, size_hw: tuple[int, int]) -> Found:
    """One image of a batch of detections in original pixels."""
    count = int((detections.class_ids[row] >= 0).sum())
    class_ids = detections.class_ids[row, :count].cpu().numpy()
    names = [classes.names[i] or f"id {classes.category_ids[i]}" for i in class_ids]
    return Found(
        detections.boxes_xyxy[row, :count].float().cpu().numpy(),
        detections.scores[row, :count].float().cpu().numpy(),
        names,
        class_ids,
        np.array([classes.category_ids[i] for i in class_ids], dtype=np.int64),
        size_hw,
    )


def _size(image: UInt8Array) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
