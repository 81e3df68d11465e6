"""Training crops with their masks, as the network sees them."""

from __future__ import annotations

from engine.reports.batches import MOST
from engine.reports.contents import ImageCard, Overlay
from engine.reports.encoding import encode_image, encode_overlay
from segmentation.data.batch import SegmentationBatch
from segmentation.data.classes import MaskClasses
from segmentation.scores.confusion import UInt8Array

_SIDE = 512  # pixels of the longer side of a picture
TRUE_CLASSES = "true classes"


def batch_cards(batch: SegmentationBatch, classes: MaskClasses, most: int = MOST) -> list[ImageCard]:
    """The first crops of a training batch under their classes.

    Args:
        batch: augmented crops.
        classes: their class list.
        most: crops at most.
    """
    images = batch.images[:most].permute(0, 2, 3, 1).cpu().numpy()
    masks = batch.class_ids[:most].cpu().numpy()
    return [
        ImageCard(
            f"{number}", image.shape[1], image.shape[0], encode_image(image, _SIDE),
            overlays=(mask_overlay(rows, classes),),
        )
        for number, (image, rows) in enumerate(zip(images, masks, strict=True))
    ]  # fmt: skip


def mask_overlay(rows: UInt8Array, classes: MaskClasses) -> Overlay:
    """(H, W) rows of the class list in the colours of the classes; pixels that are not counted stay as they are."""
    return Overlay(TRUE_CLASSES, encode_overlay(rows, classes.color_by_class[: len(classes)], long_side=_SIDE))
