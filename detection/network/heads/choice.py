"""The heads by their words: the sizes that each takes of a member, and which settings mean something to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Literal, TypeAlias

from detection.network.loss_settings import DetectionLoss
from engine.errors import InputError

Head: TypeAlias = Literal["efficientdet", "retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"]

GROUP = 32  # the groups of torchvision's group norms, of which the channels are a multiple
_GROUPED = ("retinanet", "fcos")  # a norm over one channel of a map of one cell would have nothing to divide by
_WIDEST = 256  # channels of torchvision's own detectors
_LEVELS = (5, 6, 7)  # the coarsest levels that torchvision's feature pyramid can have
# Settings of the architecture that say nothing to a head.
_ANCHORS = ("anchor_scale", "anchor_octaves", "anchor_ratios")
_UNUSED: Mapping[str, tuple[str, ...]] = {
    "efficientdet": (),
    "retinanet": ("head_repeats", "pads_canvas", "min_level"),
    "fcos": (*_ANCHORS, "pads_canvas", "min_level"),
    "ssd": (*_ANCHORS, "head_repeats", "pads_canvas", "min_level"),
    "faster_rcnn": ("head_repeats", "pads_canvas", "min_level"),
    "mask_rcnn": ("head_repeats", "pads_canvas", "min_level"),
}
# Those of the BiFPN, which a plain pyramid has not.
_OF_BIFPN = ("fpn_cells", "fusion", "activation", "padding", "norm_eps", "resampling")


def sizes(head: Head, fpn_channels: int) -> dict[str, object]:
    """What a member takes for a head in place of its own values.

    The channels follow the member's, which grow with φ (1.35^φ, equation 1 of EfficientDet): up to a multiple of 32,
    the groups of torchvision's norms, from 64 to 256, which torchvision's own detectors have. The anchors of RetinaNet
    are those that EfficientDet took over; R-CNN has one size for each level and three shapes (arXiv 1612.03144,
    section 4.1), from the member's own smallest on.

    Args:
        head: the word.
        fpn_channels: the member's own.
    """
    channels = min(_WIDEST, max(2, -(-fpn_channels // GROUP)) * GROUP)
    own: dict[str, object] = {"pyramid": "fpn", "fpn_channels": channels, "max_level": 7}
    return own | ({"anchor_octaves": 1} if head in ("faster_rcnn", "mask_rcnn") else {})


def check_architecture(head: Head, pyramid: str, channels: int, max_level: int) -> None:
    """Do nothing if a head can stand on a pyramid.

    Raises:
        InputError: EfficientDet's is asked to stand on a plain one, or another on one that torchvision does not build.
    """
    if head == "efficientdet":
        if pyramid == "fpn":
            msg = (
                "architecture.pyramid is fpn, which is for the other heads. Take bifpn or quad, or another model.head."
            )
            raise InputError(msg)
        return
    if head in _GROUPED and (channels % GROUP or channels == GROUP):
        msg = (
            f"architecture.fpn_channels is {channels}; with head {head} allowed are multiples of {GROUP}, the "
            f"groups of its norms, from {2 * GROUP} on. Give one of them, or leave it out."
        )
        raise InputError(msg)
    if pyramid == "fpn" and max_level not in _LEVELS:
        msg = f"architecture.max_level is {max_level}; with pyramid fpn allowed are 5, 6 and 7. Leave it out."
        raise InputError(msg)


def refuse_unused(head: Head, pyramid: str, changed: Collection[str]) -> None:
    """Do nothing if settings of the architecture mean something to a head and its pyramid.

    Args:
        head: the head.
        pyramid: the pyramid below it.
        changed: names of the settings that are to differ from the member's own.

    Raises:
        InputError: one has no meaning.
    """
    if head == "efficientdet":
        return
    for name in (*_UNUSED[head], *(_OF_BIFPN if pyramid == "fpn" else ())):
        if name in changed:
            where = f"head {head}" + ("" if name in _UNUSED[head] else " on pyramid fpn")
            remedy = "Leave it out" + ("." if name in _UNUSED[head] else ", or set architecture.pyramid to bifpn.")
            msg = f"architecture.{name} means nothing to {where}. {remedy}"
            raise InputError(msg)


def refuse_loss(head: Head, loss: DetectionLoss) -> None:
    """Do nothing if the settings of the loss are those of the head.

    Raises:
        InputError: they are EfficientDet's, and the head has its own loss.
    """
    if head == "efficientdet" or loss == DetectionLoss():
        return
    usual = DetectionLoss()
    given = next(field.name for field in fields(loss) if getattr(loss, field.name) != getattr(usual, field.name))
    msg = (
        f"model.loss.{given} is for head efficientdet; {head} has the loss of its paper, as torchvision computes it. "
        "Leave model.loss out."
    )
    raise InputError(msg)
