"""Pictures of any size go into a file as they are, and come out as the predictor answers them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from deployment.export.formats.onnx_letterbox import least_roundings, rounding_of
from deployment.export.formats.onnx_operators import translations
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.letterbox import letterbox, placed
from engine.exports.files import About
from engine.reading.images import Letterbox
from tests.deployment.networks import picture

CANVAS_HW = (160, 224)
FILL = [124, 116, 103]
# Larger and smaller than the canvas, of its shape, narrow; and sides whose scale does not give the canvas back when it
# is multiplied out in floats of 64 bits, as 25 * (160 / 25) does.
SIZES = [(300, 400), (61, 83), (160, 224), (320, 448), (400, 20), (2, 2), (1, 300), (25, 25), (94, 94), (98, 110)]


def test_sizes_on_the_canvas_are_those_of_floats():
    """In whole numbers, with the rounding of 64 bits from tables, against what Python itself computes."""
    random = np.random.default_rng(0)
    for canvas_hw in ((512, 512), (160, 224), (1536, 1280)):
        rounding = [rounding_of(side).tolist() for side in canvas_hw]
        least = least_roundings(max(canvas_hw)).tolist()
        lower = 0
        for height in random.integers(1, 3000, 3000).tolist():
            for width in (height, *(max(1, height * k // m) for k, m in random.integers(1, 9, (5, 2)).tolist())):
                width = min(width, 16_000)
                tall = canvas_hw[0] * width <= canvas_hw[1] * height
                own, canvas = (height, canvas_hw[0]) if tall else (width, canvas_hw[1])
                found = []
                for side in (height, width):
                    pixels, rest = divmod(side * canvas, own)
                    less = rest == 0 and rounding[0 if tall else 1][own] < least[pixels]
                    lower += less
                    found.append(max(1, pixels - less))
                assert tuple(found) == Letterbox.fit((height, width), canvas_hw).scaled_hw
        assert lower > 100  # it happens


class Laid(nn.Module):
    """A picture on its canvas, and where it lies."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return letterbox(images, *CANVAS_HW, FILL), placed(images, *CANVAS_HW)


@functools.cache
def onnx_file(folder):
    dims = {0: Dim("b", min=1, max=99), 2: Dim("h", min=2, max=9999), 3: Dim("w", min=2, max=9999)}
    program = torch.export.export(
        Laid(), (torch.zeros(2, 3, 50, 60, dtype=torch.uint8),), dynamic_shapes={"images": dims}
    )
    found = torch.onnx.export(
        program, opset_version=18, custom_translation_table=translations(), verbose=False, input_names=["images"]
    )
    found.save(folder / "laid.onnx")
    return folder / "laid.onnx"


def computing(runtime: str, folder):
    """Computes a file of one operator."""
    path = onnx_file(folder)
    if runtime == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(None, {"images": images})
    import openvino

    model = openvino.Core().read_model(write_openvino(path, folder / "laid.xml", About("detection", {})))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: [np.array(value) for value in compiled([images]).values()]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_canvas_is_the_predictors(runtime, tmp_path_factory):
    compute = computing(runtime, tmp_path_factory.getbasetemp())
    noise = np.random.default_rng(0)
    for height, width in SIZES:
        for pixels in (picture(height, width), noise.integers(0, 256, (height, width, 3), np.uint8)):
            expected = Letterbox.fit((height, width), CANVAS_HW)
            canvas, place = compute(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None].repeat(2, 0)))
            assert place.tolist() == pytest.approx([expected.scale, height, width], rel=1e-6)
            apart = np.abs(canvas[1].transpose(1, 2, 0).astype(int) - expected.apply(pixels, (*FILL,)))
            assert apart.max() <= 1  # of 255: sums of floats that lie near a half are rounded to one side or the other
            assert (apart > 0).mean() < 0.01
