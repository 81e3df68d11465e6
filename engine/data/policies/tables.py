"""The published policies as data: which changes, how often, and how strong.

Sources: Zoph et al., "Learning Data Augmentation Strategies for Object Detection" (arXiv 1906.11172), Cubuk et al.,
"RandAugment" (arXiv 1909.13719), with the values of google/automl `aug/autoaugment.py` (Apache-2.0), where v0 is the
paper's and v1 to v3 are further ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Change = Literal[
    "translate_x", "translate_y", "shear_x", "shear_y", "rotate", "equalize", "solarize", "solarize_add", "posterize",
    "autocontrast", "color", "contrast", "brightness", "sharpness", "cutout", "box_cutout", "inner_translate_y",
    "inner_shear_x", "inner_shear_y", "inner_flip", "inner_equalize", "inner_cutout",
]  # fmt: skip
Policy: TypeAlias = Literal["none", "randaugment", "v0", "v1", "v2", "v3"]


class Step(NamedTuple):
    """One change of a policy.

    Attributes:
        change: what is done; those that begin with inner change the inside of single boxes, each of them a third as
            often as the probability says.
        probability: how often.
        level: how strongly, 0 to 10.
    """

    change: Change
    probability: float
    level: float


SubPolicy: TypeAlias = tuple[Step, ...]
_V0: tuple[SubPolicy, ...] = (
    (Step("translate_x", 0.6, 4), Step("equalize", 0.8, 10)),
    (Step("inner_translate_y", 0.2, 2), Step("cutout", 0.8, 8)),
    (Step("sharpness", 0.0, 8), Step("shear_x", 0.4, 0)),
    (Step("shear_y", 1.0, 2), Step("inner_translate_y", 0.6, 6)),
    (Step("rotate", 0.6, 10), Step("color", 1.0, 6)),
)
TABLES: dict[Policy, tuple[SubPolicy, ...]] = {
    "v0": _V0,
    "v1": (
        *_V0,
        (Step("color", 0.0, 0), Step("inner_shear_x", 0.8, 4)),
        (Step("inner_shear_y", 0.8, 2), Step("inner_flip", 0.0, 10)),
        (Step("equalize", 0.6, 10), Step("translate_x", 0.2, 2)),
        (Step("color", 1.0, 10), Step("inner_translate_y", 0.4, 6)),
        (Step("rotate", 0.8, 10), Step("contrast", 0.0, 10)),
        (Step("cutout", 0.2, 2), Step("brightness", 0.8, 10)),
        (Step("color", 1.0, 6), Step("equalize", 1.0, 2)),
        (Step("inner_cutout", 0.4, 6), Step("inner_translate_y", 0.8, 2)),
        (Step("color", 0.2, 8), Step("rotate", 0.8, 10)),
        (Step("sharpness", 0.4, 4), Step("inner_translate_y", 0.0, 4)),
        (Step("sharpness", 1.0, 4), Step("solarize_add", 0.4, 4)),
        (Step("rotate", 1.0, 8), Step("sharpness", 0.2, 8)),
        (Step("shear_y", 0.6, 10), Step("inner_equalize", 0.6, 8)),
        (Step("shear_x", 0.2, 6), Step("inner_translate_y", 0.2, 10)),
        (Step("solarize_add", 0.6, 8), Step("brightness", 0.8, 10)),
    ),
    "v2": (
        (Step("color", 0.0, 6), Step("cutout", 0.6, 8), Step("sharpness", 0.4, 8)),
        (Step("rotate", 0.4, 8), Step("sharpness", 0.4, 2), Step("rotate", 0.8, 10)),
        (Step("translate_y", 1.0, 8), Step("autocontrast", 0.8, 2)),
        (Step("autocontrast", 0.4, 6), Step("shear_x", 0.8, 8), Step("brightness", 0.0, 10)),
        (Step("solarize_add", 0.2, 6), Step("contrast", 0.0, 10), Step("autocontrast", 0.6, 0)),
        (Step("cutout", 0.2, 0), Step("solarize", 0.8, 8), Step("color", 1.0, 4)),
        (Step("translate_y", 0.0, 4), Step("equalize", 0.6, 8), Step("solarize", 0.0, 10)),
        (Step("translate_y", 0.2, 2), Step("shear_y", 0.8, 8), Step("rotate", 0.8, 8)),
        (Step("cutout", 0.8, 8), Step("brightness", 0.8, 8), Step("cutout", 0.2, 2)),
        (Step("color", 0.8, 4), Step("translate_y", 1.0, 6), Step("rotate", 0.6, 6)),
        (Step("rotate", 0.6, 10), Step("box_cutout", 1.0, 4), Step("cutout", 0.2, 8)),
        (Step("rotate", 0.0, 0), Step("equalize", 0.6, 6), Step("shear_y", 0.6, 8)),
        (Step("brightness", 0.8, 8), Step("autocontrast", 0.4, 2), Step("brightness", 0.2, 2)),
        (Step("translate_y", 0.4, 8), Step("solarize", 0.4, 6), Step("solarize_add", 0.2, 10)),
        (Step("contrast", 1.0, 10), Step("solarize_add", 0.2, 8), Step("equalize", 0.2, 4)),
    ),
    "v3": (
        (Step("posterize", 0.8, 2), Step("translate_x", 1.0, 8)),
        (Step("box_cutout", 0.2, 10), Step("sharpness", 1.0, 8)),
        (Step("rotate", 0.6, 8), Step("rotate", 0.8, 10)),
        (Step("equalize", 0.8, 10), Step("autocontrast", 0.2, 10)),
        (Step("solarize_add", 0.2, 2), Step("translate_y", 0.2, 8)),
        (Step("sharpness", 0.0, 2), Step("color", 0.4, 8)),
        (Step("equalize", 1.0, 8), Step("translate_y", 1.0, 8)),
        (Step("posterize", 0.6, 2), Step("rotate", 0.0, 10)),
        (Step("autocontrast", 0.6, 0), Step("rotate", 1.0, 6)),
        (Step("equalize", 0.0, 4), Step("cutout", 0.8, 10)),
        (Step("brightness", 1.0, 2), Step("translate_y", 1.0, 6)),
        (Step("contrast", 0.0, 2), Step("shear_y", 0.8, 0)),
        (Step("autocontrast", 0.8, 10), Step("contrast", 0.2, 10)),
        (Step("rotate", 1.0, 10), Step("cutout", 1.0, 10)),
        (Step("solarize_add", 0.8, 6), Step("equalize", 0.8, 8)),
    ),
}
# Of RandAugment, each always done at the level that is asked for.
RANDOM: tuple[Change, ...] = (
    "equalize", "solarize", "color", "cutout", "solarize_add", "translate_x", "translate_y", "shear_x", "shear_y",
    "rotate",
)  # fmt: skip
# Policies that move what is inside single boxes, which a mask could not follow.
WITHOUT_MASKS: tuple[Policy, ...] = ("v0", "v1")
