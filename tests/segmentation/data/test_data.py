"""The data module: both formats from YAML to batches, what the task decides, and every refusal."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer, seed_everything
from PIL import Image

from engine.errors import InputError
from engine.reading.options import Reading
from engine.scenes.generate import write_scenes
from segmentation.data.augment import SegmentationAugmentation
from segmentation.data.cityscapes.files import CityscapesData
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.mask_folder import FolderData
from segmentation.data.module import SegmentationDataModule
from tests.engine.trainers import trainer_of

CLASSES = ["background", "nucleus"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("streets")
    write_scenes(root, counts={"train": 3, "val": 2}, size_hw=(64, 128), workers=0)
    return root


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for number in range(count):
            for folder in ("images", "masks"):
                (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{number}.png")
            Image.fromarray(pixels[..., 0] // 128).save(tmp_path / split / "masks" / f"{number}.png")
    return tmp_path


def layout(**options: Any) -> FolderData:
    paths = {f"{split}_{what}": f"{split}/{what}" for split in ("train", "val") for what in ("images", "masks")}
    return FolderData(**(paths | {"classes": CLASSES} | options))


def folders(root: Path, **options: Any) -> SegmentationDataModule:
    given = {"folder": layout(), "crop_size": 40, "batch_size": 2, "num_workers": 0} | options
    return SegmentationDataModule("folder", str(root), **given)


def cityscapes(root: Path, **options: Any) -> SegmentationDataModule:
    return SegmentationDataModule(
        root=str(root), **({"crop_size": (48, 64), "batch_size": 2, "num_workers": 0} | options)
    )


class TestFormats:
    def test_cityscapes(self, scenes: Path) -> None:
        data = cityscapes(scenes, eval_batch_size=2)
        assert data.classes is CITYSCAPES
        assert data.cityscapes_scores
        assert [data.has(split) for split in ("train", "val", "test")] == [True] * 3
        data.setup("fit")
        train = list(data.train_dataloader())
        assert [tuple(batch.class_ids.shape) for batch in train] == [(2, 48, 64)]
        assert train[0].class_ids[train[0].class_ids != IGNORED].max() < 19
        (batch,) = data.val_dataloader()
        assert batch.images.shape == (2, 3, 64, 128)
        assert [things.shape for things in batch.instance_ids] == [(64, 128)] * 2
        data.setup("test")
        assert len(data.test_dataloader()) == 1

    def test_folder(self, nuclei: Path) -> None:
        data = folders(nuclei, repeat=2)
        assert not data.cityscapes_scores
        assert data.classes == MaskClasses(tuple(CLASSES))
        assert [data.has(split) for split in ("train", "val", "test")] == [True, True, False]
        data.setup("fit")
        assert [tuple(batch.images.shape) for batch in data.train_dataloader()] == [(2, 3, 40, 40)] * 5
        assert [tuple(batch.images.shape) for batch in data.val_dataloader()] == [(1, 3, 40, 50), (1, 3, 41, 50)]
        assert [batch.indices.tolist() for batch in data.val_dataloader()] == [[0], [1]]

    def test_without_validation(self, nuclei: Path, scenes: Path) -> None:
        for data in (
            folders(nuclei, folder=layout(val_images=None, val_masks=None)),
            cityscapes(scenes, cityscapes=CityscapesData(val_split=None)),
        ):
            data.setup("fit")
            assert data.val_dataloader() == []

    def test_what_the_task_says(self, nuclei: Path) -> None:
        data = folders(nuclei, crop_size=200)
        task = SimpleNamespace(
            classes=MaskClasses(("nucleus", "cell", "background")), fill_color=(1, 2, 3), reading=Reading()
        )
        data.trainer = trainer_of(task)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        np.testing.assert_array_equal(batch.images[0, :, -1, -1], [1, 2, 3])
        assert batch.class_ids.unique().tolist() == [0, 2, IGNORED]

    def test_class_files_start_from_the_root(self, nuclei: Path) -> None:
        (nuclei / "classes.yaml").write_text("names: [a, b]\nlabel_ids: [0, 1]\n")
        assert folders(nuclei, folder=layout(classes="classes.yaml")).classes.names == ("a", "b")


class TestConfig:
    def parse(self, text: str, tmp_path: Path, *arguments: str) -> SegmentationDataModule:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--config", action="config")
        parser.add_class_arguments(SegmentationDataModule, "data")
        (tmp_path / "config.yaml").write_text(text)
        parsed = parser.parse_args(["--config", str(tmp_path / "config.yaml"), *arguments])
        data: SegmentationDataModule = parser.instantiate(parsed).data
        return data

    def test_folder(self, tmp_path: Path) -> None:
        text = """
