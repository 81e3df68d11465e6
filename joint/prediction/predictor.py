"""Objects and classes of pixels in images: load a network, give it a picture, and read both answers.

    network = load("runs/joint/demo/checkpoints/last.ckpt")
    both = network.predict("street.jpg")
    both.draw("street.jpg").save("street_overlay.jpg")

Both answers come from one pass over the image, letter-boxed on the detector's canvas, and are in pixels of the
original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import (
    DEFAULT_SCORE,
    DetectorSettings,
    answering,
    asked_postprocess,
    batch_on_canvas,
    found_in,
    stored_postprocess,
)
from engine.exports.files import check_exported_use, is_exported
from engine.prediction.canvas import Canvas, CanvasPolicy, OnCanvas, canvas_limit
from engine.prediction.predictor import Predictor, check_numbers
from engine.reading.pixels import Source
from engine.sharing.shareable import Origin, Shareable
from engine.training.checkpoint_files import found_source
from joint.network.model import JointNetwork
from joint.network.original import original_classes
from joint.prediction.found import JointFound
from joint.spec import SPEC
from joint.weights.exported import load_exported
from joint.weights.load import load_network
from segmentation.data.classes import MaskClasses
from segmentation.inference.segmented import Segmented


class JointSettings(DetectorSettings, total=False):
    """The settings that a call may change, besides those of a detector.

    Attributes:
        detect: whether to find objects; otherwise the pass costs only as much as the segmenter alone.
        segment: whether to find classes of pixels; otherwise the pass costs only as much as the detector alone.
    """

    detect: bool
    segment: bool


class JointPredictor(Shareable, Predictor[OnCanvas, JointFound]):
    """A joint network with everything else that prediction needs.

    Args:
        network: the joint network.
        postprocess: the detector's suppression settings.
        canvas: see `DetectorSettings`.
        image_size: see `DetectorSettings`.
        detect: see `JointSettings`.
        segment: see `JointSettings`.

    Raises:
        InputError: the canvas is too small, the network lays images on another one itself, or its policy is unknown.
    """

    spec = SPEC
    part = "network"
    network: JointNetwork

    def __init__(
        self,
        network: JointNetwork,
        postprocess: Postprocess = Postprocess(score_threshold=DEFAULT_SCORE),
        canvas: CanvasPolicy = "full",
        image_size: int | tuple[int, int] | None = None,
        *,
        detect: bool = True,
        segment: bool = True,
    ) -> None:
        super().__init__(network, network.reading)
        self.postprocess = postprocess
        inside = network.detector.takes_pictures
        limit_hw = canvas_limit(network.detector.config.image_size, image_size, inside=inside)
        self.canvas = Canvas(limit_hw, network.fill_color, network.stride, canvas, inside)
        self.detect = detect
        self.segment = segment

    @property
    def classes(self) -> BoxClasses:
        """The class list of the detector."""
        return self.network.detector.classes

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The class list of the segmenter."""
        return self.network.segmenter.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The colour of the canvas beside the image."""
        return self.network.fill_color

    @property
    def prepare(self) -> Canvas:
        """The preparation of an image, which lays it on its canvas."""
        return self.canvas

    def settings(self) -> dict[str, object]:
        """The settings of both networks, of their norms, and how boxes are suppressed."""
        scored = replace(self.postprocess, score_threshold=Postprocess().score_threshold)  # as `answering` undoes it
        return {"norms": "shared", **self.network.settings(), "postprocess": asdict(scored)}

    def with_settings(self, **settings: Unpack[JointSettings]) -> JointPredictor:
        """A predictor of the same network with other settings.

        Raises:
            InputError: a setting is out of range.
        """
        size = settings.get("image_size")
        return JointPredictor(
            self.network,
            asked_postprocess(self.postprocess, settings.get("postprocess"), settings.get("score_threshold")),
            settings.get("canvas", self.canvas.policy),
            self.canvas.limit_hw if size is None else size,
            detect=settings.get("detect", self.detect),
            segment=settings.get("segment", self.segment),
        ).with_reading(self.reading)

    def compute(self, images: Tensor, samples: Sequence[OnCanvas]) -> list[JointFound]:
        """Both answers for images on canvases of one size, in pixels of the original images."""
        boxes = [sample.letterbox for sample in samples]
        batch = batch_on_canvas(images, boxes)
        answers = self.network.answer(batch, self.postprocess, detect=self.detect, segment=self.segment)
        outputs = answers.outputs
        predictions = () if outputs.predictions is None else outputs.predictions[:2]
        check_numbers(*predictions, *([] if outputs.segmentation is None else [outputs.segmentation.logits]))
        found: list[Found | None] = [None] * len(boxes)
        if answers.detections is not None:
            found = [*found_in(answers.detections, self.classes, boxes, self.reader)]
        segmented: list[Segmented | None] = [None] * len(boxes)
        if outputs.segmentation is not None or answers.rows is not None:
            rows = [original_classes(answers, number, box) for number, box in enumerate(boxes)]
            segmented = [Segmented(one.cpu().numpy(), self.segmentation_classes, read=self.reader) for one in rows]
        return [JointFound(*both) for both in zip(found, segmented, strict=True)]

    def predict(self, image: Source, **settings: Unpack[JointSettings]) -> JointFound:
        """Both answers for one image: a path or an (H, W, 3) uint8 RGB array.

        Raises:
            InputError: the image is missing or cannot be read, or is not an (H, W, 3) uint8 array; or a setting is out
                of range.
        """
        return self.predict_many([image], **settings)[0]

    def predict_many(
        self, images: Sequence[Source], *, batch_size: int = 4, **settings: Unpack[JointSettings]
    ) -> list[JointFound]:
        """Both answers for each of several images.

        Args:
            images: paths or (H, W, 3) uint8 RGB arrays.
            batch_size: images that are computed together.
            settings: see `JointSettings`.

        Raises:
            InputError: as in `predict`, or `images` is one image.
        """
        predictor = self.with_settings(**settings) if settings else self
        return super(JointPredictor, predictor).predict_many(images, batch_size=batch_size)


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> JointPredictor:
    """Load a network for prediction.

    Args:
        source: a checkpoint written by `python -m joint fit`, a folder that `save_pretrained` wrote, `hf://owner/name`
            of a model hub, or a file that `python -m deployment export` wrote.
        device: the device that it computes on; exported files compute on the CPU.
        fold: whether to fold its batch norms, which is faster; a folded network cannot be trained further.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    source = found_source(source, "joint")
    if is_exported(source):
        check_exported_use(source, device, fold=fold)
        exported = load_exported(source)
        return JointPredictor(exported, answering(exported.own_postprocess))
    network = load_network(source).to(device)
    predictor = JointPredictor(network.fold() if fold else network, stored_postprocess(source, "joint"))
    predictor.origin = Origin.of(source)
    return predictor
