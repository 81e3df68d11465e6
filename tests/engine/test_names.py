"""Names that people write differently."""

from __future__ import annotations

import pytest

from engine.names import plain_name, shown_names, spelled_alike


@pytest.mark.parametrize("other", ["Traffic Light", "traffic_light", " traffic-light ", "TRAFFIC  LIGHT"])
def test_spellings_of_one_name(other):
    assert spelled_alike(other, ["car", "traffic light", "bus"]) == 1


def test_accents_in_both_forms_are_one_name():
    assert plain_name("caf\u00e9") == plain_name("cafe\u0301")


def test_the_very_name_comes_before_another_spelling():
    assert spelled_alike("Car", ["car", "Car"]) == 1
    assert spelled_alike("CAR", ["car", "Car"]) == -1  # either could be meant
    assert spelled_alike("", ["", "car"]) == -1


def test_long_lists_are_cut():
    assert shown_names(["a", "b"]) == "'a', 'b'"
    assert shown_names([str(n) for n in range(20)]).endswith("... (20 in all)")
