"""The data module: both formats from disk to batches, augmentation, and interrupted trainings under Lightning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from detection.data.classes import BoxClasses
from engine.data.augment import Transform
from engine.errors import InputError
from engine.reading.images import Letterbox
from engine.reading.options import Reading
from joint.data.augment import JointAugmentation
from joint.data.files import BoxFiles, MaskFiles
from joint.data.module import JointDataModule
from segmentation.data.cityscapes.files import CityscapesData
from segmentation.data.cityscapes.labels import CITYSCAPES, LABELS
from segmentation.data.classes import IGNORED
from segmentation.data.mask_folder import FolderData
from tests.engine.trainers import trainer_of
from tests.joint.conftest import COUNTS, PHOTO_COUNTS, PHOTO_HW, SIZE_HW
from tests.joint.sets import CANVAS_HW, LOADING, PHOTOS, both, two

STILL = JointAugmentation(hflip=0, scale_min=1, scale_max=1, min_visible=0)


def annotations(path: Path) -> dict[str, list[Any]]:
    """(image size, boxes xyxy and category ids without crowds) of each image id, read directly from the JSON."""
    content = json.loads(path.read_text())
    found: dict[str, list[Any]] = {i["id"]: [(i["height"], i["width"]), [], i["file_name"]] for i in content["images"]}
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        if not entry["iscrowd"]:
            found[entry["image_id"]][1].append((entry["category_id"], x, y, x + w, y + h))
    return found


def train_rows(labels: np.ndarray) -> np.ndarray:
    table = np.full(256, 255, np.uint8)
    for label in LABELS:
        table[label.label_id] = label.train_id
    return table[labels]


def whole_batches(data: JointDataModule) -> list[Any]:
    data.setup("validate")
    return list(data.val_dataloader())


class TestBoth:
    def test_validation_is_what_lies_on_disk(self, streets: Path) -> None:
        data = both(streets)
        assert data.cityscapes_scores
        assert data.segmentation_classes is CITYSCAPES
        assert data.annotation_file("val") == streets / "annotations/instances_val.json"
        (batch,) = whole_batches(data)
        known = annotations(data.annotation_file("val"))
        assert batch.images.shape == (3, 3, *CANVAS_HW)
        assert batch.images.dtype == batch.masks.dtype == torch.uint8
        assert batch.boxed.tolist() == batch.masked.tolist() == [True] * 3
        assert batch.boxed.dtype == torch.bool
        assert batch.detection().boxes_xyxy is batch.boxes_xyxy
        fields = ("images", "boxes_xyxy", "class_ids", "image_ids", "scales", "sizes_hw", "masks", "views", "certainty")
        assert batch.detection()._fields == fields
        assert batch.detection().masks is None  # of objects, which a joint network does not learn
        letterbox = Letterbox.fit(SIZE_HW, CANVAS_HW)
        height, width = letterbox.scaled_hw
        boxes_seen = 0
        for row, image_id in enumerate(batch.image_ids.tolist()):
            size_hw, boxes, name = known[image_id]
            assert tuple(batch.sizes_hw[row].tolist()) == size_hw == SIZE_HW
            kept = batch.class_ids[row] >= 0
            found = [
                (data.classes.category_ids[class_id], *box)
                for class_id, box in zip(
                    batch.class_ids[row, kept].tolist(),
                    (batch.boxes_xyxy[row, kept] / letterbox.scale).tolist(),
                    strict=True,
                )
            ]
            assert sorted(found) == [pytest.approx(box, abs=1e-3) for box in sorted(boxes)]
            boxes_seen += len(found)
            truth = str(streets / "gtFine/val" / name).replace("_leftImg8bit.png", "_gtFine_{}.png")
            rows = train_rows(np.array(Image.open(truth.format("labelIds"))))
            assert np.array_equal(batch.truth[row], rows)
            assert np.array_equal(batch.instance_ids[row], np.array(Image.open(truth.format("instanceIds"))))
            # Nearest neighbour by hand: the label under the centre of each pixel of the canvas.
            y = ((np.arange(height) + 0.5) * SIZE_HW[0] / height).astype(int)
            x = ((np.arange(width) + 0.5) * SIZE_HW[1] / width).astype(int)
            mask = batch.masks[row].numpy()
            assert np.array_equal(mask[:height, :width], rows[y][:, x])
            assert (mask[height:] == IGNORED).all()
            assert (mask[:, width:] == IGNORED).all()
            picture = Image.open(streets / "leftImg8bit/val" / name).resize((width, height), Image.Resampling.BILINEAR)
            assert np.array_equal(batch.images[row, :, :height, :width].permute(1, 2, 0).numpy(), np.array(picture))
        assert boxes_seen > 3

    def test_boxes_and_masks_stay_on_the_things_when_augmented(self, streets: Path) -> None:
        """Within a box the mask has pixels of its class; outside all boxes there is hardly a car."""
        data = both(streets, augmentation=JointAugmentation(scale_min=0.8, scale_max=1.8), steps_per_epoch=12)
        data.setup("fit")
        category = {row: data.classes.category_ids[row] for row in range(len(data.classes))}
        touched = checked = 0
        for batch in data.train_dataloader():
            assert batch.images.shape == (3, 3, *CANVAS_HW)
            assert torch.isnan(batch.scales).all()
            for row in range(3):
                mask = CITYSCAPES.label_by_class[batch.masks[row].numpy()]
                for class_id, box in zip(batch.class_ids[row].tolist(), batch.boxes_xyxy[row].tolist(), strict=True):
                    if class_id < 0:
                        continue
                    left, top, right, bottom = (round(side) for side in box)
                    inside = mask[top:bottom, left:right] == category[class_id]
                    if min(inside.shape) < 6:
                        continue
                    checked += 1
                    # A thing touches its tight box on all four sides, up to one pixel that resampling may take.
                    edges = (inside[:2].any(), inside[-2:].any(), inside[:, :2].any(), inside[:, -2:].any())
                    touched += all(edges)
        assert checked > 40
        assert touched / checked > 0.95

    def test_other_names_of_classes_follow_the_task(self, streets: Path) -> None:
        """Rows are looked up by category id and by class name in the task's lists."""
        data = both(streets)

        class Task:
            canvas_hw, fill_color, reading = (64, 64), (1, 2, 3), Reading()
            network = SimpleNamespace(takes_pictures=False)
            classes = BoxClasses(("nothing", *reversed(data.classes.names)), (1, *reversed(data.classes.category_ids)))
            segmentation_classes = type(CITYSCAPES)(tuple(reversed(CITYSCAPES.names)))

        other = JointDataModule("both", str(streets), batch_size=3, num_workers=0)
        other.trainer = trainer_of(Task)
        (mine,), (theirs,) = whole_batches(data), whole_batches(other)
        assert theirs.images.shape[-2:] == (64, 64)
        assert theirs.images[0, :, -1, -1].tolist() == [1, 2, 3]
        for own, given in zip(mine.truth, theirs.truth, strict=True):
            counted = own != IGNORED
            assert np.array_equal(given[counted], 18 - own[counted])
            assert (given[~counted] == IGNORED).all()
        for own, given in zip(mine.class_ids, theirs.class_ids, strict=True):
            names = [sorted(classes.names[row] for row in rows.tolist() if row >= 0)
                     for rows, classes in ((own, data.classes), (given, Task.classes))]  # fmt: skip
            assert names[0] == names[1]

    def test_own_folders(self, streets: Path, tmp_path: Path) -> None:
        """Images and masks by name, boxes of a COCO file; a binary mask."""
        content = json.loads((streets / "annotations/instances_train.json").read_text())
        for image in content["images"]:
            source = streets / "leftImg8bit/train" / image["file_name"]
            image["file_name"] = f"deep/{source.name}"
            for kind, suffix in (("images", ""), ("masks", "_mask")):
                target = tmp_path / kind / "deep" / f"{source.stem}{suffix}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = np.array(Image.open(source))
                Image.fromarray(picture if kind == "images" else (picture[..., 0] > 99).astype(np.uint8) * 9).save(
                    target
                )
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        folder = FolderData("images", "masks", classes=["dark", "bright"], mask_format="binary", mask_suffix="_mask")
        options: dict[str, Any] = {
            "boxes": BoxFiles(train_annotations="boxes.json"),
            "masks": MaskFiles(format="folder", folder=folder),
        }
        data = both(tmp_path, augmentation=STILL, **options)
        assert not data.cityscapes_scores
        assert not data.has("val")
        assert len(data.segmentation_classes) == 2
        data.setup("fit")
        loader = data.train_dataloader()
        assert len(loader) == COUNTS["train"] // 3
        assert data.val_dataloader() == []
        batch = next(iter(loader))
        height, width = Letterbox.fit(SIZE_HW, CANVAS_HW).scaled_hw
        red = batch.images[:, 0, :height, :width]
        bright = batch.masks[:, :height, :width] == 1
        assert (bright == (red > 99)).float().mean() > 0.9
        # A missing entry names the image.
        content["images"][2]["file_name"] = "other.png"
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        with pytest.raises(
            InputError, match=r"1 of 6 images have no entry in .*boxes.json.*the first is '.*images/deep"
        ):
            both(tmp_path, **options).setup("fit")


