"""A .tflite file as the predictor's runtime sees it, and the files that it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deployment.litert.editing import SUPPRESSED_KEYS, append_suppression
from deployment.litert.options import LitertOptions
from deployment.running.litert_file import LitertFile
from engine.errors import InputError
from engine.exports.files import computed
from tests.deployment.litert.toy import (
    CLASSES,
    HEIGHT,
    ROWS,
    WIDTH,
    about,
    anchors_yxhw,
    of_boxes,
    pixels_as,
    written,
)


def pictures(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 255, (count, 3, HEIGHT, WIDTH), dtype=np.uint8))


@pytest.fixture
def raw(tmp_path):
    model = of_boxes()
    model.name_ends(("images",), ("box_deltas", "scores"))
    return written(model, tmp_path / "raw.tflite")


@pytest.fixture
def suppressed(tmp_path):
    model = of_boxes()
    append_suppression(model, anchors_yxhw(), CLASSES, LitertOptions(score_threshold=0.9, max_detections=20))
    model.name_ends(("images",), SUPPRESSED_KEYS)
    return written(model, tmp_path / "boxes.tflite")


def test_deltas_and_logits_of_several_pictures(raw):
    file = LitertFile(raw)
    assert (file.about, file.image_hw) == (about(), (HEIGHT, WIDTH))
    images = pictures(3)
    found = computed(file, images, torch.tensor([[HEIGHT, WIDTH]] * 3))
    assert found["box_deltas"].shape == found["class_logits"].shape == (3, ROWS, 4)
    for place, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        deltas, scores = pixels_as(image)
        np.testing.assert_allclose(found["box_deltas"][place], deltas, atol=1e-6)
        np.testing.assert_allclose(found["class_logits"][place].sigmoid(), scores, atol=1e-6)


def test_scores_of_0_and_1_have_logits(raw):
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(3 * HEIGHT * WIDTH // 2).reshape(1, 3, HEIGHT, WIDTH)
    logits = LitertFile(raw).run(images)["class_logits"]
    assert logits.isfinite().all()
    assert logits.sigmoid().min() < 1e-6
    assert logits.sigmoid().max() > 1 - 1e-6


def test_boxes_are_in_pixels_and_cut_at_the_picture(suppressed):
    file, images = LitertFile(suppressed), pictures(2)
    whole = file.run(images)
    assert whole["boxes_xyxy"].shape == (2, 20, 4)
    used = whole["class_ids"] >= 0
    assert 2 <= used.sum() < used.numel()
    assert (whole["scores"][used] >= 0.9).all()
    assert (whole["scores"][~used] == 0).all()
    assert (whole["boxes_xyxy"][~used] == 0).all()
    assert whole["boxes_xyxy"][used][:, 2].max() > 5  # in pixels, and x before y
    cut = file.run(images, torch.tensor([[2, 5], [HEIGHT, WIDTH]]))["boxes_xyxy"]
    expected = torch.minimum(whole["boxes_xyxy"][0], torch.tensor([5.0, 2.0, 5.0, 2.0]))
    beside = (expected[:, 2:] <= expected[:, :2]).any(1) & used[0]
    assert beside.any()
    assert (file.run(images, torch.tensor([[2, 5], [HEIGHT, WIDTH]]))["class_ids"][0][beside] == -1).all()
    torch.testing.assert_close(cut[0], torch.where(beside[:, None], 0.0, expected))
    torch.testing.assert_close(cut[1], whole["boxes_xyxy"][1])


def test_pictures_of_other_sizes_are_refused(raw):
    images = torch.zeros((1, 3, WIDTH, HEIGHT), dtype=torch.uint8)
    with pytest.raises(InputError, match=r"takes images of 4 x 8 pixels \(height x width\), not 8 x 4"):
        LitertFile(raw).run(images)


def test_files_of_other_programs_are_refused(tmp_path):
    foreign, other, early = (tmp_path / name for name in ("foreign.tflite", "other.tflite", "early.tflite"))
    model = of_boxes()
    model.name_ends(("images",), ("box_deltas", "scores"))
    foreign.write_bytes(model.to_bytes())
    with pytest.raises(InputError, match="was not exported by this program"):
        LitertFile(foreign)
    other.write_bytes(b"GIF89a, and more")
    with pytest.raises(InputError, match=r"is no \.tflite file, or is damaged"):
        LitertFile(other)
    whole = written(model, tmp_path / "whole.tflite").read_bytes()
    early.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"is damaged|LiteRT refuses"):
        LitertFile(early)
    with pytest.raises(InputError, match="cannot read"):
        LitertFile(tmp_path / "missing.tflite")
