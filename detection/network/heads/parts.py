"""What the heads take of torchvision alike: images without pixels, anchors, targets, and copies with thresholds."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detection.network.family import DetectorArchitecture
from detection.network.heads.choice import Head
from detection.network.heads.contract import Objects, Placed, Truth
from detection.network.postprocess import Postprocess
from engine.errors import InputError

Model = TypeVar("Model", bound=nn.Module)


class NoBackbone(nn.Module):
    """Stands where torchvision's detectors have their backbone: only its number of channels is looked at."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels


def anchor_generator(config: DetectorArchitecture) -> AnchorGenerator:
    """Torchvision's anchors of all levels, from the scale, the octaves and the ratios of an architecture.

    Sizes are those of EfficientDet's anchors; torchvision rounds their corners to whole pixels.
    """
    octaves = [2 ** (octave / config.anchor_octaves) for octave in range(config.anchor_octaves)]
    sizes = tuple(tuple(config.anchor_scale * 2**level * each for each in octaves) for level in config.levels)
    ratios = tuple(high / wide for wide, high in config.anchor_ratios)
    return AnchorGenerator(sizes, (ratios,) * len(sizes))


def image_list(placed: Placed) -> ImageList:
    """The canvases as torchvision takes them, with one value where their pixels would be."""
    tensors = torch.zeros((), device=placed.device).expand(len(placed.sizes_hw), 3, *placed.canvas_hw)
    return ImageList(tensors, placed.sizes_hw)


def exact_maps(maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps of the same sizes without values, from which anchors are made: in float32, as half precision moves them."""
    return [torch.zeros((), device=one.device).expand(1, 1, *one.shape[-2:]) for one in maps]


def targets(truth: Sequence[Truth], first_class: int) -> list[dict[str, Tensor]]:
    """The objects in torchvision's words.

    Args:
        truth: of each image.
        first_class: the label of row 0: 0, or 1 where 0 is the background.
    """
    return [
        {"boxes": one.boxes_xyxy, "labels": one.class_ids + first_class}
        | ({} if one.masks is None else {"masks": one.masks})
        for one in truth
    ]


def objects(found: Sequence[Mapping[str, Tensor]], first_class: int) -> list[Objects]:
    """Torchvision's detections as ours; the arguments are as those of `targets`."""
    return [
        Objects(
            one["boxes"],
            one["scores"],
            one["labels"] - first_class,
            one["masks"].squeeze(1) if "masks" in one else None,
        )
        for one in found
    ]


def refuse_postprocess(head: Head, config: Postprocess) -> None:
    """Do nothing if all settings of the suppression mean something to a head.

    Raises:
        InputError: one has no meaning.
    """
    if head == "efficientdet":
        return
    candidates = head in ("retinanet", "fcos")
    usual = Postprocess()
    unused = ("nms", "soft_sigma", "class_agnostic", *(() if candidates else ("max_candidates",)))
    for field in fields(config):
        value, own = getattr(config, field.name), getattr(usual, field.name)
        if field.name in unused and value != own:
            msg = (
                f"postprocess.{field.name} is {value}, but {head} has torchvision's own suppression, which does not "
                f"know it. Leave it at {own}."
            )
            raise InputError(msg)


def with_thresholds(model: Model, **values: float) -> Model:
    """A copy of a module that shares its layers, with other thresholds; the module itself stays as it is.

    Other threads may be computing with the module.
    """
    copied = copy.copy(model)
    for name, value in values.items():
        setattr(copied, name, value)
    return copied
