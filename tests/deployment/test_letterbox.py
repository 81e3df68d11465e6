"""Pictures of any size go into a file as they are, and come out as the predictor answers them."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from deployment.__main__ import main
from deployment.export.formats.onnx_letterbox import least_roundings, rounding_of
from deployment.export.formats.onnx_operators import translations
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.letterbox import letterbox, placed
from deployment.export.options import SUFFIXES, Options
from deployment.export.write import export
from deployment.networks import Loaded
from engine.errors import InputError
from engine.exports.files import About
from engine.reading.images import Letterbox
from segmentation.inference.predictor import SegmentationPredictor
from tests.deployment.networks import picture, segmenter

CANVAS_HW = (160, 224)
FILL = [124, 116, 103]
# Larger and smaller than the canvas, of its shape, narrow; and sides whose scale does not give the canvas back when it
# is multiplied out in floats of 64 bits, as 25 * (160 / 25) does.
SIZES = [(300, 400), (61, 83), (160, 224), (320, 448), (400, 20), (2, 2), (1, 300), (25, 25), (94, 94), (98, 110)]


def load(task: str, path: object) -> object:
    return importlib.import_module(task).load(path)


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

    def __init__(self, canvas_hw: tuple[int, int], fill: list[int]) -> None:
        super().__init__()
        self.canvas_hw, self.fill = canvas_hw, fill

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return letterbox(images, *self.canvas_hw, self.fill), placed(images, *self.canvas_hw)


@functools.cache
def onnx_file(folder, canvas_hw, fill):
    dims = {0: Dim("b", min=1, max=99), 2: Dim("h", min=2, max=9999), 3: Dim("w", min=2, max=9999)}
    program = torch.export.export(
        Laid(canvas_hw, [*fill]), (torch.zeros(2, 3, 50, 60, dtype=torch.uint8),), dynamic_shapes={"images": dims}
    )
    found = torch.onnx.export(
        program, opset_version=18, custom_translation_table=translations(), verbose=False, input_names=["images"]
    )
    path = folder / f"laid_{canvas_hw[0]}_{fill[0]}.onnx"
    found.save(path)
    return path


def computing(runtime: str, folder, canvas_hw=CANVAS_HW, fill=(*FILL,)):
    """Computes a file of one operator."""
    path = onnx_file(folder, canvas_hw, fill)
    if runtime == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return lambda images: session.run(None, {"images": images})
    import openvino

    model = openvino.Core().read_model(write_openvino(path, path.with_suffix(".xml"), About("detection", {})))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: [np.array(value) for value in compiled([images]).values()]


@pytest.mark.by_default("onnx")
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


# Of the runtimes, PyTorch computes by Pillow itself; the others round some pixels otherwise, see above.
FORMATS = ["torch", *(pytest.param(each, marks=pytest.mark.slow) for each in ("onnx", "openvino"))]
PICTURES = [picture(140, 300, 1), picture(400, 350, 2), picture(160, 224, 3), picture(61, 83, 4), picture(140, 300, 5)]


def same_boxes(ours, expected, *, exact):
    """Boxes lie within half a pixel of one of the same class with the same score.

    The weights of these networks are of chance, so that a pixel which is rounded otherwise changes scores of boxes in
    a crowd, and which of them is kept.
    """
    assert abs(len(ours.scores) - len(expected.scores)) <= (0 if exact else 5)
    assert len(expected.scores) > 5
    found, score = [], 1e-4 if exact else 1e-2
    for box, value, label in zip(ours.boxes_xyxy, ours.scores, ours.labels, strict=True):
        apart = np.abs(expected.boxes_xyxy - box).max(1)
        near = (apart < 0.5) & (np.abs(expected.scores - value) < score) & (np.array(expected.labels) == label)
        found.append(near.any())
    assert np.mean(found) >= (1 if exact else 0.9)


@pytest.mark.slow  # an export of its own; by default its graph is compared above
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_detector_takes_pictures(ckpt, exported, file_format):
    path = exported("detection", file_format, letterbox="inside")
    file, network = load("detection", path), load("detection", ckpt("detection"))
    about = file.network.runtime.about
    assert (about.letterbox, about.image_hw, about.canvas_hw) == ("inside", None, CANVAS_HW)
    for count in (1, 5):  # pictures of one size are computed together
        found = file.predict_many(PICTURES[:count], score_threshold=0.05)
        expected = network.predict_many(PICTURES[:count], score_threshold=0.05)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.size_hw == theirs.size_hw
            same_boxes(ours, theirs, exact=file_format == "torch")
    for settings in ({"canvas": "tight"}, {"image_size": 128}):
        with pytest.raises(InputError, match=r"this file lays images on its canvas"):
            file.predict(PICTURES[0], **settings)


@pytest.mark.slow
def test_a_joint_network_takes_pictures(ckpt, exported):
    """Logits are enlarged in the file, so that classes are those of the checkpoint."""
    file = load("joint", exported("joint", "torch", letterbox="inside"))
    network = load("joint", ckpt("joint"))
    for ours, expected in zip(file.predict_many(PICTURES[:3]), network.predict_many(PICTURES[:3]), strict=True):
        assert ours.segmented.class_ids.shape == expected.segmented.class_ids.shape
        assert (ours.segmented.class_ids == expected.segmented.class_ids).mean() > 0.999
        same_boxes(ours.found, expected.found, exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_joint_network_takes_pictures_as_a_runtime_lays_them(ckpt, exported, tmp_path_factory, runtime):
    """Beside the checkpoint on the canvas that the runtime lays.

    Its pixels differ from Pillow's by 1 of 255 in fewer than 1 % of places (`test_a_canvas_is_the_predictors`), and
    weights of chance make much of it: the checkpoint itself then gives other boxes and other classes at edges. The
    pictures have the canvas's shape, as boxes beside a picture compete with those on it before they are cut.
    """
    file = load("joint", exported("joint", runtime, letterbox="inside"))
    network = load("joint", ckpt("joint"))
    canvas_hw = file.network.runtime.about.canvas_hw
    compute = computing(runtime, tmp_path_factory.getbasetemp(), canvas_hw, network.fill_color)
    height, width = canvas_hw
    for pixels in (picture(height * 3 // 2, width * 3 // 2, 1), picture(height * 3 // 4, width * 3 // 4, 2)):
        laid = compute(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))[0][0].transpose(1, 2, 0)
        place = Letterbox.fit(pixels.shape[:2], canvas_hw)
        (ours, own), expected = (each.predict_many([pixels])[0] for each in (file, network)), network.predict(laid)
        assert place.scaled_hw == canvas_hw
        boxes = expected.found.boxes_xyxy / place.scale
        near = [
            (
                (np.abs(boxes - box).max(1) < 0.5)
                & (np.abs(expected.found.scores - score) < 1e-4)
                & (np.array(expected.found.labels) == label)
            ).any()
            for box, score, label in zip(ours.found.boxes_xyxy, ours.found.scores, ours.found.labels, strict=True)
        ]
        assert len(near) > 5
        assert np.mean(near) >= 0.97
        by_canvas = network.predict(np.asarray(place.apply(pixels, network.fill_color)))
        moved = (by_canvas.segmented.class_ids != expected.segmented.class_ids).mean()
        apart = (ours.segmented.class_ids != own.segmented.class_ids).mean()
        assert apart < 0.001 + 2 * moved


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["torch", "onnx", "openvino"])
def test_a_decoder_of_multiples_takes_pictures(tmp_path, file_format):
    unet = segmenter(decoder="unet")
    loaded = Loaded(unet, "segmentation", unet.settings(), "unet", "", "")
    path = tmp_path / f"unet{SUFFIXES[file_format]}"
    file = load("segmentation", export(loaded, path, file_format, Options(letterbox="inside")).path)
    for pixels in PICTURES[:3]:
        height, width = pixels.shape[:2]
        canvas = np.empty((height + -height % 32, width + -width % 32, 3), np.uint8)
        canvas[:] = unet.fill_color
        canvas[:height, :width] = pixels
        expected = SegmentationPredictor(unet).predict(canvas).class_ids[:height, :width]
        assert (file.predict(pixels).class_ids == expected).mean() > 0.999


@pytest.mark.parametrize(
    ("task", "words", "expected"),
    [
        ("detection", ["--format", "litert"], "it cannot go with --format litert"),
        ("detection", ["--layout", "frigate"], "it cannot go with --layout frigate"),
        ("joint", ["--nms", "outside"], "it cannot go with --nms outside"),
        ("segmentation", ["--image_size", "128"], "it cannot go with --image_size"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_takes_no_pictures_of_any_size(ckpt, tmp_path, monkeypatch, capsys, task, words, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--ckpt_path", str(ckpt(task)), "--letterbox", "inside", *words]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_file_opens_in_a_process_of_its_own(exported, tmp_path):
    """With nothing imported but what opens it."""
    path = exported("detection", "torch", letterbox="inside")
    code = f"from engine.exports.files import open_exported; open_exported({str(path)!r}, 'detection')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
