"""Segmentation of images: load a network, give it a picture, and get the class of each of its pixels.

segmenter = load("runs/segmentation/demo/checkpoints/last.ckpt")
found = segmenter.predict("street.jpg")
found.draw("street.jpg").save("overlay.jpg")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor

from engine.exports.files import check_exported_use, is_exported
from engine.prediction.predictor import Predictor
from engine.reading.images import UInt8Array
from engine.reading.pixels import Source
from engine.sharing.shareable import Origin, Shareable
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import stored_settings
from segmentation.data.classes import MaskClasses
from segmentation.inference.inference import Inference, class_rows, probabilities
from segmentation.inference.segmented import Segmented
from segmentation.network.model import Segmenter
from segmentation.spec import SPEC
from segmentation.weights.exported import load_exported
from segmentation.weights.load import load_network

Value = TypeVar("Value")


class InferenceSettings(TypedDict, total=False):
    """What a call may ask for; a setting that is left out or None is the predictor's own.

    Attributes:
        window: side in pixels of the tiles in which an image is computed; by default it is computed whole.
        overlap: pixels that neighbouring tiles share; by default a quarter of the window.
        margin: pixels at a tile's inner ends that get no weight; by default a quarter of the overlap.
        scales: sizes, relative to the image's own, at which it is computed; probabilities are averaged.
        flip: average with the mirrored image.
        probabilities: keep the probabilities of all classes.
    """

    window: int | None
    overlap: int | None
    margin: int | None
    scales: Sequence[float] | None
    flip: bool | None
    probabilities: bool | None


class WholeImage(NamedTuple):
    """An image as it is; each image is computed at its own size.

    Attributes:
        image: (H, W, 3) uint8 RGB.
    """

    image: Tensor


def as_it_is(image: UInt8Array) -> WholeImage:
    """An (H, W, 3) uint8 RGB image as a sample."""
    return WholeImage(torch.from_numpy(image))


class SegmentationPredictor(Shareable, Predictor[WholeImage, Segmented]):
    """A segmenter with everything that prediction needs.

    Args:
        network: the segmenter.
        inference: how an image is computed: whole or in tiles, at several scales, mirrored.
        keep: whether answers hold the probabilities of all classes.
    """

    spec = SPEC
    part = "segmenter"
    network: Segmenter

    def __init__(self, network: Segmenter, inference: Inference = Inference(), *, keep: bool = False) -> None:
        super().__init__(network, network.reading)
        self.inference = inference
        self.keep = keep

    @property
    def classes(self) -> MaskClasses:
        """Names, label ids and colours of the rows that are found."""
        return self.network.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """RGB of pixels that show nothing."""
        return self.network.fill_color

    @property
    def stride(self) -> int:
        """The origins of tiles are multiples of this."""
        return self.network.stride

    def settings(self) -> dict[str, object]:
        """Member, architecture and classes, and how an image is computed."""
        return {**self.network.settings(), "inference": asdict(self.inference)}

    @staticmethod
    def prepare(image: UInt8Array) -> WholeImage:
        """The image as it is."""
        return as_it_is(image)

    def original(self, sample: WholeImage) -> UInt8Array:
        """The image itself."""
        pixels: UInt8Array = sample.image.numpy()
        return pixels

    def with_settings(self, **settings: Unpack[InferenceSettings]) -> SegmentationPredictor:
        """A predictor of the same network with other settings.

        Raises:
            InputError: a setting is out of range.
        """
        own, scales = self.inference, settings.get("scales")
        inference = Inference(
            _first(settings.get("window"), own.window),
            _first(settings.get("overlap"), own.overlap),
            _first(settings.get("margin"), own.margin),
            own.scales if scales is None else tuple(scales),
            _first(settings.get("flip"), own.flip),
            own.batch,
        )
        keep = _first(settings.get("probabilities"), self.keep)
        return SegmentationPredictor(self.network, inference, keep=keep).with_reading(self.reading)

    def with_inference(self, inference: Inference) -> SegmentationPredictor:
        """A predictor of the same network that computes images in another way."""
        return SegmentationPredictor(self.network, inference, keep=self.keep).with_reading(self.reading)

    def compute(self, images: Tensor, samples: Sequence[WholeImage]) -> list[Segmented]:
        """The classes of the pixels of images of one size."""
        if self.keep:
            found = self.probabilities(images)
            rows = found.argmax(1).to(torch.uint8).cpu().numpy()
            kept = found.half().cpu().numpy()
            return [Segmented(one, self.classes, shares, self.reader) for one, shares in zip(rows, kept, strict=True)]
        rows = class_rows(self.network, images, self.inference).cpu().numpy()
        return [Segmented(one, self.classes, read=self.reader) for one in rows]

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, K, H, W) float32 probabilities of (B, 3, H, W) uint8 RGB images; over the classes they sum to 1."""
        return probabilities(self.network, images, self.inference)

    def predict(self, image: Source, **settings: Unpack[InferenceSettings]) -> Segmented:
        """The classes of one image's pixels.

        Args:
            image: a path or an (H, W, 3) uint8 RGB array of any size.
            settings: see `InferenceSettings`.

        Raises:
            InputError: the image is missing, cannot be read or is not an (H, W, 3) uint8 array, or a setting is out of
                range.
        """
        return self.predict_many([image], **settings)[0]

    def predict_many(
        self, images: Sequence[Source], *, batch_size: int = 4, **settings: Unpack[InferenceSettings]
    ) -> list[Segmented]:
        """The classes of each of several images' pixels.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays of any sizes.
            batch_size: images of one size, or tiles, that are computed together.
            settings: see `InferenceSettings`.

        Raises:
            InputError: as `predict`, or `images` is a single image.
        """
        predictor = self.with_settings(**settings)
        if batch_size >= 1:
            predictor = predictor.with_inference(replace(predictor.inference, batch=batch_size))
        return super(SegmentationPredictor, predictor).predict_many(images, batch_size=batch_size)


def _first(given: Value | None, own: Value) -> Value:
    return own if given is None else given


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> SegmentationPredictor:
    """A network ready to predict.

    Args:
        source: a checkpoint written by `python -m segmentation fit`, a folder that `save_pretrained` wrote,
            `hf://owner/name` of a model hub, a folder with a network of segmentation-models-pytorch, or a file that
            `python -m deployment export` wrote.
        device: where it computes; exported files compute on the CPU.
        fold: fold its batch norms, which is faster; leave this out to train it further.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    source = found_source(source, "segmentation")
    if is_exported(source):
        check_exported_use(source, device, fold=fold)
        exported = load_exported(source)
        return SegmentationPredictor(exported, restored_inference(exported.runtime.about.settings("inference")))
    segmenter = load_network(source).to(device)
    stored = stored_settings(source, "inference") or {}
    predictor = SegmentationPredictor(segmenter.fold() if fold else segmenter, restored_inference(stored))
    predictor.origin = Origin.of(source)
    return predictor


def restored_inference(stored: Mapping[str, object]) -> Inference:
    """How images are computed, from what a checkpoint holds of it; the usual way for one without."""
    make: Callable[..., Inference] = Inference
    return make(**stored)
