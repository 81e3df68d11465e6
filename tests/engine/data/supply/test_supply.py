"""Canvases that change from step to step, and images that are kept: compared with what stands there before."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from engine.data.supply.canvases import (
    EVERY,
    canvas_at,
    canvases,
    resized_boxes,
    resized_images,
    resized_labels,
)
from engine.data.supply.store import KeepingReader, PixelStore, check_budget
from engine.errors import InputError
from engine.reading.reader import PixelReader


@pytest.mark.parametrize("size_hw", [(512, 512), (256, 192), (100, 150), (64, 128)])
@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_canvases_keep_their_shape_and_range(size_hw, spread):
    found = canvases(size_hw, spread)
    assert size_hw in found
    longer = max(size_hw)
    for height, width in found:
        assert longer * (1 - spread) - 1 <= max(height, width) <= longer * (1 + spread) + 1
        assert height / width == pytest.approx(size_hw[0] / size_hw[1], rel=0.02)
        assert max(height, width) % 32 == 0 or (height, width) == size_hw
    assert found == sorted(set(found))


def test_a_canvas_is_that_of_its_step():
    choices = canvases((512, 512), 0.3)
    row = [canvas_at(step, 7, choices) for step in range(600)]
    assert row == [canvas_at(step, 7, choices) for step in range(600)]
    assert all(len(set(row[begin : begin + EVERY])) == 1 for begin in range(0, 600, EVERY))
    assert set(row) == set(choices)
    assert row != [canvas_at(step, 8, choices) for step in range(600)]


def test_boxes_and_labels_follow_the_pixels():
    images = torch.zeros(1, 3, 96, 128, dtype=torch.uint8)
    labels = torch.full((1, 96, 128), 255, dtype=torch.uint8)
    box = torch.tensor([[[32.0, 24.0, 80.0, 72.0]]])
    images[0, :, 24:72, 32:80] = 200
    labels[0, 24:72, 32:80] = 4
    for size_hw in ((48, 64), (120, 160), (192, 256)):
        image = resized_images(images, size_hw)
        assert image.dtype == torch.uint8
        assert image.shape == (1, 3, *size_hw)
        moved = resized_boxes(box, (96, 128), size_hw)[0, 0].round().int().tolist()
        for there in ((image[0, 0] > 100).nonzero(), (resized_labels(labels, size_hw)[0] == 4).nonzero()):
            (top, left), (bottom, right) = there.min(0)[0].tolist(), (there.max(0)[0] + 1).tolist()
            assert np.abs(np.array([left, top, right, bottom]) - moved).max() <= 1
    assert resized_labels(labels[:0], (48, 64)).shape == (0, 48, 64)
    assert set(resized_labels(labels, (50, 70)).unique().tolist()) == {4, 255}


@pytest.fixture
def files(tmp_path) -> list[Path]:
    draw = np.random.default_rng(0)
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(draw.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)).save(paths[-1])
    return paths


class Reads(Dataset[np.ndarray]):
    def __init__(self, read: PixelReader, paths: list[Path]) -> None:
        self.read, self.paths = read, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.paths[index])


def take_all(batch: list[np.ndarray]) -> list[np.ndarray]:
    return batch


def test_kept_images_are_the_files_and_outlive_them(files):
    store = PixelStore(1, files)
    try:
        read = KeepingReader(shelf=[store])
        plain = [PixelReader()(path) for path in files]
        loader = DataLoader(Reads(read, files), batch_size=2, num_workers=2, collate_fn=take_all)
        for expected, found in zip(plain, (image for batch in loader for image in batch), strict=True):
            assert np.array_equal(expected, found)
        assert store.kept == len(files)  # the workers kept them, and this process sees it
        for path in files:
            path.unlink()
        for expected, path in zip(plain, files, strict=True):
            found = read(path)
            assert np.array_equal(expected, found)
            found[:] = 0  # its own copy
        assert np.array_equal(read(files[0]), plain[0])
    finally:
        store.close()


def test_what_does_not_fit_is_decoded_each_time(files, tmp_path):
    large = tmp_path / "large.png"
    Image.fromarray(np.full((600, 600, 3), 9, np.uint8)).save(large)  # 1.03 MiB
    other = tmp_path / "other.png"
    Image.fromarray(np.full((10, 10, 3), 9, np.uint8)).save(other)
    store = PixelStore(1, [large, *files], "spawn")
    try:
        read = KeepingReader(shelf=[store])
        for path in (large, files[0], other):
            assert np.array_equal(read(path), PixelReader()(path))
        assert store.get(large) is None
        assert store.get(other) is None
        assert store.kept == 1
    finally:
        store.close()
    assert multiprocessing.active_children() == []


def test_a_budget_above_the_memory_is_refused():
    with pytest.raises(InputError, match=r"data\.cache_mib is 10000000000, but \d+ MiB can be shared"):
        check_budget(10_000_000_000)
