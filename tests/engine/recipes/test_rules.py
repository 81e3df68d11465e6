"""What a recipe chooses for sets of very different kind, and that what the user gives stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.recipes.facts import SetFacts
from engine.recipes.rules import Machine, choose, scale_of


def facts(images=205, size_hw=(480, 640), names=("a", "b"), side=0.15):
    return SetFacts(images, size_hw, names, np.full(1000, side), 100)


def chosen(given, *, word="auto", **machine):
    return {choice.name: choice.value for choice in choose(word, given, Machine(**{"accelerated": False, **machine}))}


@pytest.mark.parametrize(("images", "scale"), [(20, "small"), (999, "small"), (1000, "medium"), (59_999, "large")])
def test_auto_follows_the_number_of_images(images, scale):
    assert scale_of("auto", images) == scale
    assert chosen(facts(images)) == chosen(facts(images), word=scale)


def test_steps_and_what_follows_them():
    found = chosen(facts(205))
    # 51 steps of 4 images an epoch; 100 epochs would be more than the 2,000 steps of a small set on a processor.
    assert (found["batch"], found["epochs"]) == (4, 40)
    steps = 40 * 51
    assert found["average"] == pytest.approx(1 - 7 / steps, abs=1e-5)
    assert found["warmup_steps"] == steps // 10
    assert found["norm_momentum"] == pytest.approx(50 / steps, rel=0.03)
    of_user = chosen(facts(205), batch=10, epochs=5)
    assert of_user["average"] == pytest.approx(1 - 7 / 100)


def test_a_step_needs_images():
    assert chosen(facts(20))["batch"] == 4
    assert chosen(facts(5))["batch"] == 2
    assert chosen(facts(1))["batch"] == 1
    assert chosen(facts(20), accelerated=True)["batch"] == 5


@pytest.mark.parametrize("side", [0.3, 0.06, 0.03, 0.01])
def test_small_boxes_reach_an_anchor_where_the_canvas_allows(side):
    """A square on the middle of a cell overlaps the smallest square anchor by half from sides of 0.71 of it on."""
    found = chosen(facts(side=side))
    height, width = found["canvas"]
    assert height % 64 == width % 64 == 0
    assert height / width == pytest.approx(480 / 640, abs=0.1)
    pixels, anchor = side * width, 8 * found["anchor_scale"]
    assert (min(pixels, anchor) / max(pixels, anchor)) ** 2 >= 0.5 or (width >= 512 or pixels > anchor)
    assert chosen(facts(side=side), accelerated=True)["canvas"][1] >= width


def test_a_trained_network_keeps_its_anchors_and_moves_slowly():
    fresh, trained = chosen(facts()), chosen(facts(), pretrained=True)
    assert "anchor_scale" not in trained
    assert trained["lr"] < fresh["lr"] / 3
    masked = chosen(replace(facts(), masked=True), pretrained=True)
    assert masked["lr"] == chosen(facts(200_000), pretrained=True)["lr"] < trained["lr"]  # where it was not measured


def test_a_new_pyramid_learns_faster_than_masks_and_other_heads():
    fresh = chosen(facts())["lr"]
    masked = chosen(replace(facts(), masked=True))["lr"]
    assert fresh == pytest.approx(2e-2)
    assert masked == chosen(facts(), other_head=True)["lr"] == pytest.approx(3e-3 * 0.5**0.5, rel=0.02)
    # Fewer images say less of a step's direction; more of them have not been measured.
    assert chosen(facts(5))["lr"] == pytest.approx(fresh * 0.5**0.5, rel=0.02)
    assert chosen(facts(), accelerated=True)["lr"] == fresh


def test_classes_with_a_side_are_not_mirrored():
    assert chosen(facts(names=("arrow left", "b")))["hflip"] == 0
    assert chosen(facts(names=("cleft", "copyright")))["hflip"] == 0.5


def test_the_published_recipe_for_the_largest_sets():
    found = chosen(facts(118_287), accelerated=True)
    assert (found["optimizer"], found["lr"], found["lr_batch"]) == ("sgd", 0.08, 64)
    assert (found["scale_min"], found["scale_max"], found["frozen_stages"]) == (0.1, 2.0, 0)
    assert "drop_path" not in found
