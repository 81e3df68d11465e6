"""Odd but real files of VIA, Supervisely, KITTI, DOTA and Open Images: read as meant, or refused in one line."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.formats.found import read_set
from tests.detection.formats.sets import write_images
from tests.detection.formats.test_odd_inputs import corners, refused
from tests.detection.formats.test_odd_tools import classes, one, png
from tests.detection.formats.tool_sets import HEADER, via_entry

# VIA


def via(root: Path, shape: dict[str, Any], attributes: dict[str, Any], listed: bool = True) -> Path:
    """The annotations of VIA for one image with one region."""
    region = {"shape_attributes": shape, "region_attributes": attributes}
    entry = via_entry("a1.png") | {"regions": [region] if listed else {"0": region}}
    return one(root, "via_region_data.json", json.dumps({"a1.png1234": entry}))


RECT = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}


@pytest.mark.parametrize(
    ("shape", "attributes", "box"),
    [
        (RECT, {"Label": "nut", "colour": "red"}, [1, 2, 4, 6]),
        (RECT, {"part": {"nut": True, "bolt": False}}, [1, 2, 4, 6]),
        (RECT, {"part": "nut"}, [1, 2, 4, 6]),
        ({"name": "circle", "cx": 50, "cy": 40, "r": 5.5}, {"type": "nut"}, [44.5, 34.5, 55.5, 45.5]),
        ({"name": "ellipse", "cx": 50, "cy": 40, "rx": 9, "ry": 5, "theta": np.pi / 2}, {"x": "nut"}, [45, 31, 55, 49]),
        ({"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [2, 2, 8]}, {"x": "nut"}, [1, 2, 9, 8]),
    ],
)
@pytest.mark.parametrize("listed", [True, False])  # the first version has a map of regions
def test_via_regions(shape: Any, attributes: Any, box: list[float], listed: bool, tmp_path: Path) -> None:
    found = read_set(via(tmp_path, shape, attributes, listed))
    np.testing.assert_allclose(corners(found), [box], rtol=0, atol=1e-9)
    assert classes(found) == ["nut"]


@pytest.mark.parametrize(
    ("shape", "attributes", "parts"),
    [
        (RECT, {"colour": "red", "age": "2"}, ["'colour', 'age'", "none is called 'label'"]),
        (RECT, {"class": ""}, ["has no class ('class' is empty)"]),
        (RECT, {"class": {"a": True, "b": True}}, ["has 2 classes: 'a', 'b'"]),
        (RECT | {"x": None}, {"class": "a"}, ["None where a number"]),
        ({"name": "star"}, {"class": "a"}, ["has the shape 'star'"]),
        ({"name": "polygon", "all_points_x": [1], "all_points_y": []}, {"class": "a"}, ["as many x as y"]),
    ],
)
def test_via_refused(shape: Any, attributes: Any, parts: list[str], tmp_path: Path) -> None:
    refused(via(tmp_path, shape, attributes), *parts)


# Supervisely


def supervisely(root: Path, *objects: dict[str, Any]) -> Path:
    """A Supervisely set of one image."""
    write_images(root / "ds/img", ("a1.png",))
    (root / "ds/ann").mkdir()
    content = {"size": {"height": 96, "width": 128}, "objects": [{"classTitle": "nut", **entry} for entry in objects]}
    (root / "ds/ann/a1.png.json").write_text(json.dumps(content))
    return root


def test_supervisely_shapes(tmp_path: Path) -> None:
    ring, hole = [[0, 0], [10, 0], [10, 10], [0, 10]], [[2, 2], [4, 2], [4, 4], [2, 4]]
    data = base64.b64encode(zlib.compress(png([[0, 1], [1, 1]]))).decode()
    found = read_set(
        supervisely(
            tmp_path,
            {"geometryType": "polygon", "points": {"exterior": ring, "interior": [hole]}},
            {"geometryType": "bitmap", "bitmap": {"origin": [5, 6], "data": data}},
            {"geometryType": "point", "points": {"exterior": [[1, 2]], "interior": []}},
        )
    )
    assert corners(found) == [[0, 0, 10, 10], [5, 6, 7, 8]]
    assert found.splits["all"].areas.tolist() == [96, 3]
    refused(supervisely(tmp_path / "x", {"geometryType": "cuboid"}), "has the type 'cuboid'")
    refused(supervisely(tmp_path / "y", {"bitmap": {"origin": [1, 2], "data": "AAAA"}}), "cannot be unpacked")


# KITTI, DOTA and Open Images


def kitti(root: Path, *rows: str) -> Path:
    """A KITTI set of one image."""
    return one(root, "label_2/a1.txt", "\n".join(rows))


CAR = "Car 0.88 3 -0.69 0.00 19.20 42.25 69.02 1.60 1.57 3.23 -2.70 1.74 3.68 -1.29"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"


def test_kitti_dont_care_is_a_crowd_of_every_class(tmp_path: Path) -> None:
    found = read_set(kitti(tmp_path, CAR, DONT_CARE, CAR.replace("Car", "Van")))
    table = found.splits["all"]
    assert table.classes.names == ("Car", "Van")
    assert table.class_ids[table.crowd].tolist() == [0, 1]
    assert corners(found)[0] == [0, 19.2, 42.25, 69.02]
    np.testing.assert_allclose(corners(found)[2:], [[503.89, 169.71, 590.61, 190.13]] * 2, rtol=0, atol=1e-9)
    refused(kitti(tmp_path / "x", CAR + " 0.9"), "line 1", "16 columns, as detections")
    refused(kitti(tmp_path / "y", CAR, "Car 1 2 3"), "line 2", "4 columns")
    refused(kitti(tmp_path / "z", CAR, CAR.replace("19.20", "x")), "'x' is no finite number")


def dota(root: Path, text: str) -> Path:
    """A DOTA set of one image."""
    return one(root, "labelTxt/a1.txt", text)


ROW = "10.0 5.0 20.0 10.0 15.0 20.0 5.0 15.0 small-vehicle"


@pytest.mark.parametrize("head", ["", "imagesource:GoogleEarth\ngsd:null\n"])
def test_dota_boxes_are_those_around(head: str, tmp_path: Path) -> None:
    found = read_set(dota(tmp_path, f"{head}{ROW} 0\n{ROW} 1\n{ROW}\n"))
    assert corners(found) == [[5, 5, 20, 20]] * 3
    assert found.splits["all"].crowd.tolist() == [False, True, False]
    assert found.notes == ("3 oriented boxes were taken as the upright boxes around them",)
    refused(dota(tmp_path / "x", f"{ROW} 0\n1 2 3 ship 0"), "line 2", "5 columns")
    refused(dota(tmp_path / "y", f"gsd:1\n{ROW.replace('5.0', 'nan')} 0"), "'nan' is no finite number")


def openimages(root: Path, *rows: str, names: bool = True) -> Path:
    """An Open Images set of one image."""
    if names:
        root.mkdir(parents=True, exist_ok=True)
        (root / "oidv7-class-descriptions-boxable.csv").write_text("LabelName,DisplayName\n/m/0k4j,Car\n")
    return one(root, "validation-annotations-bbox.csv", "\n".join([HEADER, *rows]))


def test_openimages(tmp_path: Path) -> None:
    row = "a1,xclick,/m/0k4j,1,0.25,0.5,0.125,0.75,0,-1,{},0,0"
    found = read_set(openimages(tmp_path, row.format(0), row.format(1), row.format(0).replace("a1,", "zz,")))
    assert found.line() == "Open Images, 1 image, 1 class, 2 boxes (val 1)"
    assert corners(found) == [[32, 12, 64, 72]] * 2
    assert found.splits["val"].crowd.tolist() == [False, True]
    assert classes(found) == ["Car", "Car"]
    assert found.notes == ("1 images of the tables are not there and were left out",)
    codes = read_set(openimages(tmp_path / "codes", row.format(0), names=False))
    assert classes(codes) == ["/m/0k4j"]
    assert "keep their codes" in codes.notes[0]
    refused(openimages(tmp_path / "x", row.format(0).replace("0.25", "25")), "line 2", "25 is no fraction")
    refused(openimages(tmp_path / "y", row.format(0).replace("a1", "zz")), "none of the 1 images")
    none = read_set(openimages(tmp_path / "z", row.format(0), row.format(0).replace("4j,1,", "4j,0,")))
    assert len(corners(none)) == 1
