"""What a set of masks shows of itself, for a recipe."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from engine.data.contracts import SplitName
from engine.errors import InputError
from engine.recipes.facts import SetFacts, median_size
from segmentation.checking.splits import PairedSource
from segmentation.data.classes import MaskClasses


@runtime_checkable
class NamedMasks(Protocol):
    """What a recipe asks of a data module with masks."""

    @property
    def classes(self) -> MaskClasses:
        """The class list."""
        ...

    def files(self, split: SplitName) -> PairedSource:
        """The images and masks of a split."""
        ...


def set_facts(data: object) -> SetFacts:
    """The facts of a data module's training set.

    Raises:
        InputError: it has none, or none of its images can be read.
    """
    if not isinstance(data, NamedMasks):
        msg = "these data have no masks that a recipe could look at. Leave --recipe out."
        raise InputError(msg)
    pairs = data.files("train").pairs
    size_hw = median_size(len(pairs), lambda index: pairs[index].image)
    return SetFacts(images=len(pairs), size_hw=size_hw, class_names=tuple(data.classes.names), masked=True)
