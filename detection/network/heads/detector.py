"""A detector with one of torchvision's heads: backbone, pyramid, head."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from backbones.grid import size_hw
from backbones.slimming import slim
from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.network.detector import Detector, LossSums, LossTerms, Predictions
from detection.network.family import DetectorArchitecture
from detection.network.heads.choice import Head
from detection.network.heads.contract import Objects, Placed, PyramidHead, Truth
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from detection.network.heads.kinds.fcos import FcosHead
from detection.network.heads.kinds.mask_rcnn import MaskRcnnHead
from detection.network.heads.kinds.retinanet import RetinaHead
from detection.network.heads.kinds.ssd import SsdHead
from detection.network.heads.pyramid import make_pyramid
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess, to_original_pixels
from engine.distributed import is_main
from engine.errors import InputError

HEADS: Mapping[Head, Callable[[DetectorArchitecture, int], PyramidHead]] = {
    "retinanet": RetinaHead,
    "fcos": FcosHead,
    "ssd": SsdHead,
    "faster_rcnn": FasterRcnnHead,
    "mask_rcnn": MaskRcnnHead,
}
_log = logging.getLogger(__name__)


class HeadedDetector(Detector):
    """A network with any of `HEADS`; the arguments are those of `Detector`.

    Canvases are padded to multiples of 32, as torchvision does, which makes the cells of levels 3 to 5 whole.

    Raises:
        InputError: as `Detector`, or the head is EfficientDet's.
    """

    head: PyramidHead

    def put_on(self) -> None:
        """Make the pyramid and the head."""
        config = self.config
        if config.head not in HEADS:
            msg = f"head is {config.head}; allowed are {', '.join(HEADS)}. Call detection.network.build.build_detector."
            raise InputError(msg)
        self.pyramid = make_pyramid(self.backbone.channels, config)
        self.head = HEADS[config.head](config, len(self.classes))
        slim(self, config.widths, self.stride)

    @property
    def padded_to(self) -> int:
        """See `Detector`."""
        return 32

    def forward(self, images: Tensor) -> Predictions:
        """As `predictions`, which folding for prediction runs."""
        return self.predictions(images)

    def predictions(self, images: Tensor) -> Predictions:
        """The pyramid's maps, finest first, and then what the head computes of every cell."""
        return self.predictions_from(self.backbone(self.normalise(images)))

    def predictions_from(self, features: Sequence[Tensor]) -> Predictions:
        """As `predictions`, from the backbone's maps of levels 3, 4 and 5."""
        maps = self.pyramid(features)
        if torch.is_autocast_enabled(maps[0].device.type):
            maps = [one.float() for one in maps]  # boxes are computed with their numbers; layers cast by themselves
        return (*maps, *self.head.outputs(maps))

    @torch.no_grad()
    def detections(self, predictions: Predictions, batch: DetectionBatch, config: Postprocess) -> Detections:
        """See `Detector`."""
        maps, outputs = self._parts(predictions)
        sizes_hw = (batch.sizes_hw * batch.scales[:, None]).tolist()
        placed = self._placed(batch.images, [(height, width) for height, width in sizes_hw])
        found = self.head.detections(maps, outputs, placed, config)
        return to_original_pixels(padded(found, config.max_detections), batch.scales, batch.sizes_hw)

    def loss_sums(self, batch: DetectionBatch, config: DetectionLoss) -> LossSums:
        """See `Detector`; counted are the images, over which torchvision's losses are means."""
        if batch.certainty is not None:
            msg = (
                f"data.label_scores is true, but the losses of head {self.config.head} do not weigh boxes. Leave it "
                "out, or take --model.head efficientdet."
            )
            raise InputError(msg)
        found = self._losses(self.predictions(batch.images), batch)
        count = found.new_full((), len(batch.images), dtype=torch.float32)
        return LossSums(found * len(batch.images), count, self.loss_terms(config))

    @torch.no_grad()
    def image_losses(self, predictions: Predictions, batch: DetectionBatch, config: DetectionLoss) -> Tensor | None:
        """See `Detector`; each image is a batch of its own."""
        if not self.head.repeatable:
            return None
        rows = []
        for row in range(len(batch.images)):
            one = batch._replace(
                images=batch.images[row : row + 1],
                boxes_xyxy=batch.boxes_xyxy[row : row + 1],
                class_ids=batch.class_ids[row : row + 1],
            )
            found = self._losses(tuple(part[row : row + 1] for part in predictions), one)
            rows.append(torch.cat([found, found.new_ones(1)]))
        return torch.stack(rows).float()

    def loss_terms(self, config: DetectionLoss) -> LossTerms:
        """See `Detector`."""
        names = self.head.loss_names
        return LossTerms(names, (1.0,) * len(names))

    def set_classes(self, classes: BoxClasses) -> None:
        """See `Detector`."""
        if classes == self.classes:
            return
        if is_main():
            kept = "all weights are kept except those of the layers that give classes, which get new random values"
            _log.warning("class list changed from %d to %d rows: %s", len(self.classes), len(classes), kept)
        self.head.renew_classes(len(classes))
        self.classes = classes

    def _losses(self, predictions: Predictions, batch: DetectionBatch) -> Tensor:
        maps, outputs = self._parts(predictions)
        # Augmented images may fill their canvas or not; where they end is not known, and no box lies beyond.
        placed = self._placed(batch.images, [size_hw(batch.images)] * len(batch.images))
        found = self.head.losses(maps, outputs, placed, truth_of(batch))
        return torch.stack([found[name] for name in self.head.loss_names])

    def _parts(self, predictions: Predictions) -> tuple[Predictions, Predictions]:
        count = len(self.config.levels)
        return predictions[:count], predictions[count:]

    def _placed(self, images: Tensor, sizes_hw: list[tuple[float, float]]) -> Placed:
        height, width = (-(-side // self.padded_to) * self.padded_to for side in size_hw(images))
        return Placed((height, width), sizes_hw, images.device)


def truth_of(batch: DetectionBatch) -> list[Truth]:
    """The boxes of each image of a batch, without the padding."""
    found = []
    for row in range(len(batch.images)):
        real = batch.class_ids[row] >= 0
        masks = None if batch.masks is None else batch.masks[row]
        found.append(Truth(batch.boxes_xyxy[row][real], batch.class_ids[row][real], masks))
    return found


def padded(found: Sequence[Objects], count: int) -> Detections:
    """The objects of images as one batch, padded to `count` each."""

    def stacked(parts: Sequence[Tensor], fill: float) -> Tensor:
        whole = pad_sequence(list(parts), batch_first=True, padding_value=fill)
        missing = whole.new_full((len(parts), count - whole.shape[1], *whole.shape[2:]), fill)
        return torch.cat([whole, missing], 1)

    masks = [one.masks for one in found if one.masks is not None]
    return Detections(
        stacked([one.boxes_xyxy.float() for one in found], 0.0),
        stacked([one.scores.float() for one in found], 0.0),
        stacked([one.class_ids for one in found], -1),
        pad_sequence(masks, batch_first=True) if masks else None,
    )
