"""Images for int8 are listed and laid on canvases as a prediction lays them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deployment.export.command import main
from deployment.export.options import Options
from deployment.export.write import export
from deployment.litert.calibration import write_canvases
from deployment.litert.convert import labels_of
from deployment.networks import load_any
from engine.errors import InputError
from tests.deployment.networks import detector, picture


@pytest.fixture
def folder(tmp_path):
    """Pictures that an image file keeps exactly, of two shapes, below and beside each other."""
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    for place, (name, height, width) in enumerate([("a.png", 80, 112), ("more/b.png", 60, 300)]):
        cv2.imwrite(str(pictures / name), picture(height, width, place)[..., ::-1])
    (pictures / "notes.txt").write_text("no picture")
    return pictures


def test_canvases_are_letter_boxed(folder, tmp_path):
    network, target = detector(), tmp_path / "images.npy"
    write_canvases(target, [folder / "a.png", folder / "more" / "b.png"], network, (80, 112))
    canvases = np.load(target)
    assert (canvases.shape, canvases.dtype) == ((2, 80, 112, 3), np.uint8)
    np.testing.assert_array_equal(canvases[0], picture(80, 112, 0))
    # 300 pixels become 112 and 60 become 22; below is the colour beside an image.
    assert (canvases[1][22:] == network.fill_color).all()
    small = cv2.resize(picture(60, 300, 1), (112, 22), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(canvases[1][:22].astype(int) - small).mean() < 4


def test_no_image(tmp_path):
    with pytest.raises(InputError, match="int8 needs images that set the ranges"):
        write_canvases(tmp_path / "images.npy", [], detector(), (80, 112))


def test_int8_and_its_images_go_together(ckpt, folder, tmp_path):
    loaded = load_any(ckpt("detection"))
    for options in (Options(precision="int8"), Options(calibration=(folder / "a.png",))):
        with pytest.raises(InputError, match="calibration is for int8"):
            export(loaded, tmp_path / "d.tflite", "litert", options)
    assert not list(tmp_path.glob("*.tflite"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibration", "missing"], "missing"),
        (["--batch_size", "2"], "batch_size is 2; a file of litert takes one image at a time. Leave it out."),
        (["--precision", "int4"], "precision"),
        (["--output", "d.onnx"], "a file of litert ends in .tflite; 'd.onnx' does not. Rename it."),
    ],
)
def test_what_the_command_refuses(ckpt, capsys, options, message):
    assert main(["--ckpt_path", str(ckpt("detection")), "--format", "litert", *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") <= 2


def test_labels_have_a_line_for_each_row():
    assert labels_of(detector()) == "car\n???\nperson\n"
