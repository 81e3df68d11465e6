"""A policy as one albumentations transform, with the amounts of its levels; importing it takes seconds.

Levels are turned into amounts as in google/automl `aug/autoaugment.py`, whose pixels are meant for canvases of about
640: they follow the canvas here.
"""

from __future__ import annotations

import math

import albumentations

from engine.data.policies.holes import RandomErasing, SquareHole
from engine.data.policies.pixels import InsideBoxes, PixelChange
from engine.data.policies.settings import LAYERS, LEVEL, BoxPolicy
from engine.data.policies.tables import RANDOM, TABLES, Change, Policy, Step

MOST = 10.0  # of a level
_USUAL = 640.0  # pixels
# Shares of the image's area, and width by height: Zhong et al., section 4.2 of arXiv 1708.04896.
_ERASED = (0.02, 0.4)
_RATIO = (0.3, 1 / 0.3)


def policy_transforms(
    choice: BoxPolicy, erasing: float, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int], ignored: int
) -> list[object]:
    """The transforms of a policy and of random erasing, in this order; an empty list where neither is asked for.

    Args:
        choice: the policy.
        erasing: the probability that a rectangle of an image is replaced by noise.
        canvas_hw: height and width of the canvas.
        fill_color: of what is beside the image and in the holes of policies.
        ignored: label of mask pixels that are beside the image and in holes.
    """
    layers = LAYERS if choice.layers is None else choice.layers
    level = LEVEL if choice.level is None else choice.level
    found = Builder(canvas_hw, fill_color, ignored).policy(choice.name, layers, level)
    if erasing:
        found.append(RandomErasing(scale=_ERASED, ratio=_RATIO, fill="random", fill_mask=ignored, p=erasing))
    return found


class Builder:
    """Makes transforms for one canvas.

    Args:
        canvas_hw: its height and width.
        fill_color: of what is beside the image and in holes.
        ignored: label of mask pixels there.
    """

    def __init__(self, canvas_hw: tuple[int, int], fill_color: tuple[int, int, int], ignored: int) -> None:
        self.scale = math.sqrt(canvas_hw[0] * canvas_hw[1]) / _USUAL
        self.fill = fill_color
        self.ignored = ignored

    def policy(self, policy: Policy, layers: int, level: float) -> list[object]:
        """The transforms of a policy; an empty list for "none".

        Args:
            policy: its word.
            layers: how many changes of RandAugment an image gets.
            level: how strong these are.
        """
        if policy == "none":
            return []
        if policy == "randaugment":
            return [self._one([self.step(Step(change, 1.0, level)) for change in RANDOM]) for _ in range(layers)]
        return [self._one([albumentations.Sequential(list(map(self.step, chain)), p=1.0) for chain in TABLES[policy]])]

    @staticmethod
    def _one(transforms: list[object]) -> object:
        return albumentations.OneOf(transforms, p=1.0)

    def step(self, step: Step) -> albumentations.BasicTransform:
        """One change of an image, with its boxes and its mask."""
        change, probability, level = step
        if change == "inner_cutout":
            return InsideBoxes(self._hole(50 * level / MOST, 1.0), probability)
        if change == "inner_translate_y":
            return InsideBoxes(self._either("translate_y", 120 * level / MOST * self.scale, 1.0), probability)
        if change == "inner_flip":
            return InsideBoxes(albumentations.HorizontalFlip(p=1.0), probability)
        if change == "inner_equalize":
            return InsideBoxes(PixelChange("equalize"), probability)
        if change == "inner_shear_x" or change == "inner_shear_y":
            return InsideBoxes(self._either(change.removeprefix("inner_"), 0.3 * level / MOST, 1.0), probability)
        if change == "cutout":
            return self._hole(100 * level / MOST, probability)
        if change == "box_cutout":
            share = 0.75 * level / MOST / 2
            return SquareHole(share=share, fill=self.fill, fill_mask=self.ignored, p=probability)
        if change in ("translate_x", "translate_y"):
            return self._either(change, 250 * level / MOST * self.scale, probability)
        if change in ("shear_x", "shear_y"):
            return self._either(change, 0.3 * level / MOST, probability)
        if change == "rotate":
            return self._either(change, 30 * level / MOST, probability)
        return PixelChange(change, _amount(change, level), p=probability)

    def _hole(self, half: float, probability: float) -> SquareHole:
        return SquareHole(round(half * self.scale), fill=self.fill, fill_mask=self.ignored, p=probability)

    def _either(self, change: str, amount: float, probability: float) -> albumentations.OneOf:
        """A movement one way or the other, by chance."""
        both = [self._moved(change, signed) for signed in (amount, -amount)]
        return albumentations.OneOf(both, p=probability)

    def _moved(self, change: str, amount: float) -> albumentations.Affine:
        still: dict[str, object] = {"scale": 1.0, "rotate": 0.0, "shear": 0.0}
        axis = change[-1]
        if change.startswith("translate"):
            pixels = round(amount)
            still["translate_px"] = {"x": 0, "y": 0, axis: (pixels, pixels)}
        elif change.startswith("shear"):
            angle = math.degrees(math.atan(amount))
            still["shear"] = {"x": 0.0, "y": 0.0, axis: (angle, angle)}
        else:
            still["rotate"] = (amount, amount)
        return albumentations.Affine(**still, fill=self.fill, fill_mask=self.ignored, p=1.0)


def _amount(change: Change, level: float) -> float:
    """The number of `engine.data.policies.pixels.change_pixels` for a level."""
    share = level / MOST
    if change == "solarize":
        return 256 * share
    if change == "solarize_add":
        return int(110 * share)
    if change == "posterize":
        return max(1, int(4 * share))  # the source's 0 bits of level 2 would leave nothing
    return 0.1 + 1.8 * share