class TestTwo:
    def test_each_image_has_the_labels_of_its_set(self, photos: Path, streets: Path) -> None:
        data = two(photos, streets, ratio=(2.0, 1.0), steps_per_epoch=6, augmentation=STILL)
        data.setup("fit")
        known = annotations(photos / "train.json")
        seen = []
        for batch in data.train_dataloader():
            assert batch.boxed.tolist() == [True, True, False]
            assert batch.masked.tolist() == [False, False, True]
            assert (batch.class_ids[2] == -1).all()
            assert (batch.masks[:2] == IGNORED).all()
            assert (batch.masks[2] != IGNORED).any()
            for row in range(2):
                image_id = int(batch.image_ids[row])
                assert int((batch.class_ids[row] >= 0).sum()) == len(known[image_id][1])
                assert tuple(batch.sizes_hw[row].tolist()) == PHOTO_HW
                seen.append(image_id)
            assert tuple(batch.sizes_hw[2].tolist()) == SIZE_HW
        assert sorted(seen[:9]) == sorted(known)

    def test_both_tables_are_scored_in_one_run(self, photos: Path, streets: Path) -> None:
        data = two(photos, streets, batch_size=5)
        batches = whole_batches(data)
        boxed = torch.cat([batch.boxed for batch in batches])
        masked = torch.cat([batch.masked for batch in batches])
        ids = torch.cat([batch.image_ids for batch in batches])
        assert boxed.tolist() == [True] * PHOTO_COUNTS["val"] + [False] * COUNTS["val"]
        assert torch.equal(masked, ~boxed)
        assert set(ids[boxed].tolist()) == set(annotations(photos / "val.json"))
        assert ids[masked].tolist() == [0, 1, 2]
        truth = [shown for batch in batches for shown in batch.truth]
        assert [shown.shape for shown in truth] == [(0, 0)] * 4 + [SIZE_HW] * 3
        assert [i.shape for batch in batches for i in batch.instance_ids] == [(0, 0)] * 4 + [SIZE_HW] * 3
        assert data.annotation_file("val") == photos / "val.json"

    def test_one_of_them_alone(self, photos: Path, streets: Path) -> None:
        data = JointDataModule("two", masks=MaskFiles(str(streets)), ratio=(0, 1), **LOADING)
        data.setup("fit")
        assert all(not batch.boxed.any() and batch.masked.all() for batch in data.train_dataloader())
        assert sum(len(batch.masks) for batch in data.val_dataloader()) == COUNTS["val"]
        assert not data.has_boxes("val")
        no_masks = MaskFiles(cityscapes=CityscapesData((), None, None))
        files = BoxFiles(str(photos), **PHOTOS)
        data = JointDataModule("two", boxes=files, masks=no_masks, ratio=(1, 0), **LOADING)
        data.setup("fit")
        assert all(batch.boxed.all() and not batch.masked.any() for batch in data.train_dataloader())
        assert sum(len(batch.masks) for batch in data.val_dataloader()) == PHOTO_COUNTS["val"]


