"""Our detectors as torchvision's are called: lists of images and targets in, losses or detections out.

    model = TorchvisionDetector(build_detector("lite0", head="fcos", num_classes=3))
    losses = model(images, targets)            # in training: a dictionary, whose sum is to be minimised
    found = model.eval()(images)               # boxes, labels, scores, and masks of mask_rcnn

So a training loop of torchvision's references runs with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.roi_heads import paste_masks_in_image

from detection.data.batch import DetectionBatch
from detection.network.detector import Detector
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess
from engine.errors import InputError
from engine.reading.images import Letterbox

USUAL = Postprocess(score_threshold=0.05)  # torchvision's own threshold


class TorchvisionDetector(nn.Module):
    """A detector with torchvision's contract.

    Args:
        detector: with any head; images are laid on its canvas, as in our own training, by bilinear resizing.
        postprocess: thresholds of the detections.
        loss: of EfficientDet's training.
    """

    def __init__(
        self, detector: Detector, postprocess: Postprocess = USUAL, loss: DetectionLoss = DetectionLoss()
    ) -> None:
        super().__init__()
        self.detector = detector
        self.postprocess = postprocess
        self.loss = loss

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: each (3, H, W) RGB in 0..1, of any size.
            targets: for each image `boxes` (N, 4) xyxy in its pixels with positive sides, `labels` (N,) from 1 on (row
                0 of the class list is label 1, as 0 is torchvision's background), and for mask_rcnn `masks` (N, H, W)
                of 0 and 1. Only in training.

        Returns:
            The losses by name, weighted, so that their sum is to be minimised; or for each image `boxes`, `labels`,
            `scores`, best first, in its own pixels, and of mask_rcnn `masks` (N, 1, H, W) probabilities.

        Raises:
            InputError: targets are missing in training, or do not fit the images.
        """
        if not self.training:
            return self._found(images)
        if targets is None or len(targets) != len(images):
            given = "no targets" if targets is None else f"{len(targets)} targets"
            msg = f"the detector is in training mode and got {given} for {len(images)} images. Give one for each image."
            raise InputError(msg)
        sums = self.detector.loss_sums(self._batch(images, targets), self.loss)
        weights = sums.terms.weights
        named = sums.named(sums.divisor)
        return {f"loss_{name}": value * w for (name, value), w in zip(named.items(), weights, strict=True)}

    @torch.no_grad()
    def _found(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        batch = self._batch(images, None)
        found = self.detector.detect(batch, self.postprocess)
        answers = []
        for row, count in enumerate((found.class_ids >= 0).sum(1).tolist()):
            boxes = found.boxes_xyxy[row, :count]
            one = {"boxes": boxes, "labels": found.class_ids[row, :count] + 1, "scores": found.scores[row, :count]}
            if found.masks is not None:
                size_hw = (images[row].shape[1], images[row].shape[2])
                one["masks"] = paste_masks_in_image(found.masks[row, :count, None], boxes, size_hw)
            answers.append(one)
        return answers

    def _batch(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None) -> DetectionBatch:
        canvas_hw, device = self.detector.config.image_size, self.detector.mean.device
        boxes_of = [Letterbox.fit((one.shape[1], one.shape[2]), canvas_hw) for one in images]
        color = torch.tensor(self.detector.fill_color, dtype=torch.float32, device=device)
        canvases = color[:, None, None].expand(len(images), 3, *canvas_hw).clone()
        for canvas, image, box in zip(canvases, images, boxes_of, strict=True):
            height, width = box.scaled_hw
            own = image[None].to(device, torch.float32)
            canvas[:, :height, :width] = 255 * F.interpolate(own, (height, width), mode="bilinear", antialias=True)[0]
        boxes, labels, masks = _scaled(targets or [{}] * len(images), boxes_of, canvas_hw, device)
        wanted = self.detector.config.head == "mask_rcnn" and targets is not None
        return DetectionBatch(
            images=canvases,
            boxes_xyxy=pad_sequence(boxes, batch_first=True),
            class_ids=pad_sequence(labels, batch_first=True, padding_value=-1),
            image_ids=torch.arange(len(images), device=device),
            scales=torch.tensor([box.scale for box in boxes_of], dtype=torch.float32, device=device),
            sizes_hw=torch.tensor([box.image_hw for box in boxes_of], device=device),
            masks=tuple(masks) if wanted else None,
        )


def _scaled(
    targets: Sequence[Mapping[str, Tensor]],
    placed: Sequence[Letterbox],
    canvas_hw: tuple[int, int],
    device: torch.device,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Boxes, class ids and masks of each image on its canvas."""
    boxes, labels, masks = [], [], []
    for target, box in zip(targets, placed, strict=True):
        own = target.get("boxes", torch.zeros(0, 4)).to(device, torch.float32)
        if (own[:, 2:] <= own[:, :2]).any():
            msg = "a target has a box without area, or not as left, top, right, bottom. Leave it out."
            raise InputError(msg)
        boxes.append(own * box.scale)
        labels.append(target.get("labels", torch.zeros(0)).to(device, torch.int64) - 1)
        height, width = box.scaled_hw
        canvas = torch.zeros(len(own), *canvas_hw, dtype=torch.uint8, device=device)
        if len(own) and "masks" in target:
            given = target["masks"][:, None].to(device, torch.float32)
            resized = F.interpolate(given, (height, width), mode="nearest-exact")
            canvas[:, :height, :width] = resized[:, 0].to(torch.uint8)
        masks.append(canvas)
    return boxes, labels, masks
