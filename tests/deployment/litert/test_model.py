"""A .tflite file is read, changed and written, and LiteRT's own interpreter takes what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployment.litert.model import Model
from engine.errors import InputError
from tests.deployment.litert.toy import HEIGHT, WIDTH, computed, empty, of_boxes, pixels_as


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_written_and_read_again_it_computes_the_same(tmp_path):
    path = tmp_path / "toy.tflite"
    path.write_bytes(of_boxes().to_bytes())
    again = Model.read(path)
    deltas, scores = computed(again.to_bytes(), image())
    expected = pixels_as(image()[0])
    np.testing.assert_allclose(deltas[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(scores[0], expected[1], atol=1e-6)
    assert [again.operator_name(operator) for operator in again.graph.operators] == ["CAST", "RESHAPE", "MUL", "SUB"]
    assert again.shape(int(again.graph.inputs[0])) == (1, HEIGHT, WIDTH, 3)
    assert again.type_name(int(again.graph.inputs[0])) == "UINT8"


def test_metadata_is_kept():
    model = of_boxes()
    model.add_metadata("one", b"first")
    model.add_metadata("two", bytes(range(256)))
    again = Model(model.to_bytes(), "toy.tflite")
    assert again.metadata() == {"one": b"first", "two": bytes(range(256))}


def test_ends_have_names_in_the_signature():
    from ai_edge_litert.interpreter import Interpreter

    model = of_boxes()
    model.name_ends(("images",), ("box_deltas", "scores"))
    interpreter = Interpreter(model_content=model.to_bytes())
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["images"], "outputs": ["box_deltas", "scores"]}
    }
    found = interpreter.get_signature_runner()(images=image())
    np.testing.assert_allclose(found["scores"][0], pixels_as(image()[0])[1], atol=1e-6)


def test_constants_and_quantisation_are_told_apart():
    model = empty()
    constant = model.add_tensor("constant", "INT32", (2,), data=np.array([3, 4], dtype=np.int32))
    plain = model.add_tensor("plain", "FLOAT32", (2,))
    quantised = model.add_tensor("quantised", "INT8", (1, 2), quantisation=(0.25, -3))
    again = Model(model.to_bytes(), "toy.tflite")
    assert [again.is_constant(index) for index in (constant, plain, quantised)] == [True, False, False]
    assert [again.quantisation(index) for index in (constant, plain, quantised)] == [None, None, (0.25, -3)]
    assert again.shape(quantised) == (1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"GIF89a, and more", r"is no \.tflite file"), (b"\x1c\0\0\0TFL3", "is damaged"), (b"", r"is no \.tflite file")],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Model.read(path)
    with pytest.raises(InputError, match="cannot read"):
        Model.read(tmp_path / "missing.tflite")


def test_int8_operators_get_the_versions_of_tensorflow():
    model = empty()
    quantised = [model.add_tensor(f"q{place}", "INT8", (1, 2, 2, 1), quantisation=(0.5, 0)) for place in range(3)]
    real = [model.add_tensor(f"f{place}", "FLOAT32", (1, 2, 2, 1)) for place in range(3)]
    model.add_operator("ADD", quantised[:2], quantised[2:], version=5, table="AddOptions")
    model.add_operator("ADD", real[:2], real[2:], version=1, table="AddOptions")
    model.add_operator("MUL", quantised[:2], quantised[2:], version=7, table="MulOptions")
    model.set_int8_versions()
    assert [model.version(operator) for operator in model.graph.operators] == [2, 1, 3]


def test_constants_behind_the_tree_are_taken_into_it():
    """As the quantiser writes files with large ones; the places in the tree are those in the file."""
    model = of_boxes()
    behind = {}
    for place, buffer in enumerate(model.tree.buffers):
        if buffer.data is not None:
            behind[place] = bytes(buffer.data)
            buffer.data, buffer.offset, buffer.size = None, 100_000, len(behind[place])  # as long as what it then is
    length = len(model.to_bytes()) + -len(model.to_bytes()) % 16
    content, end = b"", length
    for place, data in behind.items():
        model.tree.buffers[place].offset = end + len(content)
        content += data + bytes(-len(data) % 16)
    tree = model.to_bytes()
    assert len(tree) <= length
    again = Model(tree.ljust(length, b"\0") + content, Path("toy.tflite"))
    again.add_metadata("more", bytes(1000))  # which moves all that lies behind
    _, scores = computed(again.to_bytes(), image())
    np.testing.assert_allclose(scores[0], pixels_as(image()[0])[1], atol=1e-6)
