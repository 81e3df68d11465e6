"""EfficientDet: images in, class logits and box deltas out; or letter-boxed batches in, boxes out.

Source: Tan, Pang, Le, "EfficientDet: Scalable and Efficient Object Detection" (arXiv 1911.09070), figure 3.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backbones.contract import Features
from backbones.grid import size_hw
from backbones.slimming import cut, inside, slim
from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.anchors import AnchorCache, Lattice
from detection.network.bifpn import BiFPN, initialise_pyramid
from detection.network.detector import Detector, LossSums, LossTerms, Predictions
from detection.network.family import DetectorArchitecture
from detection.network.heads.distribution import BoxDistribution
from detection.network.heads.efficientdet import CLASS_BIAS, Head, initialise_head
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import Losses, detection_losses, image_losses
from detection.network.postprocess import Postprocess, postprocess, to_original_pixels
from engine.distributed import is_main
from engine.errors import InputError

_log = logging.getLogger(__name__)


class Answers(NamedTuple):
    """The network's results for a batch, with the maps that its heads read.

    Attributes:
        pyramid: maps (B, C, H_l, W_l), finest first.
        class_logits: (B, R, K).
        box_deltas: (B, R, 4), in the order ty, tx, th, tw.
        anchors_xyxy: (R, 4) canvas pixels.
        towers: maps (B, C, H_l, W_l) from which the deltas are predicted.
    """

    pyramid: list[Tensor]
    class_logits: Tensor
    box_deltas: Tensor
    anchors_xyxy: Tensor
    towers: list[Tensor]

    @property
    def predictions(self) -> tuple[Tensor, Tensor, Tensor]:
        """As the method of the network that has this name."""
        return self.class_logits, self.box_deltas, self.anchors_xyxy


class EfficientDet(Detector):
    """A network of the family; the arguments are those of `Detector`.

    Raises:
        InputError: as `Detector`, or the architecture has another head.
    """

    def put_on(self) -> None:
        """Make the pyramid and the heads."""
        config = self.config
        if config.head != "efficientdet":
            msg = (
                f"head is {config.head}, which EfficientDet has not. Give it to detection.network.build.build_detector."
            )
            raise InputError(msg)
        self.fpn = BiFPN(self.backbone.channels, config)
        self.class_head = Head(len(self.classes), config)
        self.box_head = Head(4, config)
        initialise_pyramid(self.fpn)
        initialise_head(self.class_head, last_bias=CLASS_BIAS)
        initialise_head(self.box_head)
        self.anchors = AnchorCache(config)
        self.training_only: BoxDistribution | None = None
        slim(self, config.widths, self.stride)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits and box deltas by level, finest first.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, any size.

        Returns:
            Maps (B, A * K, H_l, W_l) and (B, A * 4, H_l, W_l), anchor-major; deltas in the order ty, tx, th, tw. Each
            level has half the height and width of the one below, rounded up.
        """
        pyramid = self.fpn(self.backbone(self.normalise(images)))
        return self.class_head(pyramid), self.box_head(pyramid)

    def predictions(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, R, K), box deltas (B, R, 4) and their anchors (R, 4) xyxy in canvas pixels."""
        return self.answers(images).predictions

    def answers(self, images: Tensor) -> Answers:
        """As `predictions`, with the maps of the pyramid."""
        normal = self.normalise(images)
        return self._answers_from(self.backbone(normal), size_hw(normal))

    def predictions_from(self, features: list[Tensor], canvas_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """As `predictions`, from the backbone's maps of levels 3, 4 and 5, with `min_level` 2 of 2 too.

        Args:
            features: maps (B, C_l, H_l, W_l), finest first.
            canvas_hw: height and width of the normalised images that they were computed from.
        """
        return self._answers_from(features, canvas_hw).predictions

    def _answers_from(self, features: list[Tensor], canvas_hw: tuple[int, int]) -> Answers:
        pyramid = self.fpn(features)
        class_maps, towers = self.class_head(pyramid), self.box_head.towers(pyramid)
        box_maps = [self.box_head.predict(x) for x in towers]
        # A view, because tracing takes as an output only what an operation gave.
        anchors = self.anchors(canvas_hw, class_maps[0].device).view(-1, 4)
        logits, deltas = self.class_head.flatten(class_maps), self.box_head.flatten(box_maps)
        return Answers(pyramid, logits, deltas, anchors, towers)

    def losses(self, batch: DetectionBatch, config: DetectionLoss) -> Losses:
        """Loss sums of a batch; divide by the positives of all devices."""
        return self.losses_of(self.answers(batch.images), batch, config)

    def losses_of(self, answers: Answers, batch: DetectionBatch, config: DetectionLoss) -> Losses:
        """As `losses`, from the result of `answers` for the batch's images."""
        lattice, spread = self.lattice(size_hw(batch.images)), None
        if config.distribution:
            assert isinstance(self.training_only, BoxDistribution), "for_training makes the layer"
            spread = partial(self.training_only, answers.towers)
        return detection_losses(
            *answers.predictions, batch.boxes_xyxy, batch.class_ids, config, lattice, batch.certainty, spread
        )

    def for_training(self, config: DetectionLoss) -> EfficientDet:
        """See `Detector`: with the layer of the distribution form of boxes, where the loss has it."""
        if config.distribution:
            self.training_only = BoxDistribution(self.config.fpn_channels, self.config.anchors_per_cell).to(self.mean)
        return self

    def lattice(self, image_hw: tuple[int, int]) -> Lattice:
        """The order of the anchors of images of this height and width."""
        multiple = self.config.stride if self.config.pads_canvas else 1
        height, width = (-(-side // multiple) * multiple for side in image_hw)
        return Lattice.of((height, width), self.config)

    def loss_sums(self, batch: DetectionBatch, config: DetectionLoss) -> LossSums:
        """See `Detector`; counted are the positives, and one more."""
        return self.loss_sums_of(self.answers(batch.images), batch, config)

    def loss_sums_of(self, answers: Answers, batch: DetectionBatch, config: DetectionLoss) -> LossSums:
        """As `loss_sums`, from the result of `answers` for the batch's images."""
        losses = self.losses_of(answers, batch, config)
        parts = [losses.classes, losses.boxes, *([] if losses.distribution is None else [losses.distribution])]
        return LossSums(torch.stack(parts), losses.positives, self.loss_terms(config))

    def image_losses(self, predictions: Predictions, batch: DetectionBatch, config: DetectionLoss) -> Tensor:
        """See `Detector`; without that of the distribution, which a validation does not compute."""
        logits, deltas, anchors = predictions
        lattice = self.lattice(size_hw(batch.images))
        sums = image_losses(logits, deltas, anchors, batch.boxes_xyxy, batch.class_ids, config, lattice)
        if not config.distribution:
            return sums
        return torch.cat([sums[:, :2], torch.zeros_like(sums[:, :1]), sums[:, 2:]], 1)

    def loss_terms(self, config: DetectionLoss) -> LossTerms:
        """See `Detector`."""
        if config.distribution:
            return LossTerms(("class", "box", "distribution"), (1.0, config.of_boxes, config.distribution), start=1.0)
        return LossTerms(("class", "box"), (1.0, config.of_boxes), start=1.0)

    def detections(self, predictions: Predictions, batch: DetectionBatch, config: Postprocess) -> Detections:
        """As `detect`, from the result of `predictions` for the batch's images."""
        class_logits, box_deltas, anchors = predictions
        limits_hw = batch.sizes_hw * batch.scales[:, None]
        found = postprocess(class_logits, box_deltas, anchors, config, limits_hw)
        return to_original_pixels(found, batch.scales, batch.sizes_hw)

    def set_classes(self, classes: BoxClasses) -> None:
        """Take another class list; if its rows differ, only the class head's last layer gets new random values."""
        if classes == self.classes:
            return
        if is_main():
            kept = "all weights are kept except the last class layer, which gets new random values"
            _log.warning("class list changed from %d to %d rows: %s", len(self.classes), len(classes), kept)
        fresh = Head(len(classes), self.config)
        initialise_head(fresh, last_bias=CLASS_BIAS)
        cut(fresh, inside(self.config.widths, "class_head"))
        self.class_head.predict = fresh.predict.to(self.mean)
        self.class_head.outputs = len(classes)
        self.classes = classes

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], backbone: Features | None = None) -> EfficientDet:
        """The network that `settings` describes, with random weights.

        Args:
            settings: see `settings`.
            backbone: replaces the one described; needed if that was given as an object.

        Raises:
            InputError: the settings do not say how the backbone is built, and none is given.
        """
        config = DetectorArchitecture.from_settings(settings)
        return cls(config, classes=BoxClasses.from_dict(settings["classes"]), backbone=backbone)
