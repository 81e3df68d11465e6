"""The forms of a generated set agree with each other and with the readers and tools of COCO and Cityscapes."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from engine.errors import InputError
from engine.scenes.generate import DEFAULT_CLASSES, render_scene, write_scenes
from engine.scenes.placing import lay_out

SIZE = (128, 224)
COUNTS = {"train": 14, "val": 6}
# labels.py of cityscapesScripts: name -> id of every label that may be painted, and the classes with instances.
CITYSCAPES_IDS = {
    "unlabeled": 0, "ego vehicle": 1, "static": 4, "dynamic": 5, "ground": 6, "road": 7, "sidewalk": 8, "parking": 9,
    "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19, "traffic sign": 20, "vegetation": 21,
    "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31,
    "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
WITH_INSTANCES = {24, 25, 26, 27, 28, 31, 32, 33}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streets")
    assert write_scenes(folder, COUNTS, SIZE, seed=3, classes=(*DEFAULT_CLASSES, "pole"), workers=1)
    return folder


def each_scene(root, split):
    """For each image: its COCO record, its annotations, and the three files of its Cityscapes truth."""
    content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    for image in content["images"]:
        stem = root / "gtFine" / split / image["file_name"].replace("_leftImg8bit.png", "_gtFine")
        labels = np.array(Image.open(f"{stem}_labelIds.png"))
        instances = np.array(Image.open(f"{stem}_instanceIds.png"))
        polygons = json.loads(Path(f"{stem}_polygons.json").read_text())
        yield image, [a for a in content["annotations"] if a["image_id"] == image["id"]], labels, instances, polygons


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_folders_and_pixel_formats_are_those_of_cityscapes(root):
    for split, count in COUNTS.items():
        pictures = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(pictures) == count
        for picture in pictures:
            assert picture.name.startswith(f"{picture.parent.name}_")
            stem = root / "gtFine" / split / picture.parent.name / picture.name.replace("_leftImg8bit.png", "_gtFine")
            with Image.open(picture) as image:
                assert (image.mode, image.size) == ("RGB", SIZE[::-1])
            with Image.open(f"{stem}_labelIds.png") as image:
                assert (image.mode, image.size) == ("L", SIZE[::-1])
            with Image.open(f"{stem}_instanceIds.png") as image:
                assert (image.mode, image.size) == ("I;16", SIZE[::-1])
    train, val = ({p.name for p in (root / "leftImg8bit" / split).iterdir()} for split in COUNTS)
    assert train.isdisjoint(val)


def test_polygons_painted_in_order_give_both_maps(root):
    """The oracle repeats json2labelImg.py and json2instanceImg.py of cityscapesScripts with Pillow."""
    for split in COUNTS:
        for _, _, labels, instances, content in each_scene(root, split):
            size = (content["imgWidth"], content["imgHeight"])
            label_image, instance_image = Image.new("L", size, 0), Image.new("I", size, 0)
            counts = dict.fromkeys(WITH_INSTANCES, 0)
            for thing in content["objects"]:
                group = thing["label"] not in CITYSCAPES_IDS and thing["label"].endswith("group")
                label_id = CITYSCAPES_IDS[thing["label"].removesuffix("group") if group else thing["label"]]
                instance_id = label_id
                if label_id in WITH_INSTANCES and not group:
                    instance_id = label_id * 1000 + counts[label_id]
                    counts[label_id] += 1
                corners = [tuple(point) for point in thing["polygon"]]
                ImageDraw.Draw(label_image).polygon(corners, fill=label_id)
                ImageDraw.Draw(instance_image).polygon(corners, fill=instance_id)
            np.testing.assert_array_equal(labels, np.array(label_image))
            np.testing.assert_array_equal(instances, np.array(instance_image))


def test_label_and_instance_ids_agree_and_leave_nothing_unlabelled(root):
    for split in COUNTS:
        for _, _, labels, instances, _ in each_scene(root, split):
            np.testing.assert_array_equal(np.where(instances >= 1000, instances // 1000, instances), labels)
            assert set(np.unique(labels[instances >= 1000])) <= WITH_INSTANCES
            assert labels.min() > 0


def test_coco_instances_are_those_of_the_instance_map(root):
    """The number of instances is the same, and each has the box, area and decoded mask that NumPy finds in the PNG."""
    singles = 0
    for split in COUNTS:
        for _, entries, labels, instances, _ in each_scene(root, split):
            expected = {}
            for value in np.unique(instances):
                if value >= 1000 or value in WITH_INSTANCES:
                    mask = instances == value
                    label, crowd = (value // 1000, 0) if value >= 1000 else (value, 1)
                    expected[(label, crowd, *box_of(mask), mask.sum())] = mask
            found = [a for a in entries if a["category_id"] in WITH_INSTANCES]
            assert len(found) == len(expected)
            singles += len(found)
            for annotation in found:
                key = (annotation["category_id"], annotation["iscrowd"], *annotation["bbox"], annotation["area"])
                decoded = coco_mask.decode(annotation["segmentation"]).astype(bool)
                np.testing.assert_array_equal(decoded, expected[key])
                assert annotation["area"] >= 20
            for annotation in entries:
                decoded = coco_mask.decode(annotation["segmentation"]).astype(bool)
                assert (labels[decoded] == annotation["category_id"]).all()
                assert annotation["bbox"] == box_of(decoded)
    assert singles > 60


def test_masks_of_signs_lights_and_poles_cover_their_labels(root):
    for _, entries, labels, _, _ in each_scene(root, "train"):
        for category in (17, 19, 20):
            covered = np.zeros(SIZE, int)
            for annotation in entries:
                if annotation["category_id"] == category:
                    covered += coco_mask.decode(annotation["segmentation"])
            np.testing.assert_array_equal(covered, labels == category)


def test_pycocotools_loads_the_file(root, capsys):
    coco = COCO(str(root / "annotations" / "instances_train.json"))
    capsys.readouterr()
    ids = {category["name"]: category["id"] for category in coco.dataset["categories"]}
    assert ids == {name: CITYSCAPES_IDS[name] for name in (*DEFAULT_CLASSES, "pole")}
    assert len(coco.anns) == len(coco.dataset["annotations"]) > 0
    assert len(coco.imgs) == COUNTS["train"]
    for image in coco.dataset["images"]:
        assert (root / "leftImg8bit" / "train" / image["file_name"]).exists()
        assert (image["height"], image["width"]) == SIZE
    annotation = coco.dataset["annotations"][0]
    assert coco.annToMask(annotation).sum() == annotation["area"]


def test_groups_are_crowds_in_both_forms(tmp_path):
    write_scenes(tmp_path, {"train": 40}, (96, 192), seed=5, workers=1)
    crowds = 0
    for _, entries, _, instances, polygons in each_scene(tmp_path, "train"):
        groups = [thing["label"] for thing in polygons["objects"] if thing["label"].endswith("group")]
        found = [a for a in entries if a["iscrowd"]]
        assert groups == ["persongroup"] * len(found)
        assert (instances == 24).any() == bool(found)
        crowds += len(found)
    assert crowds > 0


@pytest.mark.parametrize("workers", [2])
def test_bytes_do_not_depend_on_workers_or_time(root, tmp_path, workers):
    write_scenes(tmp_path, COUNTS, SIZE, seed=3, classes=(*DEFAULT_CLASSES, "pole"), workers=workers)
    assert digests(tmp_path) == digests(root)


def test_more_scenes_keep_the_first_ones_and_no_two_are_equal(root, tmp_path):
    write_scenes(tmp_path, {"train": 3, "val": 3}, SIZE, seed=3, workers=1)
    pictures = {k: v for k, v in digests(tmp_path).items() if "leftImg8bit" in k}
    assert pictures.items() <= digests(root).items()
    assert len(set(pictures.values())) == 6


def test_seeds_give_other_scenes():
    first, again, other = render_scene(1, (64, 96)), render_scene(1, (64, 96)), render_scene(2, (64, 96))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.objects == again.objects
    assert (first.image != other.image).mean() > 0.5


@pytest.mark.parametrize("size_hw", [(64, 64), (64, 257), (300, 80), (255, 511)])
def test_any_size(size_hw):
    for seed in range(4):
        scene = render_scene(seed, size_hw)
        assert scene.image.shape == (*size_hw, 3)
        assert scene.label_ids.shape == scene.instance_ids.shape == scene.object_numbers.shape == size_hw
        assert scene.image.std() > 5
        for thing in scene.objects:
            x, y = np.array(thing.polygon).T
            assert x.min() >= 0
            assert y.min() >= 0
            assert x.max() < size_hw[1]
            assert y.max() < size_hw[0]


def test_every_class_and_light_occurs_and_colour_alone_does_not_tell_cars():
    """A colour histogram fitted to the pixels of some scenes must not find the cars of others."""
    seen, means, codes, cars = set(), [], [], []
    for seed in range(60):
        scene = render_scene(seed, (96, 192))
        seen |= {thing.label.removesuffix("group") for thing in scene.objects}
        means.append(scene.image.mean())
        coarse = (scene.image >> 4).astype(np.int64) @ np.array([256, 16, 1])
        codes.append(coarse.ravel())
        cars.append((scene.label_ids == 26).ravel())
    assert set(DEFAULT_CLASSES) | {"pole", "building", "vegetation", "fence", "static", "wall", "terrain"} <= seen
    assert max(means) > 1.7 * min(means)
    fit_codes, fit_cars = np.concatenate(codes[:40]), np.concatenate(cars[:40])
    share = np.bincount(fit_codes, fit_cars, 4096) / np.maximum(np.bincount(fit_codes, minlength=4096), 1)
    truth = np.concatenate(cars[40:])
    scores = share[np.concatenate(codes[40:])]
    best = max(((guess := scores > t) & truth).sum() / (guess | truth).sum() for t in (0.1, 0.2, 0.3, 0.4, 0.5))
    assert best < 0.35


def test_picture_lies_exactly_on_its_truth():
    """Edges of the picture are strongest at the outlines, and weaker at the outlines moved by two pixels."""
    for seed in range(8):
        scene = render_scene(seed, (160, 320))
        step = np.abs(np.diff(scene.image.mean(axis=2), axis=1))
        border = np.diff(scene.object_numbers.astype(int), axis=1) != 0
        strength = {shift: step[np.roll(border, shift, axis=1)].mean() for shift in (-2, 0, 2)}
        assert strength[0] > 1.5 * max(strength[-2], strength[2])


def test_who_walks_behind_a_vehicle_is_painted_before_it():
    """The oracle walks along the line of sight, seen from above, and asks whether it enters the vehicle's rectangle."""
    pairs = 0
    for seed in range(150):
        _, things = lay_out(Random(seed), (160, 320), dusk=False)
        people = [(place, t) for place, t in enumerate(things) if t.label == "person"]
        vehicles = [(place, t) for place, t in enumerate(things) if t.label in ("car", "truck", "bus", "train")]
        for (person_at, person), (vehicle_at, vehicle) in itertools.product(people, vehicles):
            way = np.linspace(0, 1, 400)[:, None] * (person.x, person.z)
            inside = np.abs(way - (vehicle.x, vehicle.z)) < vehicle.footprint
            if inside.all(axis=1).any():
                pairs += 1
                assert person_at < vehicle_at
    assert pairs > 40