data:
  format: folder
  root: NUCLEI
  folder:
    train_images: images
    train_masks: instances
    train_list: instances_train.json
    classes: {names: [background, nucleus], label_ids: [0, 9], colors: [[0, 0, 0], [255, 0, 0]]}
    mask_format: binary
    ignore_values: [4]
    ignore_colors: [[1, 2, 3]]
  crop_size: [256, 320]
  augmentation: {vflip: 0.5, rotate90: true, extra: [{name: GaussianBlur, args: {p: 0.2}}]}
"""
        data = self.parse(text, tmp_path, "--data.folder.mask_suffix", "_m", "--data.batch_size", "4")
        assert data.folder == FolderData(
            "images", "instances", "instances_train.json",
            classes={"names": CLASSES, "label_ids": [0, 9], "colors": [[0, 0, 0], [255, 0, 0]]},
            mask_format="binary", ignore_values=(4,), ignore_colors=((1, 2, 3),), mask_suffix="_m",
        )  # fmt: skip
        assert data.classes == MaskClasses(tuple(CLASSES), (0, 9), ((0, 0, 0), (255, 0, 0)))
        assert (data.crop_hw, data.batch_size, data.root) == ((256, 320), 4, Path("NUCLEI"))
        assert data.augmentation.rotate90
        assert data.augmentation.extra[0].args == {"p": 0.2}

    @pytest.mark.parametrize(
        ("given", "wanted"), [("[a, b]", ["a", "b"]), ("classes.yaml", "classes.yaml"), ("null", None)]
    )
    def test_classes_on_the_command_line(self, tmp_path: Path, given: str, wanted: Any) -> None:
        data = self.parse("data: {format: folder}", tmp_path, "--data.folder.classes", given)
        assert data.folder.classes == wanted

    def test_cityscapes(self, tmp_path: Path) -> None:
        text = "data: {cityscapes: {train_splits: [train, train_extra], val_split: null, annotations: coarse}}"
        data = self.parse(text, tmp_path, "--data.crop_size", "769")
        assert data.cityscapes == CityscapesData(("train", "train_extra"), None, "val", "coarse")
        assert data.crop_hw == (769, 769)
        assert not data.has("val")

    @pytest.mark.parametrize(("given", "wanted"), [(96, (96, 96)), ((64, 96), (64, 96)), ([64, 96], (64, 96))])
    def test_crop_sizes(self, given: Any, wanted: tuple[int, int]) -> None:
        assert SegmentationDataModule(crop_size=given).crop_hw == wanted


class TestRefusals:
    def test_numbers(self) -> None:
        for options, wording in (
            ({"batch_size": 0}, "batch_size is 0; allowed: a whole number, at least 1"),
            ({"eval_batch_size": 0}, "eval_batch_size is 0"),
            ({"repeat": 0}, "repeat is 0"),
            ({"num_workers": -1}, "num_workers is -1"),
            ({"crop_size": (512, 32)}, "crop_size is (512, 32); allowed is at least 33 pixels"),
            ({"format": "cityscape"}, "Did you mean 'cityscapes'"),
        ):
            with pytest.raises(InputError) as caught:
                SegmentationDataModule(**options)  # type: ignore[arg-type]
            assert wording in str(caught.value)

    def test_files(self, nuclei: Path, scenes: Path) -> None:
        for data, wording in (
            (folders(nuclei, folder=layout(train_masks=None)), "no 'train_masks'. Give --data.folder.train_masks"),
            (folders(nuclei, folder=layout(train_images=None, train_masks=None)), "no 'train_images'"),
            (folders(nuclei, folder=layout(classes=None)), "no class list. Give --data.folder.classes"),
            (folders(nuclei, folder=layout(classes="none.yaml")), "none.yaml' does not exist"),
            (folders(nuclei, folder=layout(val_masks="masks")), "mask folder"),
            (
                folders(nuclei, batch_size=6),
                "has 5 images, fewer than one step takes (6 on each of 1 devices). Give --d",
            ),
            (
                cityscapes(scenes, cityscapes=CityscapesData(())),
                "no 'train_splits'. Give --data.cityscapes.train_spl",
            ),
            (cityscapes(scenes, cityscapes=CityscapesData(annotations="coarse")), "has no folder 'gtCoarse'"),
            (cityscapes(nuclei), "has no folder 'leftImg8bit'"),
        ):
            with pytest.raises(InputError) as caught:
                data.setup("fit")
            assert wording in str(caught.value)
        with pytest.raises(InputError, match="no 'test_images'"):
            folders(nuclei).setup("test")
        with pytest.raises(InputError, match="no 'test_split'"):
            cityscapes(scenes, cityscapes=CityscapesData(test_split=None)).setup("test")

    def test_a_wrong_value_ends_training_with_one_line(self, nuclei: Path) -> None:
        Image.new("L", (50, 40), 2).save(nuclei / "val" / "masks" / "0.png")
        data = folders(nuclei)
        data.setup("validate")
        with pytest.raises(InputError, match=r"masks/0.png' has 2 \(2000 pixels\), which the class list does not know"):
            list(data.val_dataloader())

    def test_the_first_batch_of_differing_sizes(self, nuclei: Path) -> None:
        data = folders(nuclei, eval_batch_size=2)
        data.setup("validate")
        with pytest.raises(InputError, match=r"Give --data.eval_batch_size 1"):
            list(data.val_dataloader())


class Watching(LightningModule):
    """Trains nothing and remembers its batches."""

    classes = MaskClasses(tuple(CLASSES))
    fill_color = (124, 116, 104)
    reading = Reading()

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[int] = []
        self.validated: list[int] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        self.seen += [zlib.crc32(image.numpy().tobytes()) for image in batch.images]
        return self.weight * 0

    def validation_step(self, batch: Any, _: int) -> None:
        assert batch.images.shape[-2:] == batch.class_ids[0].shape
        self.validated += batch.indices.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_differ_and_runs_repeat_under_lightning(nuclei: Path, workers: int) -> None:
    for kind in ("images", "masks"):
        for number in range(1, 5):
            path = nuclei / "train" / kind / f"{number}.png"
            path.write_bytes((path.with_name("0.png")).read_bytes())
    runs = []
    for _ in range(2):
        seed_everything(3, workers=True, verbose=False)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, log_every_n_steps=1, **quiet)
        task = Watching()
        trainer.fit(task, folders(nuclei, num_workers=workers, augmentation=SegmentationAugmentation()))
        runs.append(task)
    # One picture four times in two epochs: eight crops, and each validation sees both images.
    assert len(set(runs[0].seen)) == 8
    assert runs[0].seen == runs[1].seen
    assert runs[0].validated[-2:] == [0, 1]


@pytest.mark.real
def test_nuclei(real_data: Path) -> None:
    split = {f"{name}_list": f"instances_{name}.json" for name in ("train", "val")}
    paths = {f"{name}_{kind}": folder for name in ("train", "val") for kind, folder in KINDS}
    folder = FolderData(**paths, **split, classes=CLASSES, mask_format="binary")  # type: ignore[arg-type]
    data = folders(real_data / "dsb2018_nuclei", folder=folder, crop_size=256, batch_size=16, num_workers=2)
    data.setup("fit")
    assert len(data.files("train").pairs) == 428
    assert len(data.train_dataloader()) == 26
    foreground = pixels = 0
    for batch in data.val_dataloader():
        foreground += int((batch.class_ids[0] == 1).sum())
        pixels += batch.class_ids[0].size
    assert 0.15 < foreground / pixels < 0.16


KINDS = (("images", "images"), ("masks", "instances"))