class TestAugmentation:
    def test_one_draw_for_picture_boxes_and_mask(self) -> None:
        """A picture whose colour is its mask's row keeps that colour; the box stays around the bright rectangle."""
        image = np.zeros((40, 60, 3), np.uint8)
        image[8:30, 10:44] = 200
        mask = (image[..., 0] > 0).astype(np.uint8)
        augmenter = JointAugmentation(vflip=0.5, rotate90=True, scale_min=0.7, scale_max=1.6).build((64, 96), (7, 7, 7))
        seen = set()
        for seed in range(40):
            torch.manual_seed(seed)
            changed = augmenter(image, np.array([[10, 8, 44, 30]], np.float32), mask)
            assert changed.mask is not None
            assert changed.image.shape == (64, 96, 3)
            bright = changed.image[..., 0] > 100
            counted = changed.mask != IGNORED
            assert (changed.image[~counted] == 7).all()
            # Resampling may move an edge by a pixel, no more.
            assert (bright[counted] != (changed.mask[counted] == 1)).mean() < 0.06
            (box,) = changed.boxes_xyxy
            rows, columns = np.nonzero(changed.mask == 1)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(box - tight).max() <= 1.0
            seen.add(tuple(box.round().tolist()))
        assert len(seen) > 30

    def test_colour_changes_the_picture_alone(self) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mask = rng.integers(0, 5, (32, 32), dtype=np.uint8)
        still = {"hflip": 0, "scale_min": 1, "scale_max": 1}
        plain = JointAugmentation(**still).build((32, 32), (0, 0, 0))
        color = JointAugmentation(**still, color=0.5, hue=0.2, extra=(Transform("GaussianBlur", {"p": 1.0}),))
        box = np.array([[1, 2, 20, 30]], np.float32)
        for augmenter, same in ((plain, True), (color.build((32, 32), (0, 0, 0)), False)):
            changed = augmenter(image, box, mask)
            assert np.array_equal(changed.image, image) == same
            assert np.array_equal(changed.mask, mask)
            assert np.allclose(changed.boxes_xyxy, box, atol=1e-4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"vflip": 2}, "vflip is 2"), ({"hflip": -1}, "hflip is -1"), ({"scale_min": 3}, "scales are 3.0 to 2.0")],
    )
    def test_refusals(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            JointAugmentation(**options)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"format": "three"}, "format 'three' is unknown"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"steps_per_epoch": 0}, "steps_per_epoch is 0"),
            ({"eval_batch_size": 0}, "eval_batch_size is 0"),
            ({"num_workers": -1}, "num_workers is -1"),
            ({"canvas_size": 0}, "canvas_size is 0"),
            ({"ratio": (0, 0)}, r"ratio is \[0.0, 0.0\]"),
            ({"ratio": (-1, 2)}, r"ratio is \[-1, 2\]"),
            ({"masks": MaskFiles(cityscapes=CityscapesData(("train", "val")))}, "trains on one split"),
        ],
    )
    def test_settings(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            JointDataModule(**options)

    def test_what_is_missing_is_named(self, photos: Path, streets: Path, tmp_path: Path) -> None:
        for kind in ("leftImg8bit", "gtFine"):
            (tmp_path / kind).symlink_to(streets / kind)
        bare = tmp_path / "annotations/instances_train.json"
        made = f"python -m joint boxes --root {tmp_path} --split train --output {bare}"
        folder = MaskFiles(format="folder", folder=FolderData("a", "b"))
        boxes = BoxFiles(str(photos), train_images="train", train_annotations="train.json")
        alone = BoxFiles(train_annotations=str(photos / "train.json"))
        nothing = MaskFiles(str(streets), cityscapes=CityscapesData((), None, None))
        some: list[tuple[JointDataModule, str, str]] = [
            (both(tmp_path), "fit", f"'{bare}' does not exist. Make it of the instance ids: {made}"),
            (both(streets, canvas_size=None), "fit", "without a model the data need a 'canvas_size'"),
            (both(tmp_path, masks=folder), "fit", "Give --data.boxes.train_annotations"),
            (two(photos, streets, boxes=alone), "fit", "no 'train_images'. Give --data.boxes.train_images"),
            (two(photos, streets, boxes=boxes, masks=folder), "fit", "no class list. Give --data.masks.folder.classes"),
            (two(photos, streets, boxes=boxes, masks=nothing), "fit", "Give --data.masks.cityscapes.train_splits"),
            (two(photos, streets, boxes=BoxFiles(), masks=nothing), "test", "Give --data.boxes.test_annotations"),
        ]
        for data, stage, message in some:
            with pytest.raises(InputError) as caught:
                data.setup(stage)
            assert message in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_a_mask_of_another_size_than_its_image(self, streets: Path, tmp_path: Path) -> None:
        shutil.copytree(streets, tmp_path / "streets")
        path = sorted((tmp_path / "streets/gtFine/val").rglob("*_labelIds.png"))[0]
        Image.new("L", (SIZE_HW[1] - 2, SIZE_HW[0]), 7).save(path)
        with pytest.raises(
            InputError, match=r"is 128x64 .width x height. as its boxes were drawn, but its mask .* is 126x64"
        ):
            whole_batches(both(tmp_path / "streets"))
        Image.new("L", SIZE_HW[::-1], 7).save(path)
        Image.new("I;16", (9, 9), 7).save(str(path).replace("labelIds", "instanceIds"))
        with pytest.raises(InputError, match=r"are 9x9 .width x height. but the mask is 128x64"):
            whole_batches(both(tmp_path / "streets"))


def test_yaml_sets_everything(streets: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(JointDataModule, "data")
    given = parser.parse_string(
        f"data: {{format: two, root: {streets}, ratio: [3, 1], canvas_size: [64, 96], boxes: {{train_images: x, "
        "train_annotations: y.json}, masks: {format: folder, folder: {classes: [a, b]}}, augmentation: {vflip: 0.5, "
        "extra: [{name: GaussianBlur}]}}"
    )
    data = parser.instantiate_classes(given).data
    assert data.canvas_size == (64, 96)
    assert data.ratio == (3, 1)
    assert data.augmentation.vflip == 0.5
    assert data.augmentation.extra == (Transform("GaussianBlur"),)
    assert list(data.segmentation_classes.names) == ["a", "b"]
    with pytest.raises(InputError, match=r"y\.json"):
        _ = data.classes


@pytest.mark.real
def test_nuclei(real_data: Path) -> None:
    kinds = (("images", "images"), ("masks", "instances"))
    split = {f"{name}_{what}": place for name in ("train", "val") for what, place in kinds}
    split |= {f"{name}_list": f"instances_{name}.json" for name in ("train", "val")}
    folder = FolderData(**split, classes=["background", "nucleus"], mask_format="binary")  # type: ignore[arg-type]
    boxes = BoxFiles(train_annotations="instances_train.json", val_annotations="instances_val.json")
    data = both(
        real_data / "dsb2018_nuclei", boxes=boxes, masks=MaskFiles(format="folder", folder=folder), canvas_size=256
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.boxed.all()
    assert batch.masked.all()
    inside = total = 0
    for mask, boxes_xyxy, class_ids in zip(batch.masks, batch.boxes_xyxy, batch.class_ids, strict=True):
        covered = torch.zeros_like(mask, dtype=torch.bool)
        for left, top, right, bottom in boxes_xyxy[class_ids >= 0].round().int().tolist():
            covered[top:bottom, left:right] = True
        inside += int((covered & (mask == 1)).sum())
        total += int((mask == 1).sum())
    assert inside / total > 0.95
