"""Random changes of an image and its boxes: the recipe, and the one seam to albumentations.

albumentations 2.0.8 is no longer maintained. Its known faults (equal random numbers in every worker, labels that
pass through float32, boxes that raise errors, masks that change type or are padded with a real class) are worked
around here, and nothing else in the project calls it.
"""

from __future__ import annotations

import importlib
import os
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from engine.checked import Checked
from engine.data.crop import IGNORED as IGNORED
from engine.data.crop import LEAST_SIDE, CropAugmenter, checked_labels, large_enough, sample_seed, whole_boxes
from engine.data.crop import Augmented as Augmented
from engine.data.policies.settings import BoxPolicy
from engine.errors import InputError, did_you_mean
from engine.numbers import ClosedUnitInterval, PositiveFloat, ZeroToHalf
from engine.reading.images import FloatArray, Letterbox, UInt8Array, clip_boxes, pad_to_canvas, resize_labels
from engine.threads import opencv_on_one_thread


class ImageAugmenter(Protocol):
    """The call that a data set makes; anything with this signature can replace albumentations."""

    def __call__(self, image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
        """Change an (H, W, 3) uint8 RGB image and (N, 4) boxes in its pixels, with torch's random generator."""


@dataclass(frozen=True)
class Transform:
    """A further transform, by its name.

    Attributes:
        name: a class of albumentations ("GaussianBlur"), or "module.Class" of your own.
        args: arguments of its constructor.
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mixing:
    """How often samples are mixed, and which boxes are left of them.

    Attributes:
        mosaic: probability that a sample is made of four.
        copy_paste: probability that objects of another sample are pasted into it.
        mixup: probability that it is blended with another.
        closing: share of the training at its end without any of these.
        min_side: boxes with a shorter side, in pixels, are dropped.
        min_visible: boxes of which less is seen are dropped.
    """

    mosaic: float = 0.0
    copy_paste: float = 0.0
    mixup: float = 0.0
    closing: float = 0.0
    min_side: float = 1.0
    min_visible: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether anything is mixed at all."""
        return max(self.mosaic, self.copy_paste, self.mixup) > 0


@dataclass(frozen=True)
class Augmentation(Checked):
    """The random changes of a training image with boxes; each task has its own defaults.

    Attributes:
        hflip: probability of a horizontal flip.
        scale_min: smallest multiple of the letter-box size.
        scale_max: largest multiple; a picture larger than the canvas is cropped at random.
        color: brightness, contrast and saturation are each multiplied by up to 1 +- this.
        hue: largest turn of the hue, as a fraction of the colour circle.
        min_side: boxes with a shorter side, in canvas pixels, are dropped.
        min_visible: boxes of which the crop shows a smaller part are dropped; 0 keeps even the smallest part.
        extra: further transforms, applied to the crop in this order.
        policy: a published policy of random changes, after all of these.
        erasing: probability that noise replaces a rectangle of the crop, after the policy.
        mosaic: probability that an image is made of parts of four.
        copy_paste: probability that objects of another image are pasted into it.
        mixup: probability that it is blended with another.
        closing: share of the training at its end without mosaic, pasted objects and blends.
    """

    hflip: ClosedUnitInterval = 0.0
    scale_min: PositiveFloat = 1.0
    scale_max: PositiveFloat = 1.0
    color: ClosedUnitInterval = 0.0
    hue: ZeroToHalf = 0.0
    min_side: float = 1.0
    min_visible: ClosedUnitInterval = 0.0
    extra: tuple[Transform, ...] = ()
    policy: BoxPolicy = BoxPolicy()
    erasing: ClosedUnitInterval = 0.0
    mosaic: ClosedUnitInterval = 0.0
    copy_paste: ClosedUnitInterval = 0.0
    mixup: ClosedUnitInterval = 0.0
    closing: ClosedUnitInterval = 0.1
    group: ClassVar[str] = "augmentation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scale_min, self.scale_max)

    @property
    def mixing(self) -> Mixing:
        """How samples are mixed."""
        return Mixing(self.mosaic, self.copy_paste, self.mixup, self.closing, self.min_side, self.min_visible)

    @property
    def only_crops(self) -> bool:
        """Whether images are scaled, cropped and mirrored, and nothing else."""
        return not (self.color or self.hue or self.extra or self.erasing or self.policy.name != "none")

    def build(self, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int]) -> ImageAugmenter:
        """The changes for one canvas: by albumentations, if more is asked than to scale, to crop and to mirror.

        Raises:
            InputError: a name in `extra` is unknown, or its arguments do not fit.
        """
        if self.only_crops:
            return self.cropping(canvas_hw, fill_color)
        library = albumentations_library()
        from engine.data.scale_jitter import ScaleJitter

        transforms: list[object] = [ScaleJitter(canvas_hw, self.scale_min, self.scale_max)]
        if self.hflip:
            transforms.append(library.HorizontalFlip(p=self.hflip))
        if self.color or self.hue:
            around_one = (1.0 - self.color, 1.0 + self.color)
            jitter = library.ColorJitter(around_one, around_one, around_one, (-self.hue, self.hue), p=1.0)
            transforms.append(jitter)
        transforms.extend(build_transform(entry) for entry in self.extra)
        transforms.extend(policy_changes(self.policy, self.erasing, canvas_hw, fill_color))
        return Augmenter(transforms, canvas_hw, fill_color, min_side=self.min_side, min_visible=self.min_visible)

    def cropping(
        self, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int], vflip: float = 0.0
    ) -> CropAugmenter:
        """The changes where `only_crops` holds."""
        scales, least = (self.scale_min, self.scale_max), (self.min_side, self.min_visible)
        return CropAugmenter(canvas_hw, fill_color, scales, (self.hflip, vflip), *least)


