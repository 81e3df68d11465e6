"""What a set of boxes and masks shows of itself, for a recipe: its boxes, as its masks are of the same images."""

from __future__ import annotations

from dataclasses import replace

from detection.checking.facts import facts_of
from engine.errors import InputError
from engine.recipes.facts import SetFacts
from joint.checking.given import JointSets


def set_facts(data: object) -> SetFacts:
    """The facts of a data module's training images with boxes.

    Raises:
        InputError: it has none, or none of its images can be read.
    """
    if not isinstance(data, JointSets) or not data.has_boxes("train"):
        msg = "these data have no training boxes that a recipe could look at. Leave --recipe out."
        raise InputError(msg)
    return replace(facts_of(data.box_source("train")), masked=True)
