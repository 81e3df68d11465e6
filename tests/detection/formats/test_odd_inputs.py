"""Odd but real files: read as their tools meant them, or refused in one line that says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detection.formats.found import FoundSet, read_set
from engine.errors import InputError
from tests.detection.formats.sets import coco, voc_xml, write_csv, write_images, write_voc, write_yolo

TRAIN = ("a1.png", "a2.png")


def coco_set(root: Path, change: Any = None, names: tuple[str, ...] = TRAIN, file: str = "set.json") -> Path:
    """A COCO set of two images, changed by a function."""
    content = coco(names)
    content = content if change is None else (change(content) or content)
    write_images(root, names)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    return root


def yolo_set(root: Path, row: str = "0 0.5 0.5 0.25 0.5", yaml: str = "names: [a, b]\ntrain: images\n") -> Path:
    """A YOLO set of one image of 128 x 96 pixels."""
    write_images(root / "images", ("a1.png",))
    (root / "labels").mkdir()
    (root / "labels/a1.txt").write_text(row)
    if yaml:
        (root / "data.yaml").write_text(yaml)
    return root


def voc_set(root: Path, xml: str, image: str = "a1.png") -> Path:
    """A VOC set of one image."""
    write_images(root, (image,))
    (root / f"{image[:-4]}.xml").write_text(xml)
    return root


def corners(found: FoundSet) -> list[list[float]]:
    """Left, top, right and bottom of all boxes."""
    boxes = [box for table in found.splits.values() for box in table.boxes_xywh.tolist()]
    return [[x, y, x + w, y + h] for x, y, w, h in boxes]


def refused(root: Path, *parts: str) -> None:
    """The set is refused in one short line with these parts."""
    with pytest.raises(InputError) as error:
        read_set(root)
    text = str(error.value).replace(str(root), "ROOT")
    assert "\n" not in text
    assert len(text) < 260
    for part in parts:
        assert part in text


def renamed(prefix: str) -> Any:
    """A change of COCO's file names."""

    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = prefix + image["file_name"]

    return change


PREFIXES = ("", "images/", "C:\\sets\\mine\\", "/data/mine/x/", "https://host/a/", "../../etc/")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_coco_names_with_folders_are_found_in_the_set(prefix: str, tmp_path: Path) -> None:
    table = read_set(coco_set(tmp_path, renamed(prefix))).splits["all"]
    assert [table.image_path(place) for place in range(2)] == [tmp_path / name for name in TRAIN]


def test_no_name_leads_out_of_the_set(tmp_path: Path) -> None:
    write_images(tmp_path, ("b1.png",))
    inner = coco_set(tmp_path / "in", lambda c: c["images"][0].update(file_name="../b1.png"))
    table = read_set(inner).splits["all"]
    assert table.image_path(0) == inner / "b1.png"
    assert not table.image_path(0).exists()


def test_coco_names_that_two_images_have(tmp_path: Path) -> None:
    root = coco_set(tmp_path, renamed("x/"), file="labels/set.json")
    write_images(root / "p", TRAIN)
    refused(root, "may be any of 2 images")


def test_one_name_in_each_split_and_a_mask_of_the_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        coco_set(tmp_path / "x", file=f"{split}.json")
        write_images(tmp_path / "x/images" / split, TRAIN)
        write_images(tmp_path / "x/masks" / split, TRAIN)
    for name in TRAIN:
        (tmp_path / "x" / name).unlink()
    found = read_set(tmp_path / "x")
    for split in ("train", "val"):
        assert found.splits[split].image_path(1) == tmp_path / "x/images" / split / "a2.png"