def check_scales(least: float, largest: float) -> None:
    """Do nothing if two scales make a range.

    Raises:
        InputError: the smallest scale is above the largest.
    """
    if least > largest:
        msg = f"augmentation scales are {least} to {largest}; allowed is 0 < scale_min <= scale_max."
        raise InputError(msg)


def policy_changes(
    policy: BoxPolicy, erasing: float, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int]
) -> list[object]:
    """The transforms of a policy and of random erasing; an empty list where neither is asked for.

    Args:
        policy: which one.
        erasing: the probability that noise replaces a rectangle.
        canvas_hw: height and width of the canvas.
        fill_color: colour beside the image and in the holes of policies, where masks are `IGNORED`.
    """
    if policy.name == "none" and not erasing:
        return []
    albumentations_library()
    from engine.data.policies.build import policy_transforms

    return policy_transforms(policy, erasing, canvas_hw, fill_color, IGNORED)


def albumentations_library() -> Any:
    """The albumentations module, imported when it is first needed; that takes seconds."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # on import it would ask a server for newer versions
    opencv_on_one_thread()
    return importlib.import_module("albumentations")


def _is_transform(thing: object) -> bool:
    """Whether it is a class of transforms: no other class of a config is made, whatever it would do."""
    library = albumentations_library()
    return isinstance(thing, type) and issubclass(thing, library.BasicTransform | library.BaseCompose)


def build_transform(entry: Transform) -> object:
    """The transform that an entry names.

    Raises:
        InputError: the name is unknown, or its arguments do not fit.
    """
    module, _, name = entry.name.rpartition(".")
    try:
        library = importlib.import_module(module) if module else albumentations_library()
    except ImportError:
        library = None
    if not _is_transform(getattr(library, name, None)):
        known = [] if module else [entry for entry in dir(library) if entry[0].isupper()]
        hint = did_you_mean(name, known)
        msg = (
            f"there is no transform '{entry.name}'.{hint} Give a class of albumentations 2.0.8, or 'module.Class' of "
            "one that is derived from its BasicTransform."
        )
        raise InputError(msg)
    try:
        # Without `strict` albumentations only warns about an argument it does not know, and goes on without it.
        return getattr(library, name)(**entry.args, **({} if module else {"strict": True}))
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split("For further information")[0].split())
        msg = f"transform '{entry.name}' does not take {entry.args}: {reason}"
        raise InputError(msg) from error


class Augmenter:
    """Runs albumentations transforms on an image, its boxes and, if there is one, its label mask.

    The result is laid on the canvas: padded at the right and below where it fits, letter-boxed where it is larger.
    """

    def __init__(
        self,
        transforms: Sequence[object],
        canvas_hw: tuple[int, int],
        fill_color: tuple[int, int, int],
        *,
        min_side: float = 1.0,
        min_visible: float = 0.0,
    ) -> None:
        library = albumentations_library()
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color
        self.min_side = min_side
        boxes = library.BboxParams(
            format="pascal_voc",
            min_width=LEAST_SIDE,
            min_height=LEAST_SIDE,
            min_visibility=min_visible,
            clip=True,
            filter_invalid_bboxes=True,
        )
        _fill_masks(transforms)
        with warnings.catch_warnings():
            # Colour alone moves no box; albumentations takes that for a mistake.
            warnings.filterwarnings("ignore", message="Got processor for bboxes")
            self._compose = library.Compose(list(transforms), bbox_params=boxes)

    def __call__(self, image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
        """Change one sample. The same state of torch's generator gives the same change.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4) pixels of the image. Boxes are clipped to the image; a box without area is dropped.
            mask: (H, W) uint8 labels.
        """
        boxes, kept = whole_boxes(boxes_xyxy, (image.shape[0], image.shape[1]))
        # albumentations carries further columns through float32, which is exact for row numbers below 2**24.
        given = {"image": image, "bboxes": np.column_stack([boxes, np.arange(len(kept), dtype=np.float32)])}
        if mask is not None:
            given["mask"] = checked_labels(mask)
        self._compose.set_random_state(*_generators())
        changed = self._compose(**given)
        # If no box is left, albumentations returns four columns instead of five.
        rows = changed["bboxes"].reshape(-1, 5) if changed["bboxes"].size else np.empty((0, 5), np.float32)
        kept = kept[rows[:, 4].astype(np.int64)]
        result = Augmented(changed["image"], rows[:, :4].astype(np.float32), kept, changed.get("mask"))
        return onto_canvas(result, self.canvas_hw, self.fill_color, self.min_side)


class TorchvisionAugmenter:
    """Runs a torchvision v2 transform in the same place, for users who prefer not to use albumentations.

    The transform is called as `transform(tv_image, {"boxes": tv_boxes, "kept": indices})` and must drop `kept`
    together with boxes, as `SanitizeBoundingBoxes(labels_getter=lambda sample: sample[1]["kept"])` does.
    """

    def __init__(
        self,
        transform: Callable[..., Any],
        canvas_hw: tuple[int, int],
        fill_color: tuple[int, int, int],
        *,
        min_side: float = 1.0,
    ) -> None:
        self.transform = transform
        self.canvas_hw = canvas_hw
        self.fill_color = fill_color
        self.min_side = min_side

    def __call__(self, image: UInt8Array, boxes_xyxy: FloatArray, mask: UInt8Array | None = None) -> Augmented:
        """Change one sample; see `Augmenter`."""
        import torch

        tv_tensors = importlib.import_module("torchvision.tv_tensors")
        boxes, kept = whole_boxes(boxes_xyxy, (image.shape[0], image.shape[1]))
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=image.shape[:2]),
            "kept": torch.from_numpy(kept),
        }
        if mask is not None:
            target["mask"] = tv_tensors.Mask(torch.from_numpy(checked_labels(mask)))
        picture, target = self.transform(tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), target)
        result = Augmented(
            np.ascontiguousarray(picture.permute(1, 2, 0).numpy()),
            target["boxes"].numpy().astype(np.float32),
            target["kept"].numpy(),
            target["mask"].numpy() if mask is not None else None,
        )
        return onto_canvas(result, self.canvas_hw, self.fill_color, self.min_side)


def onto_canvas(
    sample: Augmented, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int], min_side: float
) -> Augmented:
    """Bring a changed sample to the canvas, clip its boxes to the picture and drop those shorter than `min_side`."""
    image, boxes, kept, mask = sample
    if image.shape[0] > canvas_hw[0] or image.shape[1] > canvas_hw[1]:
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), canvas_hw)
        mask = None if mask is None else resize_labels(mask, letterbox.scaled_hw)
        image, boxes = letterbox.apply(image, fill_color), letterbox.to_canvas(boxes)
    else:
        boxes = clip_boxes(boxes, (image.shape[0], image.shape[1]))
        image = pad_to_canvas(image, canvas_hw, fill_color)
    if mask is not None:
        mask = pad_to_canvas(mask, canvas_hw, IGNORED)
    large = large_enough(boxes, min_side)
    return Augmented(image, boxes[large], kept[large], mask)


def _generators() -> tuple[np.random.Generator, random.Random]:
    seed = sample_seed()
    return np.random.default_rng(seed), random.Random(seed)


def _fill_masks(transforms: Sequence[Any]) -> None:
    for transform in transforms:
        # 0 is the library's default and a real class; None means that the mask is not touched.
        if getattr(transform, "fill_mask", None) == 0:
            transform.fill_mask = IGNORED
        _fill_masks(getattr(transform, "transforms", ()))
