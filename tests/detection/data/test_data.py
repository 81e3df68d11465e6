"""From COCO folders to batches: what the network is given, in every worker and every epoch."""

from __future__ import annotations

import json
import logging
import re
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from PIL import Image
from torch.utils.data import DataLoader

from detection.data.augment import DetectionAugmentation
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.dataset import BoxImages, collate
from detection.data.module import CocoDataModule
from engine.errors import InputError
from engine.reading.images import Letterbox
from engine.reading.options import Reading
from tests.detection.image_files import ImageFiles
from tests.engine.trainers import trainer_of

FILL = (124, 116, 104)
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}]
CLASSES = BoxClasses(("toothbrush", "car"), (90, 3))


def write_set(root: Path, count: int = 6, size: tuple[int, int] = (48, 64)) -> Path:
    """`count` noise images and 0, 1, 2, ... boxes on them; image ids have gaps."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        name = f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / "images" / name)
        images.append({"id": 10 * i + 5, "file_name": name, "height": size[0], "width": size[1]})
        for j in range(i):
            box = [4 + j, 6, 20, 30]
            entry = {"image_id": 10 * i + 5, "category_id": (3, 90)[j % 2], "bbox": box, "iscrowd": 0, "area": 600}
            annotations.append({"id": len(annotations) + 1, **entry})
    save_set(root, images, annotations)
    return root


def save_set(root: Path, images: list[Any], annotations: list[Any], categories: list[Any] = CATEGORIES) -> None:
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "gt.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


def detection(root: Path, **options: Any) -> BoxImages:
    options = {"classes": CLASSES, "canvas_hw": (64, 64), "fill_color": FILL} | options
    return BoxImages(CocoAnnotations.read(root / "gt.json", root / "images"), **options)


def data_module(root: Path, **options: Any) -> CocoDataModule:
    splits = {f"{split}_{what}": name for split in ("train", "val") for what, name in SET}
    return CocoDataModule(str(root), **(splits | {"batch_size": 2, "num_workers": 0, "image_size": 64} | options))


SET = (("images", "images"), ("annotations", "gt.json"))


class TestSamples:
    def test_letterboxed_as_prediction_does(self, root: Path) -> None:
        sample = detection(root, canvas_hw=(96, 96))[3]
        letterbox = Letterbox.fit((48, 64), (96, 96))
        pixels = np.asarray(Image.open(root / "images" / "3.png"))
        np.testing.assert_array_equal(sample.image, letterbox.apply(pixels, FILL))
        np.testing.assert_allclose(sample.boxes_xyxy, np.array([[4, 6, 24, 36], [5, 6, 25, 36], [6, 6, 26, 36]]) * 1.5)
        assert sample.class_ids.tolist() == [1, 0, 1]
        assert (sample.image_id, sample.scale, sample.size_hw) == (35, 1.5, (48, 64))

    def test_negatives_stay(self, root: Path) -> None:
        sample = detection(root)[0]
        assert sample.boxes_xyxy.shape == (0, 4)
        assert sample.class_ids.shape == (0,)

    def test_crowds_and_boxes_without_area_are_left_out_and_counted(
        self, root: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        boxes = [[1, 1, 0, 5], [1, 1, 5, 0], [70, 1, 5, 5], [-5, -5, 10, 10], [2, 2, 8, 8], [60, 40, 30, 30]]
        entries = [{"id": i, "image_id": 5, "category_id": 3, "bbox": box} for i, box in enumerate(boxes)]
        entries[4]["iscrowd"] = 1
        save_set(root, [{"id": 5, "file_name": "0.png", "height": 48, "width": 64}], entries)
        with caplog.at_level(logging.INFO, logger="detection.data.dataset"):
            data = detection(root)
        assert "1 crowds and 2 boxes without area are left out" in caplog.text
        assert data.box_count == 3
        wanted = [[0, 0, 5, 5], [60, 40, 64, 48]]
        np.testing.assert_allclose(data[0].boxes_xyxy, wanted)
        augmented = detection(root, augmenter=DetectionAugmentation(0, 1, 1).build((64, 64), FILL))[0]
        np.testing.assert_allclose(augmented.boxes_xyxy, wanted, atol=1e-4)

    def test_labels_follow_their_boxes_through_augmentation(self, root: Path) -> None:
        data = detection(root, augmenter=DetectionAugmentation(min_side=8.0, min_visible=0.9).build((64, 64), FILL))
        lost = 0
        for seed in range(40):
            torch.manual_seed(seed)
            sample = data[5]
            torch.manual_seed(seed)
            found = data.source.boxes_of(5)
            again = data.augmenter(np.asarray(Image.open(root / "images" / "5.png")), found.boxes_xyxy)
            assert sample.class_ids.tolist() == [(1, 0, 1, 0, 1)[i] for i in again.kept]
            lost += 5 - len(again.kept)
            assert np.isnan(sample.scale)
        assert lost > 0

    def test_exif_rotated_images_match_their_annotations(self, root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(root / "images" / "1.png").save(root / "images" / "1.png", exif=exif)
        images = [{"id": 1, "file_name": "1.png", "height": 64, "width": 48}]
        save_set(root, images, [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 48, 64]}])
        sample = detection(root)[0]
        assert sample.size_hw == (64, 48)
        np.testing.assert_array_equal(sample.boxes_xyxy, [[0, 0, 48, 64]])
        # Annotations of the stored pixels: the rotation is left out.
        save_set(root, [images[0] | {"height": 48, "width": 64}], [])
        assert detection(root)[0].size_hw == (48, 64)

    def test_missing_sizes_are_taken_from_the_image(self, root: Path) -> None:
        save_set(root, [{"id": 1, "file_name": "1.png"}], [])
        assert detection(root)[0].size_hw == (48, 64)

    def test_image_files(self, root: Path) -> None:
        paths = sorted((root / "images").iterdir())
        files = ImageFiles(paths, (64, 96), FILL)
        batch = collate([files[i] for i in range(len(files))])
        assert batch.images.shape == (6, 3, 64, 96)
        assert batch.image_ids.tolist() == list(range(6))
        assert batch.boxes_xyxy.shape == (6, 0, 4)
        assert batch.sizes_hw.tolist() == [[48, 64]] * 6
        np.testing.assert_allclose(batch.scales, 64 / 48)


class TestCollate:
    def test_by_hand(self, root: Path) -> None:
        data = detection(root)
        batch = collate([data[0], data[2], data[1]])
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for row, index in enumerate((0, 2, 1)):
            np.testing.assert_array_equal(batch.images[row].permute(1, 2, 0), data[index].image)
        assert batch.class_ids.tolist() == [[-1, -1], [1, 0], [1, -1]]
        np.testing.assert_array_equal(batch.boxes_xyxy[2], [[4, 6, 24, 36], [0, 0, 0, 0]])
        assert batch.boxes_xyxy.shape == (3, 2, 4)
        assert batch.image_ids.tolist() == [5, 25, 15]
        assert batch.masks is None
        assert [tensor.dtype for tensor in batch[1:6]] == [
            torch.float32,
            torch.int64,
            torch.int64,
            torch.float32,
            torch.int64,
        ]


def message_of(loader: DataLoader[Any]) -> str:
    batches = iter(loader)
    try:
        list(batches)
    except InputError as error:
        return str(error)
    finally:
        if loader.num_workers:
            # Left to the garbage collector, the iterator would wait five seconds for its worker.
            batches._shutdown_workers()
    return ""


class TestErrors:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_corrupt_image_is_one_short_line_even_from_a_worker(self, root: Path, workers: int) -> None:
        path = root / "images" / "2.png"
        path.write_bytes(path.read_bytes()[:500])
        loader = DataLoader(detection(root), batch_size=2, collate_fn=collate, num_workers=workers)
        message = message_of(loader)
        assert message.startswith(f"cannot read image '{path}': ")
        assert message.endswith("Repair the file or leave it out.")
        assert "\n" not in message

    def test_a_corrupt_image_to_predict(self, root: Path) -> None:
        (root / "images" / "2.png").write_text("no image")
        loader = DataLoader(ImageFiles([root / "images" / "2.png"], (64, 64), FILL), collate_fn=collate, num_workers=1)
        assert re.fullmatch(r"cannot read image '[^\n]*", message_of(loader))

    def test_another_size_than_annotated(self, root: Path) -> None:
        save_set(root, [{"id": 1, "file_name": "1.png", "height": 480, "width": 640}], [])
        with pytest.raises(InputError, match=r"is 64x48 .* but its annotations say 640x480"):
            detection(root)[0]

    @pytest.mark.parametrize(
        ("folder", "wording"),
        [("nowhere", "does not exist"), (".", "6 of 6 images of .* are missing, the first is '[^']*0.png'")],
    )
    def test_folders(self, root: Path, folder: str, wording: str) -> None:
        with pytest.raises(InputError, match=f"{wording}.* Give the folder"):
            data_module(root, train_images=folder).setup("fit")

    def test_categories_the_model_does_not_know(self, root: Path) -> None:
        with pytest.raises(InputError, match=r"boxes of 1 categories that the model does not know, such as 'car'"):
            detection(root, classes=BoxClasses(("toothbrush",), (90,)))
        # An unknown category without a box does no harm.
        save_set(root, [{"id": 1, "file_name": "1.png"}], [])
        assert len(detection(root, classes=BoxClasses(("toothbrush",), (90,)))) == 1


class TestDataModule:
    def test_loaders(self, root: Path) -> None:
        module = data_module(root, batch_size=4)
        module.setup("fit")
        assert [batch.image_ids.tolist() for batch in module.val_dataloader()] == [[5, 15, 25, 35], [45, 55]]
        train = list(module.train_dataloader())
        assert [len(batch.image_ids) for batch in train] == [4]
        assert train[0].images.shape == (4, 3, 64, 64)
        assert module.annotation_file("val") == root / "gt.json"

    def test_what_the_task_says(self, root: Path) -> None:
        module = data_module(root, image_size=None)
        network = SimpleNamespace(takes_pictures=False)
        task = SimpleNamespace(
            canvas_hw=(32, 96), classes=CLASSES, fill_color=(1, 2, 3), reading=Reading(), network=network,
            inference=SimpleNamespace(window=None), views=(),
        )  # fmt: skip
        module.trainer = trainer_of(task)
        module.setup("validate")
        batch = next(iter(module.val_dataloader()))
        assert batch.images.shape == (2, 3, 32, 96)
        np.testing.assert_array_equal(batch.images[0, :, 0, -1], [1, 2, 3])
        assert batch.class_ids[1].tolist() == [1]

    @pytest.mark.parametrize(("class_rows", "ids"), [("contiguous", (3, 90)), ("by_id", tuple(range(1, 91)))])
    def test_class_rows(self, root: Path, class_rows: str, ids: tuple[int, ...]) -> None:
        classes = data_module(root, class_rows=class_rows).train_classes()
        assert classes.category_ids == ids
        assert [classes.names[ids.index(i)] for i in (3, 90)] == ["car", "toothbrush"]
        assert sum(name != "" for name in classes.names) == 2

    def test_classes_come_from_val_without_train(self, root: Path) -> None:
        assert len(data_module(root, train_images=None, train_annotations=None).train_classes()) == 2

    def test_refusals(self, root: Path) -> None:
        for options, wording in (
            ({"train_annotations": None}, "no 'train_annotations'. Give --data.train_annotations"),
            ({"val_images": None}, "no 'val_images'"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"image_size": 0}, "image_size is 0"),
            ({"image_size": None}, "without a model the data need an 'image_size'"),
            (
                {"batch_size": 7},
                "fewer than one step takes (7 on each of 1 devices). Give --data.batch_size of at most 6.",
            ),
            ({"root": "nowhere"}, "nowhere/gt.json' does not exist"),
        ):
            with pytest.raises(InputError) as caught:
                data_module(**({"root": root} | options)).setup("fit")
            assert wording in str(caught.value)
        with pytest.raises(InputError, match="the data has no 'test_images'"):
            data_module(root).setup("test")

    def test_refusals_of_content(self, root: Path) -> None:
        save_set(root, [{"id": 1, "file_name": "1.png"}], [])
        with pytest.raises(InputError, match="has no box to learn from"):
            data_module(root, batch_size=1).setup("fit")
        save_set(root, [{"id": 1, "file_name": "1.png"}], [], [{"id": 0, "name": "zero"}])
        with pytest.raises(InputError, match="'by_id' needs category ids from 1, the annotations have 0"):
            data_module(root, class_rows="by_id").train_classes()


class Watching(LightningModule):
    """Trains nothing and remembers its batches."""

    canvas_hw = (64, 64)
    classes = CLASSES
    fill_color = FILL
    reading = Reading()
    network = SimpleNamespace(takes_pictures=False)
    wants_masks = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        self.seen[-1] += [zlib.crc32(image.numpy().tobytes()) for image in batch.images]
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def watched(root: Path, **options: Any) -> list[list[int]]:
    seed_everything(3, workers=True, verbose=False)
    task = Watching()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, data_module(root, image_size=None, val_images=None, val_annotations=None, **options))
    return task.seen


def make_equal(root: Path) -> None:
    for i in range(1, 6):
        (root / "images" / f"{i}.png").write_bytes((root / "images" / "0.png").read_bytes())


class TestRandomNumbers:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_epochs_differ_and_runs_repeat_under_lightning(self, root: Path, workers: int) -> None:
        make_equal(root)
        options = {"num_workers": workers, "augmentation": DetectionAugmentation(color=0.5)}
        seen = watched(root, **options)
        # The same image six times in two epochs: twelve different augmentations.
        assert len({*seen[0], *seen[1]}) == 12
        assert watched(root, **options) == seen

    @pytest.mark.slow
    def test_spawned_workers_differ_and_runs_repeat(self, root: Path) -> None:
        make_equal(root)
        data = detection(root, augmenter=DetectionAugmentation(color=0.5).build((64, 64), FILL))
        runs = []
        for _ in range(2):
            torch.manual_seed(3)
            loader = DataLoader(
                data,
                batch_size=1,
                num_workers=2,
                collate_fn=collate,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
            runs.append([zlib.crc32(batch.images.numpy().tobytes()) for _ in range(2) for batch in loader])
            del loader
        assert len(set(runs[0])) == 12
        assert runs[0] == runs[1]


@pytest.mark.real
class TestRealImages:
    def test_coco_goes_through_untouched(self, real_data: Path) -> None:
        folder = real_data / "coco2017_train80"
        module = CocoDataModule(
            str(folder),
            train_images="images",
            train_annotations="instances.json",
            val_images="images",
            val_annotations="instances.json",
            image_size=(256, 320),
            num_workers=2,
            class_rows="by_id",
        )
        module.setup("fit")
        content = json.loads((folder / "instances.json").read_text())
        crowds = sum(entry["iscrowd"] for entry in content["annotations"])
        boxes = 0
        for batch in module.val_dataloader():
            boxes += int((batch.class_ids >= 0).sum())
            assert batch.images.shape[1:] == (3, 256, 320)
            used = batch.boxes_xyxy[batch.class_ids >= 0]
            assert (used[:, 2:] > used[:, :2]).all()
            assert (used[:, 2:] <= torch.tensor([320.0, 256.0])).all()
        assert boxes == len(content["annotations"]) - crowds
        assert len(list(module.train_dataloader())) == 5
        assert module.train_classes().category_ids == tuple(range(1, 91))
