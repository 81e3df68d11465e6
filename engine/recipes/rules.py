"""The rules from a set's facts to settings. Their words for settings are those of no task; tasks have their names.

Sources of the constants: nnU-Net and ultralytics fix the number of steps rather than epochs; a moving average with a
half-life of a tenth of the run has a decay of 1 - 7 / steps; running statistics need some dozens of steps; an anchor
reaches an IoU of 0.5 with squares from about 0.7 of its side on. The rest are trials on small sets; none of them
is a law.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from engine.recipes.facts import SetFacts

RecipeWord = Literal["small", "medium", "large", "coco", "auto"]
GivenRecipe: TypeAlias = RecipeWord | None
Scale = Literal["small", "medium", "large", "coco"]
_LARGEST: tuple[tuple[Scale, int], ...] = (("small", 1_000), ("medium", 10_000), ("large", 60_000))
# Least and most steps on a processor without and with an accelerator.
_STEPS: dict[tuple[Scale, bool], tuple[int, int]] = {
    ("small", False): (500, 2_000), ("small", True): (1_500, 6_000),
    ("medium", False): (1_500, 6_000), ("medium", True): (5_000, 20_000),
    ("large", False): (5_000, 20_000), ("large", True): (20_000, 90_000),
    ("coco", False): (20_000, 90_000), ("coco", True): (90_000, 300_000),
}  # fmt: skip
_PASSES = 100  # each image is seen so often, within these bounds
_FEW_PASSES = 30
_SEEN = 24.0  # canvas pixels of the square root of a box's area, from which the published anchors reach it
_FINEST = 8  # stride of the finest level
_CELL = 64  # canvases are multiples of it
_LONG = 10_000  # steps from which on the published recipe is taken
# Of AdamW for a detector from ImageNet weights, batches of 4. After 255 steps on blood cells AP is 0.16 with 2.1e-3,
# 0.32 with 5e-3, 0.40 with 1.2e-2, 0.42 with 2e-2 and 0.43 with 4e-2, after 765 steps 0.46 with 5e-3, 0.50 with 1.2e-2
# and 0.51 with 2e-2; the nuclei say the same (benchmarks/RESULTS.md).
_BOX_RATE = 2e-2
# Of a trained detector. One of blood cells has on the nuclei after 214 steps AP 0.21 with 3.5e-4, 0.30 with 2e-3, 0.32
# with this 4e-3 and 0.33 with 8e-3; one of a larger set, whose weights serve more, was not tried.
_OF_TRAINED = 0.2


class Choice(NamedTuple):
    """A setting that was chosen.

    Attributes:
        name: a word for it that no task has; `engine.tasks.TaskSpec.recipe_options` has a task's name.
        value: plain.
        why: the reason, as part of a line.
    """

    name: str
    value: object
    why: str


@dataclass(frozen=True)
class Machine:
    """What the training runs on, and from what.

    Attributes:
        accelerated: whether there is a GPU or the like.
        pretrained: whether the whole network has been trained before, and not only its backbone.
        batch: images of a step, where the user says so.
        epochs: the same of the training's length.
        other_head: whether a detector has another head than the family's own, whose layers have other norms.
    """

    accelerated: bool
    pretrained: bool = False
    batch: int | None = None
    epochs: int | None = None
    other_head: bool = False


def scale_of(word: RecipeWord, images: int) -> Scale:
    """The recipe that is meant: itself, or that of the number of images.

    >>> scale_of("auto", 205), scale_of("auto", 118_287), scale_of("large", 5)
    ('small', 'coco', 'large')
    """
    if word != "auto":
        return word
    return next((name for name, most in _LARGEST if images < most), "coco")


def choose(word: RecipeWord, facts: SetFacts, machine: Machine) -> list[Choice]:
    """The settings for a set.

    Args:
        word: the recipe; "auto" takes that of the number of images.
        facts: the set.
        machine: what it runs on.
    """
    scale = scale_of(word, facts.images)
    batch = machine.batch or _batch(facts.images, machine)
    least, most = _STEPS[scale, machine.accelerated]
    an_epoch = max(1, facts.images // batch)
    epochs = machine.epochs or max(1, math.ceil(min(max(_PASSES * an_epoch, least), most) / an_epoch))
    steps, passes = epochs * an_epoch, epochs
    where = "an accelerator" if machine.accelerated else "a processor"
    long = steps >= _LONG
    chosen = [
        Choice("batch", batch, f"on {where}" + (", of so few images" if batch < _full_batch(machine) else "")),
        Choice("epochs", epochs, f"{steps:,} steps, for a {scale} set on {where} between {least:,} and {most:,}"),
        Choice("evaluate_every", max(1, epochs // 10), "about ten evaluations"),
        Choice("clip", 10.0, "as in the published recipes"),
        *_optimizer(steps, batch, machine, facts.masked),
        Choice("warmup_steps", min(500, max(1, steps // 10)), "a tenth of the steps, at most 500"),
        Choice("average", max(0.5, round(1 - 7 / steps, 5)), "the average's half-life is a tenth of the run"),
        Choice("norm_momentum", _momentum(steps), f"statistics that follow within {steps:,} steps"),
        *_freezing(facts.images, machine),
        *_size(facts, machine),
        *_augmentation(facts, passes, scale),
    ]
    if not long and facts.box_sides is not None:
        chosen += [
            Choice("assigner", "atss", "small objects get as many anchors as large ones"),
            Choice("box_loss", "ciou", "on blood cells the two gained .05 AP within 600 steps"),
        ]
    if not long:
        chosen.append(Choice("drop_path", 0.0, "no stochastic depth in a short training"))
    return chosen


def _full_batch(machine: Machine) -> int:
    return 16 if machine.accelerated else 4


def _batch(images: int, machine: Machine) -> int:
    """At most a quarter of the images, and two at least, without which norms have no statistics."""
    return max(min(_full_batch(machine), images // 4), min(2, images))


def _optimizer(steps: int, batch: int, machine: Machine, masked: bool) -> list[Choice]:
    if steps >= _LONG and not machine.pretrained:
        return [
            Choice("optimizer", "sgd", "the published recipe, for 10,000 steps or more"),
            Choice("lr", 0.08, "for 64 images, in proportion to the batch"),
            Choice("lr_batch", 64, "what the rate is meant for"),
            Choice("weight_decay", 4e-5, "as published"),
        ]
    if masked or machine.other_head or steps >= _LONG:
        rate, why = (5e-4 if machine.pretrained else 3e-3) * math.sqrt(batch / 8), "with the batch's root"
    else:
        rate, why = _BOX_RATE * min(1, math.sqrt(batch / 4)), "a new pyramid has a long way to go in few steps"
        if machine.pretrained:
            rate *= _OF_TRAINED
    if machine.pretrained:
        why = "of a trained network"
    return [
        Choice("optimizer", "adamw", "it gets far within a few hundred steps"),
        Choice("lr", float(f"{rate:.2g}"), why),
        Choice("lr_batch", 0, "the rate as it is"),
        Choice("weight_decay", 0.01, "as usual with adamw"),
        Choice("backbone_lr", 1.0, "the full rate in the backbone: on a street set a fifth of it cost .03 in mean IoU"),
    ]


def _momentum(steps: int) -> float:
    return float(f"{min(0.1, max(0.01, 50 / steps)):.2g}")


def _freezing(images: int, machine: Machine) -> list[Choice]:
    if images >= 1_000 or (machine.accelerated and images >= 100):
        return [Choice("frozen_stages", 0, "enough images to train all of the backbone")]
    stages = 3 if images < 50 else 2
    return [Choice("frozen_stages", stages, f"the first layers keep what they know: {images} images teach little more")]


def _size(facts: SetFacts, machine: Machine) -> list[Choice]:
    """The canvas on which the 10th percentile of the boxes reaches an anchor, and smaller anchors where none does."""
    height, width = facts.size_hw
    longer = max(height, width)
    usual, largest = (512, 1024) if machine.accelerated else (384, 512)
    most = min(largest, max(256, math.ceil(1.5 * longer / _CELL) * _CELL))
    wanted, why = float(min(longer, most)), "the images' own size"
    small = None
    if facts.box_sides is not None and len(facts.box_sides):
        small = float(np.percentile(facts.box_sides, 10))
        wanted = min(max(_SEEN / max(small, 1e-6), float(usual)), float(most))
        why = f"the smaller boxes' sides then are {small * wanted:.0f} pixels"
    side = min(most, max(_CELL, math.ceil(wanted / _CELL) * _CELL))
    hw = [max(_CELL, round(side * edge / longer / _CELL) * _CELL) for edge in (height, width)]
    if wanted >= most:
        why += f", on the largest canvas for {'an accelerator' if machine.accelerated else 'a processor'} or the images"
    chosen = [Choice("canvas", hw, why)]
    if small is not None and not machine.pretrained:
        reach = small * max(hw) / (_SEEN / 4)  # the anchor scale at which those boxes reach an anchor
        scale = 4.0 if reach >= 4 else 3.0 if reach >= 3 else 2.0
        chosen.append(Choice("anchor_scale", scale, f"the smallest square anchor has {scale * _FINEST:.0f} pixels"))
    return chosen


def _augmentation(facts: SetFacts, passes: int, scale: Scale) -> list[Choice]:
    sided = [name for name in facts.class_names if re.search(r"(?<![a-z])(left|right)(?![a-z])", name.lower())]
    flips = (
        Choice("hflip", 0.0, f"the class '{sided[0]}' has a side")
        if sided
        else Choice("hflip", 0.5, "no class has a side")
    )
    if scale == "coco":
        return [flips, Choice("scale_min", 0.1, "as published"), Choice("scale_max", 2.0, "as published")]
    if passes < _FEW_PASSES:
        why = f"each image is seen {passes} times: flips suffice"
        return [flips, Choice("scale_min", 1.0, why), Choice("scale_max", 1.0, why), Choice("color", 0.0, why)]
    why = f"each image is seen {passes} times"
    return [flips, Choice("scale_min", 0.6, why), Choice("scale_max", 1.6, why), Choice("color", 0.2, why)]
