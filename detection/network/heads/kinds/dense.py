"""What RetinaNet, FCOS and SSD share: one pass over every cell, and torchvision's model around the outputs."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD

from detection.network.heads.contract import Objects, Placed, Truth
from detection.network.heads.parts import exact_maps, image_list, objects, targets, with_thresholds
from detection.network.postprocess import Postprocess


class DenseHead(nn.Module, ABC):
    """A head of torchvision's one-stage detectors.

    A subclass makes `model`, torchvision's detector without a backbone; its layers, anchors, losses and suppression
    are used as they are.

    Args:
        model: the detector.
        first_class: the label of row 0: 0, or 1 where 0 is the background.
    """

    names: ClassVar[tuple[str, ...]]  # of the outputs, in torchvision's words
    losses_of: ClassVar[Mapping[str, str]]  # our words by torchvision's
    repeatable = True
    model: RetinaNet | FCOS | SSD

    def __init__(self, model: RetinaNet | FCOS | SSD, first_class: int) -> None:
        super().__init__()
        self.model = model
        self.first_class = first_class

    @property
    def loss_names(self) -> tuple[str, ...]:
        """See `PyramidHead`."""
        return tuple(self.losses_of.values())

    def outputs(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Class logits (B, R, K) and box regressions (B, R, 4), and of FCOS centre logits (B, R, 1)."""
        found = self.model.head(list(maps))
        return tuple(found[name] for name in self.names)

    def losses(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, truth: Sequence[Truth]
    ) -> Mapping[str, Tensor]:
        """See `PyramidHead`."""
        anchors = self.model.anchor_generator(image_list(placed), exact_maps(maps))
        by_name = {
            name: output.float() if output.dtype.itemsize < 4 else output for name, output in self._named(outputs)
        }
        found = self.compute_losses(targets(truth, self.first_class), by_name, anchors, self._counts(maps, outputs))
        return {ours: found[theirs] for theirs, ours in self.losses_of.items()}

    def detections(
        self, maps: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed, config: Postprocess
    ) -> list[Objects]:
        """See `PyramidHead`."""
        anchors = self.model.anchor_generator(image_list(placed), exact_maps(maps))
        model = with_thresholds(
            self.model,
            score_thresh=config.score_threshold,
            nms_thresh=config.iou_threshold,
            detections_per_img=config.max_detections,
            **self.candidates(config, len(maps)),
        )
        by_name = {name: output.float() for name, output in self._named(outputs)}
        return objects(self.suppressed(model, by_name, anchors, placed, self._counts(maps, outputs)), self.first_class)

    def candidates(self, config: Postprocess, levels: int) -> dict[str, float]:
        """How many candidates of each level enter the suppression: an equal share of the most that are asked for.

        The usual 5,000 on five levels are torchvision's own 1,000 for each.
        """
        return {"topk_candidates": max(1, config.max_candidates // levels)}

    def suppressed(
        self,
        model: RetinaNet | FCOS | SSD,
        outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        placed: Placed,
        counts: Sequence[int],
    ) -> list[dict[str, Tensor]]:
        """Torchvision's detections; here of a detector that suppresses level by level."""
        by_level = {name: list(output.split(list(counts), dim=1)) for name, output in outputs.items()}
        split = [list(each.split(list(counts))) for each in anchors]
        found: list[dict[str, Tensor]] = model.postprocess_detections(by_level, split, placed.sizes_hw)
        return found

    def compute_losses(
        self,
        truth: Sequence[Mapping[str, Tensor]],
        outputs: Mapping[str, Tensor],
        anchors: Sequence[Tensor],
        counts: Sequence[int],
    ) -> Mapping[str, Tensor]:
        """Torchvision's losses by its own words.

        Args:
            truth: targets in torchvision's words.
            outputs: by name, float32 or wider.
            anchors: (R, 4) of each image.
            counts: anchors of each level.
        """
        matching = self.matching(truth, anchors, counts)
        found: Mapping[str, Tensor] = self.model.compute_loss(truth, outputs, anchors, *matching)
        return found

    def matching(
        self, truth: Sequence[Mapping[str, Tensor]], anchors: Sequence[Tensor], counts: Sequence[int]
    ) -> tuple[object, ...]:
        """What torchvision's loss of the detector asks for besides; here nothing."""
        return ()

    def _named(self, outputs: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
        return list(zip(self.names, outputs, strict=True))

    @staticmethod
    def _counts(maps: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[int]:
        cells = [one.shape[-2] * one.shape[-1] for one in maps]
        per_cell = outputs[0].shape[1] // sum(cells)
        return [count * per_cell for count in cells]
