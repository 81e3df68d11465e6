"""Samples and batches: rows of the model, whole images untouched, errors of workers in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from engine.errors import InputError, SampleError
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.cityscapes.files import CityscapesFiles
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.dataset import TrainingCrops, WholeImages, collate_crops, collate_images, model_rows
from segmentation.data.mask_folder import MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.data.pairs import MaskSource

OWN = MaskClasses(("tree", "house", "ground"), (10, 20, 30))
MODEL = MaskClasses(("ground", "water", "house", "tree"))
FILL = (1, 2, 3)


def write(root: Path, sizes: list[tuple[int, int]]) -> Path:
    rng = np.random.default_rng(0)
    for number, size in enumerate(sizes):
        for folder, pixels in (
            ("images", rng.integers(0, 256, (*size, 3), dtype=np.uint8)),
            ("masks", rng.choice(np.array([10, 20, 30, 255], dtype=np.uint8), size=size)),
        ):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path, [(40, 50)] * 3)


def files(root: Path) -> MaskFolder:
    return MaskFolder(root / "images", root / "masks", MaskReader(OWN))


def crops(root: Path, repeat: int = 1, **options: Any) -> TrainingCrops:
    return TrainingCrops(files(root), MODEL, SegmentationAugmentation(**options).build((36, 44), FILL), repeat)


class TestRows:
    def test_by_name(self, root: Path) -> None:
        rows = model_rows(files(root), MODEL)
        assert rows[[0, 1, 2]].tolist() == [3, 2, 0]
        assert (rows[3:] == IGNORED).all()

    def test_names_that_are_spelled_otherwise(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        source = files(root)
        names = source.classes.names
        model = MaskClasses(tuple(name.upper().replace("_", " ") for name in reversed(names)))
        rows = model_rows(source, model)
        assert rows[: len(names)].tolist() == list(reversed(range(len(names))))
        assert f"calls the model's '{names[0].upper()}' '{names[0]}'" in caplog.text
        caplog.clear()
        assert model_rows(source, source.classes)[: len(names)].tolist() == list(range(len(names)))
        assert not caplog.messages

    def test_two_names_for_one_class(self, root: Path) -> None:
        source = files(root)
        name = source.classes.names[0]
        twice = SimpleNamespace(source="here", classes=MaskClasses((name, f" {name.upper()}-")))
        with pytest.raises(InputError, match=f"two classes for the model's '{name}'"):
            model_rows(cast("MaskSource", twice), MaskClasses((name, "other")))

    def test_a_class_without_a_name(self) -> None:
        with pytest.raises(InputError, match="an empty name in row 1"):
            MaskClasses(("a", " "))

    def test_unknown_class_names(self, root: Path) -> None:
        with pytest.raises(
            InputError, match=r"have 1 classes .* such as 'tree'; it knows 'ground', 'house', 'trees'.* Did y"
        ):
            model_rows(files(root), MaskClasses(("ground", "house", "trees")))

    def test_whole_images_are_untouched(self, root: Path) -> None:
        data = WholeImages(files(root), MODEL)
        assert len(data) == 3
        for place in range(3):
            sample = data[place]
            stored = np.asarray(Image.open(root / "masks" / f"{place}.png"))
            wanted = np.select([stored == 10, stored == 20, stored == 30], [3, 2, 0], IGNORED)
            np.testing.assert_array_equal(sample.class_ids, wanted)
            np.testing.assert_array_equal(sample.image, np.asarray(Image.open(root / "images" / f"{place}.png")))
            assert sample.place == place
            assert sample.instance_ids is None


class TestBatches:
    def test_crops(self, root: Path) -> None:
        data = crops(root, repeat=3)
        assert len(data) == 9
        torch.manual_seed(0)
        samples = [data[place] for place in (0, 3, 8)]
        assert not np.array_equal(samples[0].image, samples[1].image)
        batch = collate_crops(samples)
        assert batch.images.shape == (3, 3, 36, 44)
        assert batch.images.dtype == batch.class_ids.dtype == torch.uint8
        for place, sample in enumerate(samples):
            np.testing.assert_array_equal(batch.images[place].permute(1, 2, 0), sample.image)
            np.testing.assert_array_equal(batch.class_ids[place], sample.class_ids)
        assert set(batch.class_ids.unique().tolist()) <= {0, 2, 3, IGNORED}
        with pytest.raises(IndexError):
            data[9]

    def test_repeat_gives_every_image_equally_often(self, root: Path) -> None:
        still = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "hflip": 0, "scale_min": 1, "scale_max": 1}
        for number in range(3):
            Image.new("RGB", (50, 40), (number, number, number)).save(root / "images" / f"{number}.png")
        data = crops(root, 4, max_class_ratio=1, **still)
        loader = DataLoader(data, batch_size=12, shuffle=True, collate_fn=collate_crops)
        assert next(iter(loader)).images[:, 0, 0, 0].sort().values.tolist() == [0] * 4 + [1] * 4 + [2] * 4

    def test_whole_images(self, root: Path) -> None:
        data = WholeImages(files(root), MODEL)
        batch = collate_images([data[2], data[0]])
        assert batch.images.shape == (2, 3, 40, 50)
        assert batch.indices.tolist() == [2, 0]
        np.testing.assert_array_equal(batch.class_ids[1], data[0].class_ids)
        assert batch.instance_ids == []

    def test_instances(self, tmp_path: Path) -> None:
        things = np.arange(24, dtype=np.uint16).reshape(4, 6) * 1000 + 1
        for folder, ending, pixels in (
            ("leftImg8bit", "leftImg8bit", np.zeros((4, 6, 3), dtype=np.uint8)),
            ("gtFine", "gtFine_labelIds", np.full((4, 6), 26, dtype=np.uint8)),
            ("gtFine", "gtFine_instanceIds", things),
        ):
            path = tmp_path / folder / "val" / "ulm" / f"ulm_0_0_{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        data = WholeImages(CityscapesFiles(tmp_path, ["val"]), CITYSCAPES)
        batch = collate_images([data[0]])
        np.testing.assert_array_equal(batch.instance_ids[0], things)
        assert batch.instance_ids[0].dtype == np.int32
        assert (batch.class_ids[0] == CITYSCAPES.names.index("car")).all()
        Image.fromarray(things[:3]).save(path)
        with pytest.raises(InputError, match=r"instances '.*' are 6x3 \(width x height\) but the mask is 6x4"):
            data[0]

    def test_sizes_that_differ(self, tmp_path: Path) -> None:
        data = WholeImages(files(write(tmp_path, [(40, 50), (44, 50)])), MODEL)
        with pytest.raises(InputError, match=r"images of 50x40 and 50x44 .* Give --data.eval_batch_size 1"):
            collate_images([data[0], data[1]])


class TestErrors:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_one_short_line_even_from_a_worker(self, root: Path, workers: int) -> None:
        Image.new("L", (50, 41), 10).save(root / "masks" / "1.png")
        loader = DataLoader(WholeImages(files(root), MODEL), 1, collate_fn=collate_images, num_workers=workers)
        batches = iter(loader)
        with pytest.raises(SampleError) as caught:
            list(batches)
        if workers:
            # Left to the garbage collector, the iterator would wait five seconds for its worker.
            batches._shutdown_workers()  # type: ignore[attr-defined]
        assert str(caught.value) == (
            f"image '{root}/images/1.png' is 50x40 (width x height) but its mask '{root}/masks/1.png' is 50x41. "
            "Give the mask of this image at its full size."
        )

    @pytest.mark.parametrize("broken", ["images", "masks"])
    def test_corrupt_files(self, root: Path, broken: str) -> None:
        path = root / broken / "0.png"
        path.write_bytes(path.read_bytes()[:300])
        for data in (crops(root), WholeImages(files(root), MODEL)):
            with pytest.raises(SampleError, match=rf"cannot read {broken[:-1]} '{path}'"):
                data[0]
