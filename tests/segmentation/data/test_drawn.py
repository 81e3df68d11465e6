"""Objects that annotation tools drew as label maps: against the COCO API, by hand, and one set in every format."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from engine.annotations.shapes import Shape, box
from engine.errors import InputError
from segmentation.data.classes import IGNORED
from segmentation.data.drawn.drawing import drawn
from segmentation.data.drawn.masks import DrawnData, read_drawn
from segmentation.data.mask_folder import FolderData, MaskFolder
from segmentation.data.masks import MaskReader
from segmentation.data.module import SegmentationDataModule
from tests.detection.formats.tool_sets import cvat_xml
from tests.segmentation.small import MODEL, command

SIZE = (40, 60)  # height and width of every image
NAMES = ("bolt", "nut")
# Two objects that lie on each other, of whole pixels, so that no rasteriser has a choice: left, top, right, bottom.
OBJECTS = {
    "a.png": (("nut", 5, 5, 30, 25), ("bolt", 20, 10, 50, 30)),
    "b.png": (("bolt", 0, 0, 10, 40),),
    "c.png": (),
}
SPLITS = {"train": ("a.png", "c.png"), "val": ("b.png",)}


def expected(name: str, names: tuple[str, ...] = ("background", *NAMES)) -> np.ndarray:
    """The label map of an image, by hand."""
    rows = np.zeros(SIZE, np.uint8)
    for label, left, top, right, bottom in OBJECTS[name]:
        rows[top:bottom, left:right] = names.index(label)
    return rows


def ring(corners: tuple[int, ...]) -> list[list[int]]:
    left, top, right, bottom = corners
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_images(root: Path) -> None:
    for split, names in SPLITS.items():
        (root / split).mkdir(parents=True)
        for name in names:
            pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)


def coco(names: tuple[str, ...], kind: str) -> dict[str, Any]:
    annotations = []
    for number, name in enumerate(names, 1):
        for label, *corners in OBJECTS[name]:
            left, top, right, bottom = corners
            pixels = np.zeros(SIZE, np.uint8, order="F")
            pixels[top:bottom, left:right] = 1
            packed = coco_mask.encode(pixels)
            flat = pixels.ravel(order="F")
            runs = np.diff(np.flatnonzero(np.diff(flat)), prepend=-1, append=flat.size - 1).tolist()
            segmentation: Any = {
                "polygon": [[value for point in ring(tuple(corners)) for value in point]],
                "packed": {"size": list(SIZE), "counts": packed["counts"].decode()},
                "runs": {"size": list(SIZE), "counts": [0, *runs] if flat[0] else runs},
            }[kind]
            entry = {"image_id": number, "category_id": NAMES.index(label) + 1, "segmentation": segmentation}
            annotations.append(entry | {"id": len(annotations) + 1, "iscrowd": 0, "bbox": [1, 1, 1, 1]})
    return {
        "images": [{"id": i, "file_name": n, "height": SIZE[0], "width": SIZE[1]} for i, n in enumerate(names, 1)],
        "categories": [{"id": i, "name": n} for i, n in enumerate(NAMES, 1)],
        "annotations": annotations,
    }


def labelme(name: str, masks: bool) -> dict[str, Any]:
    shapes = []
    for label, *corners in OBJECTS[name]:
        left, top, right, bottom = corners
        if masks:
            file = io.BytesIO()
            Image.fromarray(np.full((bottom - top, right - left), 255, np.uint8)).save(file, "PNG")
            points = [[left, top], [right - 1, bottom - 1]]
            more = {"shape_type": "mask", "mask": base64.b64encode(file.getvalue()).decode(), "points": points}
        else:
            more = {"shape_type": "polygon", "points": ring(tuple(corners))}
        shapes.append({"label": label, "group_id": None, **more})
    return {"version": "5", "shapes": shapes, "imagePath": name, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}


def cvat(names: tuple[str, ...], masks: bool) -> str:
    body = ""
    for name in names:
        shapes = ""
        for order, (label, left, top, right, bottom) in enumerate(OBJECTS[name]):
            size = (right - left) * (bottom - top)
            common = f'label="{label}" z_order="{order}"'
            points = ";".join(f"{x},{y}" for x, y in ring((left, top, right, bottom)))
            shape = f'<polygon {common} points="{points}"/>'
            if masks:
                place = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
                shape = f'<mask {common} rle="0, {size}" {place}/>'
            shapes = shape + shapes  # in the wrong order, which z_order corrects
        body += f'<image id="0" name="{name}" width="{SIZE[1]}" height="{SIZE[0]}">{shapes}</image>'
    return cvat_xml(body)


def via(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        f"{name}1": {
            "filename": name,
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": [x for x, _ in ring(tuple(corners))],
                        "all_points_y": [y for _, y in ring(tuple(corners))],
                    },
                    "region_attributes": {"label": label},
                }
                for label, *corners in OBJECTS[name]
            ],
        }
        for name in names
    }


def studio(names: tuple[str, ...]) -> list[dict[str, Any]]:
    sides = {"original_width": SIZE[1], "original_height": SIZE[0]}
    return [
        {
            "data": {"image": name},
            "annotations": [
                {
                    "result": [
                        sides | {
                            "type": "polygonlabels",
                            "value": {
                                "points": [[x / SIZE[1] * 100, y / SIZE[0] * 100] for x, y in ring(tuple(corners))],
                                "polygonlabels": [label],
                            },
                        }
                        for label, *corners in OBJECTS[name]
                    ]
                }
            ],
        }
        for name in names
    ]  # fmt: skip


def yolo(name: str) -> str:
    rows = []
    for label, *corners in OBJECTS[name]:
        numbers = [value for x, y in ring(tuple(corners)) for value in (x / SIZE[1], y / SIZE[0])]
        rows.append(" ".join(map(str, [NAMES.index(label), *numbers])))
    return "\n".join(rows)


def write(root: Path, kind: str) -> Path:
    """The set in a format."""
    word, _, how = kind.partition(" ")
    write_images(root)
    for split, names in SPLITS.items():
        folder = root / split
        if word == "coco":
            (folder / "_annotations.coco.json").write_text(json.dumps(coco(names, how)))
        elif word == "labelme":
            for name in names:
                (folder / f"{name[:-4]}.json").write_text(json.dumps(labelme(name, how == "masks")))
        elif word == "cvat":
            (folder / "annotations.xml").write_text(cvat(names, how == "masks"))
        elif word == "yolo":
            (folder / "images").mkdir()
            (folder / "labels").mkdir()
            for name in names:
                (folder / name).rename(folder / "images" / name)
                (folder / "labels" / f"{name[:-4]}.txt").write_text(yolo(name))
            (root / "data.yaml").write_text(f"train: train/images\nval: val/images\nnames: {list(NAMES)}\n")
        else:
            (folder / "labels.json").write_text(json.dumps(via(names) if word == "via" else studio(names)))
    return root


KINDS = (
    *("coco polygon", "coco packed", "coco runs", "labelme polygons", "labelme masks"),
    *("cvat polygons", "cvat masks", "via", "label_studio", "yolo"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_one_set_in_every_format(kind: str, tmp_path: Path) -> None:
    found = read_drawn(write(tmp_path, kind), DrawnData())
    assert list(found.splits) == ["train", "val"]
    assert found.lines[0].endswith(", 3 images, 3 objects (train 2, val 1)")
    for split, images in SPLITS.items():
        files = found.splits[split]
        order = ("background", *(("wheel", "bolt", "nut") if kind.startswith("cvat") else NAMES))
        assert files.classes.names == order
        assert [pair.image.name for pair in files.pairs] == list(images)
        for pair in files.pairs:
            np.testing.assert_array_equal(files.read_mask(pair.mask), expected(pair.image.name, order))


points = st.tuples(st.floats(-30, 90), st.floats(-30, 70))
polygons = st.lists(st.lists(points, min_size=3, max_size=8), min_size=1, max_size=3)


@settings(deadline=None)
@given(polygons)
def test_polygons_are_filled_as_by_the_coco_api(outlines: list[list[tuple[float, float]]]) -> None:
    flat = [[value for point in outline for value in point] for outline in outlines]
    whole = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *SIZE)))
    shape = Shape("a", "polygon", tuple(map(tuple, flat)))
    np.testing.assert_array_equal(drawn([shape], {"a": 1}, SIZE, 0), whole)


def test_what_lies_above_and_what_is_not_counted() -> None:
    small, large = box("small", (10, 10, 14, 14)), box("large", (5, 5, 30, 30))
    rows = {"small": 1, "large": 2}
    assert drawn([small, large], rows, SIZE, 0)[11, 11] == 2
    assert drawn([large, small], rows, SIZE, 0)[11, 11] == 1
    crowd = box("unknown", (0, 0, 20, 20), crowd=True)
    found = drawn([large, crowd], rows, SIZE, IGNORED)
    assert (found == IGNORED).sum() == found.size - (found == 2).sum()
    assert (found == 2).sum() == 25 * 25 - 15 * 15
    outline = (0.0, 0.0, 20.0, 0.0, 20.0, 20.0, 0.0, 20.0)
    hole = (5.0, 5.0, 10.0, 5.0, 10.0, 10.0, 5.0, 10.0)
    assert (drawn([Shape("small", "polygon", (outline,), (hole,))], rows, SIZE, 0) == 1).sum() == 375
    with pytest.raises(InputError, match="far outside of its image of 60 x 40"):
        drawn([box("small", (0, 0, 1e8, 2))], rows, SIZE, 0)


def test_options(tmp_path: Path) -> None:
    root = write(tmp_path, "coco polygon")
    files = read_drawn(root, DrawnData(background=None, classes=("nut", "bolt"))).splits["train"]
    assert files.classes.names == ("nut", "bolt")
    rows = files.read_mask(files.pairs[0].mask)
    assert rows[0, 0] == IGNORED
    assert (rows[6, 6], rows[29, 49]) == (0, 1)
    path = root / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"].reverse()
    content["annotations"][0]["segmentation"][0] = [10, 8, 14, 8, 14, 12, 10, 12]  # the bolt within the nut, before it
    path.write_text(json.dumps(content))
    later, smaller = (read_drawn(root, DrawnData(overlap=how)).splits["train"] for how in ("later", "smaller"))
    assert later.read_mask(later.pairs[0].mask)[9, 11] == 2
    assert smaller.read_mask(smaller.pairs[0].mask)[9, 11] == 1


def refused(message: str, root: Path, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_drawn(root, DrawnData(**options))
    assert "\n" not in str(error.value)


def test_refusals(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "coco polygon")
    refused("'nut', which --data.drawn.classes lacks. Did you mean 'nuts'", root, classes=("bolt", "nuts"))
    refused("objects of the class 'nut', which is the name of pixels", root, background="nut")
    refused("has the splits train, val already", root, split="0.5/0.5")
    refused("Give --data.drawn.split too", root, group="x")
    refused("no labels as CVAT", root, format="cvat")
    path = root / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"segmentation": {"size": [40, 60], "counts": [5, 5]}}, "do not fill its 40 x 60"),
        ({"segmentation": {"size": [40, 60], "counts": ""}}, "do not fill its 40 x 60"),
        ({"segmentation": {"size": [40, 60], "counts": "oooo"}}, "do not fill its 40 x 60"),
        ({"segmentation": {"size": [100000, 100000], "counts": [5, 9999999995]}}, "the limit is"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e99]]}, "two finite numbers"),
        ({"category_id": 9}, "does not list"),
    ):
        changed = [content["annotations"][0] | change, *content["annotations"][1:]]
        path.write_text(json.dumps(content | {"annotations": changed}))
        refused(message, root)
    path.write_text(json.dumps(content | {"annotations": []}))
    (root / "val/_annotations.coco.json").write_text(json.dumps(coco(("b.png",), "polygon") | {"annotations": []}))
    refused("no object is drawn", root)
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}]
    path.write_text(json.dumps(content | {"annotations": boxes}))
    refused("boxes alone, which are no masks", root)


def test_images_that_are_not_there(tmp_path: Path) -> None:
    root = write(tmp_path, "labelme polygons")
    (root / "train/c.png").unlink()
    refused("1 of 2 images of .* are not there", root)
    files = read_drawn(root, DrawnData(), leave_out=True).splits["train"]
    assert len(files.pairs) == len(files.unpaired) == 1


def test_crops_are_those_of_mask_files(tmp_path: Path) -> None:
    """Training and validation see the same pixels and rows as from PNG masks of the same objects."""
    root = write(tmp_path, "coco packed")
    for split, names in SPLITS.items():
        (root / "masks" / split).mkdir(parents=True)
        for name in names:
            Image.fromarray(expected(name)).save(root / "masks" / split / name)
    paths = {f"{split}_images": split for split in SPLITS} | {f"{split}_masks": f"masks/{split}" for split in SPLITS}
    common: dict[str, Any] = {"crop_size": 36, "batch_size": 2, "num_workers": 0}
    one = SegmentationDataModule("drawn", str(root), **common)
    other = SegmentationDataModule(
        "folder", str(root), folder=FolderData(**paths, classes=["background", *NAMES]), **common
    )
    assert one.classes == other.classes
    assert [one.has(split) for split in ("train", "val", "test")] == [True, True, False]
    for split in SPLITS:
        (drawn_images,), (files,) = one.whole_sets(split), other.whole_sets(split)  # type: ignore[arg-type]
        assert len(drawn_images) == len(files)
        for first, second in zip(drawn_images, files, strict=True):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.class_ids, second.class_ids)
    with pytest.raises(InputError, match="has no test, only train, val"):
        one.files("test")


@pytest.mark.slow
def test_the_command_trains_on_polygons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set", "cvat polygons")
    config = {"model": MODEL, "ema": {"decay": 0}, "data": {"format": "drawn", "root": "set", "crop_size": 33}}
    config["data"] |= {"batch_size": 2, "num_workers": 0}  # type: ignore[operator]
    config["trainer"] = {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = command("fit --config config.json --run.name r")
    assert said.code == 0, said.err
    assert "CVAT, 3 images, 3 objects (train 2, val 1)" in said.err + said.out


@pytest.mark.real
def test_nuclei_are_their_instances(real_data: Path) -> None:
    """Run lengths of 428 and 107 images: exactly the pixels that the instance files mark."""
    root = real_data / "dsb2018_nuclei"
    found = read_drawn(root, DrawnData())
    assert {split: len(files.pairs) for split, files in found.splits.items()} == {"train": 428, "val": 107}
    for split, files in found.splits.items():
        folder = MaskFolder(
            root / "images",
            root / "instances",
            MaskReader(files.classes, "binary"),
            list_file=root / f"instances_{split}.json",
        )
        for pair, other in zip(files.pairs, folder.pairs, strict=True):
            assert pair.image == other.image
            np.testing.assert_array_equal(files.read_mask(pair.mask), folder.read_mask(other.mask))