def test_a_complete_set_is_not_written_again(tmp_path):
    counts = {"train": 2}
    assert write_scenes(tmp_path, counts, (64, 96), workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert not write_scenes(tmp_path, counts, (64, 96), workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    lost = next(tmp_path.rglob("*_instanceIds.png"))
    content = lost.read_bytes()
    lost.unlink()
    assert write_scenes(tmp_path, counts, (64, 96), workers=1)
    assert lost.read_bytes() == content


def test_an_interrupted_set_is_written_again(tmp_path):
    write_scenes(tmp_path, {"train": 2}, (64, 96), workers=1)
    expected = digests(tmp_path)
    manifest = tmp_path / "scenes.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    assert write_scenes(tmp_path, {"train": 2}, (64, 96), workers=1)
    assert digests(tmp_path) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, r"seed 0"),
        ({"size_hw": (64, 128)}, r"size_hw \[64, 96\]"),
        ({"counts": {"train": 2}}, r"counts \{'train': 1\}"),
        ({"classes": ("car",)}, "classes"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(tmp_path, changed, message):
    settings = {"counts": {"train": 1}, "size_hw": (64, 96), "seed": 0, "workers": 1}
    write_scenes(tmp_path, **settings)
    before = digests(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        write_scenes(tmp_path, **(settings | changed))
    assert "Give another folder" in str(caught.value)
    assert digests(tmp_path) == before


def test_a_folder_of_real_data_is_not_touched(tmp_path):
    (tmp_path / "leftImg8bit").mkdir()
    with pytest.raises(InputError, match=r"no scenes\.json describes"):
        write_scenes(tmp_path, {"train": 1}, (64, 96), workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["leftImg8bit"]


def test_a_broken_manifest_is_named(tmp_path):
    for content in ("{", "[]", '{"settings": {}}'):
        (tmp_path / "scenes.json").write_text(content)
        with pytest.raises(InputError, match="not the description"):
            write_scenes(tmp_path, {"train": 1}, (64, 96), workers=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_hw": (63, 96)}, "63x96.*from 64"),
        ({"size_hw": (64, 9000)}, "64x9000.*to 8192"),
        ({"counts": {"trian": 1}}, "no split 'trian'.*Did you mean 'train'"),
        ({"counts": {"train": -1}}, "-1 scenes of 'train'"),
        ({"counts": {"train": 0}}, "no scene is asked for"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"classes": ("cars",)}, "no boxes of 'cars'.*Did you mean 'car'"),
        ({"classes": ()}, "Name each class once"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        write_scenes(tmp_path / "new", **({"counts": {"train": 1}, "size_hw": (64, 96), "workers": 1} | settings))
    assert not (tmp_path / "new").exists()


def run(*arguments):
    command = [sys.executable, "-m", "engine.scenes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)


def test_command_line(tmp_path):
    small = ("--train", 2, "--val", 1, "--height", 64, "--width", 96)
    done = run(tmp_path / "set", *small)
    assert done.returncode == 0, done.stderr
    assert "2 train, 1 val scenes of 64x96" in done.stdout
    assert len(list((tmp_path / "set" / "leftImg8bit").rglob("*.png"))) == 3
    for wrong, message in (
        (("--seed", 4), "seed 0"),
        (("--trian", 4), "Did you mean 'train'"),
        (("--val", "some"), "some"),
    ):
        refused = run(tmp_path / "set", *small, *wrong)
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert refused.stderr.startswith("error: ")
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_no_torch_is_imported():
    code = (
        "import sys; from engine.scenes.generate import render_scene; "
        "render_scene(0, (64, 64)); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    assert done.stdout.strip() == "False"