def test_roboflow_coco(tmp_path: Path) -> None:
    def roboflow(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category["supercategory"] = "parts"
        content["categories"].insert(0, {"id": 0, "name": "parts", "supercategory": "none"})

    for split in ("train", "valid"):
        coco_set(tmp_path / split, roboflow, file="_annotations.coco.json")
    found = read_set(tmp_path)
    assert found.line() == "COCO, 4 images, 3 classes, 6 boxes (train 2, val 2)"
    assert found.splits["val"].classes.category_ids == (1, 2, 3)
    assert "Roboflow" in found.notes[0]


def test_coco_without_optional_fields(tmp_path: Path) -> None:
    def bare(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"], annotation["id"]
        for image in content["images"]:
            del image["width"], image["height"]

    table = read_set(coco_set(tmp_path, bare)).splits["all"]
    assert table.areas.tolist() == [2000, 12288, 800]
    assert not table.sizes_hw.any()


def test_coco_masks_alone_give_boxes(tmp_path: Path) -> None:
    runs = {"size": [96, 128], "counts": [96 * 2 + 5, 10, 86, 10, 96 * 128 - 96 * 2 - 5 - 106]}

    def masks(content: dict[str, Any]) -> None:
        for annotation, shape in zip(
            content["annotations"], ([[1, 2, 9, 2, 9, 8.5]], [3, 4, 7, 4, 7, 9], runs), strict=True
        ):
            del annotation["bbox"]
            annotation["segmentation"] = shape

    found = read_set(coco_set(tmp_path, masks))
    assert corners(found) == [[1, 2, 9, 8.5], [3, 4, 7, 9], [2, 5, 4, 15]]
    assert found.notes == ("3 annotations without a box got the box around their mask",)


def fractions(content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.1, 0.2, 0.3, 0.4]


def as_corners(content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        annotation["bbox"] = [40, 40, 79, 63] if annotation["image_id"] == 2 else [50, 50, 127, 95]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (fractions, ["all boxes lie within 0 and 1", "multiply"]),
        (as_corners, ["most boxes end outside"]),
        (lambda c: [{"image_id": 1, "category_id": 1, "bbox": [1], "score": 1}], ["COCO results", "detections"]),
        (lambda c: {k: c[k] for k in ("images", "annotations")}, ["COCO captions"]),
        (lambda c: c["annotations"][0].pop("bbox") and None, ["neither a 'bbox' nor a mask"]),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]), ["width and height of at least 0"]),
        (lambda c: {"items": [], "categories": {}}, ["Datumaro", "Export the set as"]),
        (lambda c: {"nothing": 1}, ["no labels that are known"]),
    ],
)  # fmt: skip
def test_coco_refused(change: Any, parts: list[str], tmp_path: Path) -> None:
    refused(coco_set(tmp_path, change), *parts)


def test_voc_counts_from_one_or_from_zero(tmp_path: Path) -> None:
    own = read_set(voc_set(tmp_path / "own", voc_xml("a1.png")))
    assert corners(own) == [[10, 20, 50, 70], [0, 0, 128, 96]]
    tool = voc_xml("a1.png", first=0, database="Unknown")
    assert corners(read_set(voc_set(tmp_path / "tool", tool))) == corners(own)
    label_img = (
        voc_xml("a1.png", 0, "Unknown").replace(">0</", ">1</").replace("</source>", "</source><path>C:\\a</path>")
    )
    assert corners(read_set(voc_set(tmp_path / "img", label_img))) == [[10, 20, 50, 70], [1, 1, 128, 96]]
    unknown = voc_xml("a1.png", database="mine")  # begins at 1 and ends at the edge: VOC's own way
    assert corners(read_set(voc_set(tmp_path / "other", unknown))) == corners(own)


def test_voc_with_what_else_stands_in_it(tmp_path: Path) -> None:
    xml = """<?xml version="1.0"?><annotation><folder>x</folder><filename>gone.jpg</filename>
    <path>/data/mine/gone.jpg</path>
    <size><width>0</width><height>0</height></size>
    <object><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
    <name> nut </name><difficult>1</difficult><polygon><x1>3</x1></polygon>
    <bndbox><ymax>10.5</ymax><xmax>3.5</xmax><xmin>45.70000076293945</xmin><ymin>2</ymin></bndbox></object></annotation>"""
    found = read_set(voc_set(tmp_path, xml))
    table = found.splits["all"]
    assert table.image_path(0) == tmp_path / "a1.png"
    assert corners(found) == [[3.5, 2, 45.70000076293945, 10.5]]
    assert table.crowd.tolist() == [True]
    assert not table.sizes_hw.any()
    assert any("corners swapped" in note for note in found.notes)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize(
    ("xml", "parts"),
    [
        (BOMB, ["declares XML entities"]),
        (OUTSIDE, ["declares XML entities"]),
        ("<annotation><object>", ["not valid XML", "line 1"]),
        ("<annotation>" + "<a>" * 200 + "</a>" * 200 + "</annotation>", ["100 deep"]),
        ("<annotation><object><name>a</name></object></annotation>", ["without <bndbox>"]),
        (voc_xml("a1.png").replace("<xmax>50<", "<xmax>(50, 3)<"), ["<xmax>", "no finite number"]),
        (voc_xml("a1.png").replace("<xmax>50<", "<xmax>inf<"), ["'inf' is no finite number"]),
        (voc_xml("a1.png").replace("<name>nut<", "<name><"), ["has no class"]),
    ],
)
def test_voc_refused(xml: str, parts: list[str], tmp_path: Path) -> None:
    refused(voc_set(tmp_path, xml), *parts)


