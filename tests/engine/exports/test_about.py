"""What a file says of itself is read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.exports.files import FORMAT, About

ABOUT = About(
    "detection", {"classes": {"names": ["a"]}}, image_hw=(64, 96), mean=(0.5, 0.5, 0.5), names=("a",), category_ids=(3,)
)


def test_what_is_written_is_read():
    assert About.from_json(ABOUT.to_json(), Path("a.onnx")) == ABOUT


@pytest.mark.parametrize("text", [None, "", "[]", "no json", "{}", '{"format": 1, "task": "detection"}'])
def test_a_file_of_another_program(text):
    with pytest.raises(InputError, match=r"'a.onnx' was not exported by this program"):
        About.from_json(text, Path("a.onnx"))


@pytest.mark.parametrize("newer", [FORMAT + 1, "2", None])
def test_a_file_of_a_later_version(newer):
    with pytest.raises(InputError, match=rf"has format {newer}; this version reads up to {FORMAT}\. Upgrade"):
        About.from_json(json.dumps({"format": newer, "task": "detection", "model": {}}), Path("a.onnx"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", 3), ("model", []), ("batch", 0), ("batch", "two"), ("image_hw", [64]), ("image_hw", [0, 64]),
        ("multiple", None), ("canvas_hw", "x"), ("postprocess", "hard"), ("mean", ["a"]), ("names", "ab"),
        ("names", [1]), ("category_ids", [1.5]), ("category_ids", [True]), ("fill_color", [None]), ("versions", "1"),
        ("argmax", 1), ("precision", 32), ("sha256", None),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(field, value):
    said = {**json.loads(ABOUT.to_json()), field: value}
    with pytest.raises(InputError, match=rf"'a.onnx' is damaged in what it says of itself: {field}\b") as caught:
        About.from_json(json.dumps(said), Path("a.onnx"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("Export it again.")
