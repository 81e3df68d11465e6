"""What a file says of itself is read as it was written, and refused in one line where it cannot be."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.exports.files import About

PATH = Path("d.onnx")
WHOLE = About(
    "joint", {"member": "lite0"}, 2, (96, 128), 32, (512, 512), {"nms": "hard"}, True, "int8", "frigate", "inside",
    (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), (1, 2, 3), ("car", ""), (7, 8), ("road",), "CC0",
    "last.ckpt", "ab", {"torch": "2"},
)  # fmt: skip


def test_it_is_read_as_it_was_written():
    assert all(getattr(WHOLE, entry.name) not in (entry.default, {}) for entry in fields(About))
    assert About.from_json(WHOLE.to_json(), PATH) == WHOLE


def test_a_later_version_may_say_more():
    assert About.from_json(json.dumps({**json.loads(WHOLE.to_json()), "colour": "red"}), PATH) == WHOLE


@pytest.mark.parametrize("text", [None, "", "no JSON", "[]", "{}", '{"format": 1, "task": "detection"}'])
def test_a_file_of_another_program(text):
    with pytest.raises(InputError, match=r"'d\.onnx' was not exported by this program"):
        About.from_json(text, PATH)


@pytest.mark.parametrize("number", [2, 99, "1", None, 0])
def test_another_format(number):
    with pytest.raises(InputError, match=f"'d.onnx' has format {number}; this version reads up to 1. Upgrade"):
        About.from_json(json.dumps({**json.loads(WHOLE.to_json()), "format": number}), PATH)


WRONG = {
    "task": 3, "model": "lite0", "batch": 0, "image_hw": [96], "multiple": 0, "canvas_hw": [0, 5],
    "postprocess": [1], "argmax": 1, "precision": "int4", "layout": "coral", "letterbox": "left",
    "mean": [None], "std": [0.0, 1.0, 1.0],
    "fill_color": ["red"], "names": [1], "category_ids": "7", "pixel_names": None, "licence": None, "checkpoint": 1,
    "sha256": [], "versions": "2.15",
}  # fmt: skip


@pytest.mark.parametrize("name", [entry.name for entry in fields(About)])
def test_a_value_of_another_kind(name):
    with pytest.raises(
        InputError, match=rf"'d\.onnx' is damaged in what it says of itself: {name} .*; allowed: .* Export it again"
    ):
        About.from_json(json.dumps({**json.loads(WHOLE.to_json()), name: WRONG[name]}), PATH)