@pytest.mark.parametrize("folder", ["", "images"])
def test_voc_with_one_name_in_two_splits(folder: str, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / split / folder, ("a1.png",))
        (tmp_path / split / "a1.xml").write_text(voc_xml("a1.png"))
    found = read_set(tmp_path)
    images = {split: table.image_path(0) for split, table in found.splits.items()}
    assert images == {
        "train": tmp_path / "train" / folder / "a1.png",
        "val": tmp_path / "valid" / folder / "a1.png",
    }


def test_voc_list_without_its_xml(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a1 -1\na2  1\nzebra 0\n")
    refused(tmp_path, "train.txt' lists images without XML: zebra 0")


@pytest.mark.parametrize(
    "yaml",
    [
        "names: [a, b]\ntrain: images\n",
        "path: ../datasets/gone\ntrain: images\nnames: {0: a, 1: b}\n",
        "path: .\ntrain: ../images/\nnc: '2'\nnames:\n  '0': a\n  '1': b\n",
        "train: [images]\nval:\nnames: a, b\n",
        "train: /content/drive/set/images\nnc: 2\nnames: [a, b]\n",
        "train: list.txt\nnames: [a, b]\n",
        "\ufefftrain: images\r\nnames: ['a', \"b\"]\r\n",
        "names:\n  0: a\n  1: b\n",
        "",
    ],
)
def test_yolo_spellings(yaml: str, tmp_path: Path) -> None:
    root = yolo_set(tmp_path, yaml=yaml)
    (root / "list.txt").write_text("# one image\n\n./images/a1.png\n")
    if not yaml:
        (root / "labels/classes.txt").write_text("a\nb\n")
    found = read_set(root)
    (table,) = found.splits.values()
    assert table.classes.names == ("a", "b")
    assert corners(found) == [[48, 24, 80, 72]]


def test_yolo_names_that_yaml_would_change(tmp_path: Path) -> None:
    (table,) = read_set(yolo_set(tmp_path, yaml="train: images\nnames: [no, 1.0, on]\n")).splits.values()
    assert table.classes.names == ("no", "1.0", "on")


def test_yolo_with_key_points_and_repeats(tmp_path: Path) -> None:
    row = "1 0.5 0.5 0.25 0.5 0.1 0.1 2 0.2 0.2 1\n" * 2
    found = read_set(yolo_set(tmp_path, row, "names: [a, b]\ntrain: images\nkpt_shape: [2, 3]\n"))
    assert corners(found) == [[48, 24, 80, 72]]
    assert found.notes == ("1 rows of labels stand twice in their file and were taken once",)


@pytest.mark.parametrize(
    ("row", "yaml", "parts"),
    [
        ("0 0.5 0.5 0.25 0.5 0.9", None, ["line 1", "6 numbers", "score"]),
        ("0 64 48 32 48", None, ["line 1", "64 is no fraction"]),
        ("2 0.5 0.5 0.25 0.5", None, ["class 2, but there are 2"]),
        ("-1 0.5 0.5 0.25 0.5", None, ["no row of YOLO"]),
        ("0.5 0.5 0.5 0.25 0.5", None, ["no row of YOLO"]),
        ("0 nan 0.5 0.25 0.5", None, ["no row of YOLO"]),
        ("0 0.5 0.5 0.25 0.5\ncat 1 2 3 4", None, ["line 2", "no row of YOLO"]),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", None, ["8 numbers"]),
        (None, "names: [a]\nnc: 2\ntrain: images\n", ["nc is 2, but there are 1 names"]),
        (None, "names: {0: a, 2: b}\ntrain: images\n", ["without gaps"]),
        (None, "names: [a, a]\ntrain: images\n", ["'a' twice"]),
        (None, "names: [a, b]\ntrain: ../../../etc\n", ["names the training images"]),
        (None, "names: [a, b\ntrain: images", ["not valid YAML"]),
        (None, "train: images\nnames: !!python/object/apply:os.system [echo]\n", ["1 names"]),
    ],
)
def test_yolo_refused(row: str | None, yaml: str | None, parts: list[str], tmp_path: Path) -> None:
    root = yolo_set(tmp_path, row or "1 0.5 0.5 0.25 0.5", yaml or "names: [a, b]\ntrain: images\n")
    if parts == ["1 names"]:  # the tag is text like any other; nothing is run
        refused(root, "class 1, but there are 1")
    else:
        refused(root, *parts)


def test_yolo_split_that_is_not_there(tmp_path: Path) -> None:
    found = read_set(write_yolo(tmp_path))
    assert found.notes == (
        "YOLO: '../test/images' of test is not there, so the set has no test",
        "2 polygons were taken as the boxes around them",
    )


@pytest.mark.parametrize(
    "table",
    [
        "image,xmin,ymin,xmax,ymax,label\na1.png,10,20,50,70,nut\n",
        "Image_ID;x;y;w;h;Class\na1.png;10;20;40;50;nut\n",
        "\ufeffimage_id,width,height,bbox,label\na1,128,96,\"[10.0, 20.0, 40.0, 50.0]\",nut\n",
        "a1.png,10,20,50,70,nut\na2.png,,,,,\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na1.png,128,96,nut,0.078125,0.20833333333333334,0.390625,0.7291666666666666\n",
        "path\tx1\ty1\tx2\ty2\tclass\nC:\\x\\a1.png\t10\t20\t50\t70\tnut\n",
        "filename,class,xmin,ymin,xmax,ymax\na1.png,nut,50,70,10,20\n",
    ],
)  # fmt: skip
def test_csv_spellings(table: str, tmp_path: Path) -> None:
    write_images(tmp_path, TRAIN)
    (tmp_path / "boxes.csv").write_text(table)
    found = read_set(tmp_path)
    assert corners(found)[0] == pytest.approx([10, 20, 50, 70], abs=1e-9)
    (read,) = found.splits.values()
    assert read.classes.names == ("nut",)
    assert read.image_path(0) == tmp_path / "a1.png"


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ("image,xmin,ymin,xmax,ymax,label\na1.png,10,20,50\n", ["line 2", "4 columns; needed are 6"]),
        ("image,xmin,ymin,xmax,ymax,label\na1.png,10,20,x,70,nut\n", ["line 2", "'x' is no finite number"]),
        ("image,x,y,w,h,label\na1.png,10,20,-5,70,nut\n", ["-5 x 70", "at least 0"]),
        ('image,bbox,label\na1.png,"[1, 2, 3]",nut\n', ["has 3 numbers"]),
        ("image,price\na1.png,3\n", ["no labels that are known"]),
    ],
)
def test_csv_refused(table: str, parts: list[str], tmp_path: Path) -> None:
    write_images(tmp_path, TRAIN)
    (tmp_path / "boxes.csv").write_text(table)
    refused(tmp_path, *parts)


def test_csv_background_rows_are_images(tmp_path: Path) -> None:
    found = read_set(write_csv(tmp_path))
    assert found.splits["val"].box_ends.tolist() == [0, 2, 2]


@pytest.mark.parametrize(("name", "part"), [("gone", "does not exist"), ("set.zip", "archive"), ("", "no images")])
def test_no_set(name: str, part: str, tmp_path: Path) -> None:
    if name.endswith("zip"):
        (tmp_path / name).write_bytes(b"PK")
    refused(tmp_path / name if name else tmp_path, part)
