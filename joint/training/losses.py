"""The losses of both tasks from one pass, for batches in which an image may have boxes, a mask, both or neither."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import Losses as DetectionSums
from detection.network.losses import detection_losses
from engine.distributed import all_reduce_sum, world_size
from engine.errors import InputError
from engine.losses.running_mean import RunningMean
from joint.data.batch import JointBatch
from joint.network.model import JointNetwork, JointOutputs, SharedMaps
from joint.network.norms import PerTaskNetwork
from segmentation.network.losses import Losses as SegmentationSums
from segmentation.network.losses import SegmentationLoss, segmentation_losses


@dataclass(frozen=True, eq=False)
class JointLosses:
    """The losses of a batch, each divided by its count over all devices.

    DDP takes the mean of the devices' gradients. With these losses the mean is the gradient over the images of all
    devices, as if they were on one device.

    Attributes:
        detection: () loss of the images with boxes.
        segmentation: () loss of the images with masks.
        present: (2,) whether any device has labels of the kind.
        everywhere: (2,) both losses over the images of all devices, without gradient.
        parts: the parts of each loss by name, over the images of all devices, without gradient.
    """

    detection: Tensor
    segmentation: Tensor
    present: Tensor
    everywhere: Tensor
    parts: dict[str, Tensor]


def joint_losses(
    network: JointNetwork,
    batch: JointBatch,
    detection: DetectionLoss | None,
    segmentation: SegmentationLoss | None,
    running: RunningMean | None = None,
) -> JointLosses:
    """Run the network on the images that have labels, and compute the losses of its outputs.

    A kind of labels that the batch does not have costs nothing and adds 0, with a gradient of 0 for every trained
    parameter, because DDP waits for each. All devices must call this at once.

    Args:
        network: the network in training mode.
        batch: images with their labels.
        detection: settings of the detection loss; None does not run that head.
        segmentation: settings of the segmentation loss; None does not run that head.
        running: the mean of the positives that the detection loss is divided by; None divides by the batch's own.
    """
    # The only wait for the device: which rows of the batch have which labels.
    has_boxes, has_masks = torch.stack([batch.boxed, batch.masked]).tolist()
    boxed = [row for row, has in enumerate(has_boxes) if has and detection is not None]
    masked = [row for row, has in enumerate(has_masks) if has and segmentation is not None]
    outputs = labelled_outputs(network, batch.images, boxed, masked)
    zero = network.detector.mean.new_zeros(())
    skipped = zero
    if (detection is not None and not boxed) or (segmentation is not None and not masked):
        skipped = no_gradient(p for p in network.parameters() if p.requires_grad)
    if detection is not None and detection.distribution:
        msg = "loss.distribution is for a detector alone. Leave model.detection_loss.distribution out."
        raise InputError(msg)
    boxes = None if detection is None else _detection_sums(network, outputs, batch, boxed, detection, skipped)
    masks = None if segmentation is None else _segmentation_sums(network, outputs, batch, masked, segmentation, skipped)
    all_boxes, all_masks, all_boxed = _over_devices(boxes, masks, len(boxed), zero)
    of_boxes, of_masks, everywhere, there = zero, zero, [zero, zero], [zero, zero]
    parts: dict[str, Tensor] = {}
    if detection is not None and boxes is not None and all_boxes is not None:
        positives = all_boxes.positives + 1
        if running is not None:  # a step without boxes anywhere counts nothing, and divides nothing
            positives = running.after(all_boxes.positives.clamp(min=1), all_boxed > 0)
        of_boxes = boxes.total(positives / world_size(), detection.of_boxes) + skipped
        everywhere[0], there[0] = all_boxes.total(positives, detection.of_boxes), all_boxed
        parts |= {"class_loss": all_boxes.classes / positives, "box_loss": all_boxes.boxes / positives}
    if segmentation is not None and masks is not None and all_masks is not None:
        of_masks = masks.total(segmentation, all_masks.shared, world_size()) + skipped
        terms = all_masks.terms(segmentation)
        everywhere[1], there[1] = torch.stack(list(terms.values())).sum(), all_masks.shared[2]
        parts |= terms if len(terms) > 1 else {}
    return JointLosses(of_boxes, of_masks, torch.stack(there) > 0, torch.stack(everywhere), parts)


def _over_devices(
    boxes: DetectionSums | None, masks: SegmentationSums | None, boxed: int, zero: Tensor
) -> tuple[DetectionSums | None, SegmentationSums | None, Tensor]:
    """The sums of both losses and the number of images with boxes over all devices, from one collective call."""
    packed = [zero.new_full((1,), boxed)]

    def pack(values: Tensor) -> Tensor:
        packed.append(values)
        return values

    # Packed with a first call of each, and read in the same order with a second one.
    for sums in (boxes, masks):
        if sums is not None:
            sums.over_devices(pack)
    count, *totals = all_reduce_sum(torch.cat(packed)).split([len(values) for values in packed])
    rest = iter(totals)
    all_boxes = None if boxes is None else boxes.over_devices(lambda _: next(rest))
    all_masks = None if masks is None else masks.over_devices(lambda _: next(rest))
    return all_boxes, all_masks, count[0]


def labelled_outputs(network: JointNetwork, images: Tensor, boxed: list[int], masked: list[int]) -> JointOutputs:
    """The outputs of the network for the images that each head learns from.

    All labelled images share one pass of the backbone and the statistics of its batch norms, unless the tasks have
    separate norms; each head runs only on its own images. With one kind of labels, only that head's pass is run.

    Args:
        network: the network.
        images: (B, 3, H, W).
        boxed: rows of the images with boxes, ascending.
        masked: rows of the images with masks, ascending.

    Returns:
        Predictions for the images with boxes and segmentation of the images with masks; None if there are none.
    """
    if not (boxed and masked) or isinstance(network, PerTaskNetwork):
        return JointOutputs(
            network(_pick(images, boxed), segment=False).predictions if boxed else None,
            network(_pick(images, masked), detect=False).segmentation if masked else None,
        )
    if boxed == masked:
        answers: JointOutputs = network(_pick(images, boxed))
        return answers
    used = sorted({*boxed, *masked})
    images = _pick(images, used)
    boxed, masked = ([used.index(row) for row in rows] for rows in (boxed, masked))
    normal = network.detector.normalise(images)
    canvas_hw = (normal.shape[-2], normal.shape[-1])
    maps = network.backbone(normal)
    coarse = network.backbone.without_dilation(maps, canvas_hw)[1:]
    reader = network.segmenter.backbone
    assert isinstance(reader, SharedMaps)
    dense, image_hw = [_pick(each, masked) for each in reader.pick(maps)], (images.shape[-2], images.shape[-1])
    return JointOutputs(
        network.detector.predictions_from([_pick(each, boxed) for each in coarse], canvas_hw),
        network.segmenter.outputs_from(dense, reader.grids(canvas_hw), image_hw),
    )


def no_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """0, whose gradient is 0 for every parameter, even if values are not finite."""
    return torch.stack([parameter.reshape(-1)[:0].sum().float() for parameter in parameters]).sum()


def _detection_sums(
    network: JointNetwork,
    outputs: JointOutputs,
    batch: JointBatch,
    boxed: list[int],
    config: DetectionLoss,
    skipped: Tensor,
) -> DetectionSums:
    if outputs.predictions is None:
        nothing = skipped.detach().float()
        return DetectionSums(nothing, nothing, nothing)
    class_logits, box_deltas, anchors = outputs.predictions
    boxes, class_ids = _pick(batch.boxes_xyxy, boxed), _pick(batch.class_ids, boxed)
    lattice = network.detector.lattice(size_hw(batch.images))
    return detection_losses(class_logits, box_deltas, anchors, boxes, class_ids, config, lattice)


def _segmentation_sums(
    network: JointNetwork,
    outputs: JointOutputs,
    batch: JointBatch,
    masked: list[int],
    config: SegmentationLoss,
    skipped: Tensor,
) -> SegmentationSums:
    if outputs.segmentation is None:
        nothing = skipped.detach().float()
        each = nothing.expand(len(network.segmenter.classes))
        aux = None if network.segmenter.aux_head is None else nothing
        return SegmentationSums(nothing, nothing, nothing, aux, each, each, nothing.expand(3 + 3 * len(each)))
    logits, aux_logits = outputs.segmentation
    return segmentation_losses(logits, _pick(batch.masks, masked), config, aux_logits)


def _pick(values: Tensor, rows: list[int]) -> Tensor:
    return values if len(rows) == len(values) else values[rows]
