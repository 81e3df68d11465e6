"""Weights have seven bits where the processor adds products of int8 in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from deployment.precision.formats import openvino_int8
from deployment.precision.formats.openvino_int8 import OpenvinoInt8
from deployment.precision.formats.processor import saturates
from deployment.precision.pictures import Picture
from engine.exports.files import About

SIDE = 8


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("flags\t\t: fpu sse avx2 fma", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("flags\t\t: fpu avx2 avx_vnni", False),
        ("Features\t: fp asimd asimddp", False),  # ARM
    ],
)
def test_processors(tmp_path, lines, expected):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{lines}\n")
    assert saturates(tmp_path / "cpuinfo") is expected


def test_a_system_that_does_not_say(tmp_path):
    assert not saturates(tmp_path / "cpuinfo")


class Noise:
    """Pictures of noise."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> Picture:
        random = np.random.default_rng(place)
        images = random.integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8)
        return Picture(images, np.array([[SIDE, SIDE]], dtype=np.float32))


@pytest.fixture
def source(tmp_path):
    """Two convolutions, as OpenVINO's files hold those of an exported network."""
    import openvino
    from openvino import opset11 as op

    random = np.random.default_rng(0)
    images = op.parameter([1, 3, SIDE, SIDE], np.uint8, name="images")
    values = op.convert(images, "f32")
    values.set_friendly_name("values")
    for number, channels in enumerate((3, 4)):
        weight = op.constant(random.normal(size=(4, channels, 3, 3)).astype(np.float32))
        weight.set_friendly_name(f"network.layers.{number}.conv.weight")
        values = op.convolution(values, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        values.set_friendly_name(f"conv{number}")
    model = openvino.Model([values], [images], "network")
    model.input(0).get_tensor().set_names({"images"})
    openvino.save_model(model, tmp_path / "float.xml", compress_to_fp16=False)
    return tmp_path / "float.xml"


@pytest.mark.parametrize("short", [True, False])
def test_openvino_weights(source, monkeypatch, short):
    import openvino

    monkeypatch.setattr(openvino_int8, "saturates", lambda: short)
    made = OpenvinoInt8(source, About("segmentation", {}, precision="int8"), Noise())
    assert [group.name for group in made.groups] == ["layers.0", "layers.1"]
    path = source.with_name("int8.xml")
    made.write(path, ())
    model = openvino.Core().read_model(path)
    weights = sorted(
        int(abs(node.get_data().astype(int)).max())
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.i8
    )
    # The convolution of the pictures has seven bits in any case, as NNCF's default is.
    assert weights[0] in (63, 64)
    assert weights[1:] == [weights[0] if short else 127]
