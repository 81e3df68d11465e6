"""Odd but real files of LabelMe, Label Studio and CVAT: read as meant, or refused in one line."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection.formats.found import FoundSet, read_set
from tests.detection.formats.sets import write_images
from tests.detection.formats.test_odd_inputs import BOMB, OUTSIDE, corners, refused
from tests.detection.formats.tool_sets import cvat_xml, labelme_json, studio_task

SIZE = (96, 128)  # height and width of a1.png


def png(pixels: list[list[int]]) -> bytes:
    """A grey PNG."""
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def one(root: Path, name: str, text: str) -> Path:
    """A set of the image a1.png and one label file."""
    write_images(root, ("a1.png",))
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


def classes(found: FoundSet) -> list[str]:
    """The classes of all boxes."""
    return [table.classes.names[row] for table in found.splits.values() for row in table.class_ids]


# LabelMe


def labelme(root: Path, *shapes: dict[str, Any], **changes: Any) -> Path:
    """A LabelMe set of one image with some shapes."""
    content = labelme_json("a1.png") | {"shapes": [{"label": "nut", **shape} for shape in shapes]} | changes
    return one(root, "a1.json", json.dumps(content))


def test_labelme_shapes(tmp_path: Path) -> None:
    cell = {"points": [[20, 30], [29, 39]], "mask": base64.b64encode(png([[0, 1, 1], [0, 1, 0]])).decode()}
    root = labelme(
        tmp_path,
        {"shape_type": "circle", "points": [[50, 40], [53, 44]]},
        {"shape_type": "polygon", "points": [[1, 2], [9, 2], [9, 8.5]]},
        {"points": [[30, 50], [10, 20]]},  # of the first versions, without a type
        {"shape_type": "rotation", "points": [[10, 0], [20, 10], [10, 20], [0, 10]]},
        {"shape_type": "mask", **cell},
        {"shape_type": "point", "points": [[5, 5]]},
        {"shape_type": "linestrip", "points": [[5, 5], [6, 6]]},
        {"shape_type": "rectangle", "points": [[1, 2], [5, 6]], "difficult": True},
    )
    found = read_set(root)
    boxes = [[45, 35, 55, 45], [1, 2, 9, 8.5], [10, 20, 30, 50], [0, 0, 20, 20], [21, 30, 23, 32], [1, 2, 5, 6]]
    np.testing.assert_allclose(corners(found), boxes, rtol=0, atol=1e-9)
    table = found.splits["all"]
    np.testing.assert_allclose(table.areas, [25 * np.pi, 26, 600, 400, 3, 16], rtol=0.002)
    assert table.crowd.tolist() == [False] * 5 + [True]
    assert set(found.notes) == {
        "2 polygons were taken as the boxes around them",
        "1 oriented boxes were taken as the upright boxes around them",
        "1 masks were taken as the boxes around them",
        "2 points and lines have no area and were left out",
    }


def test_labelme_groups_are_one_object(tmp_path: Path) -> None:
    left = {"shape_type": "polygon", "points": [[0, 0], [4, 0], [4, 4], [0, 4]], "group_id": 7}
    right = {"shape_type": "polygon", "points": [[10, 0], [14, 0], [14, 4], [10, 4]], "group_id": 7}
    found = read_set(labelme(tmp_path, left, right, left | {"label": "bolt"}))
    assert corners(found) == [[0, 0, 14, 4], [0, 0, 4, 4]]
    assert found.splits["all"].areas.tolist() == [32, 16]


@pytest.mark.parametrize("path", ["..\\images\\a1.png", "C:\\Users\\me\\a1.png", "../images/a1.png", "gone.jpg", None])
def test_labelme_paths(path: str | None, tmp_path: Path) -> None:
    write_images(tmp_path / "images", ("a1.png",))
    (tmp_path / "labels").mkdir()
    content = labelme_json("a1.png") | {"imagePath": path}
    (tmp_path / "labels/a1.json").write_text(json.dumps(content))
    assert read_set(tmp_path).splits["all"].image_path(0) == tmp_path / "images/a1.png"


def test_labelme_image_inside_the_json(tmp_path: Path) -> None:
    root = labelme(tmp_path, {"points": [[1, 2], [5, 6]]}, imageData="AAAA", imagePath="../../etc/x.png")
    (root / "a1.png").unlink()
    found = read_set(root)
    assert found.splits["all"].image_path(0) == root / "x.png"
    assert any("'imageData'" in note for note in found.notes)


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ({"shape_type": "cuboid", "points": [[1, 2]] * 8}, ["shapes[0] has 8 points and the type 'cuboid'"]),
        ({"shape_type": "circle", "points": [[1, 2]]}, ["1 points and the type 'circle'"]),
        ({"shape_type": "polygon", "points": [[1, 2, 3]]}, ["has the point [1.0, 2.0, 3.0]"]),
        ({"shape_type": "polygon", "points": [[1, 9e99]] * 3}, ["two finite numbers"]),
        ({"shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "?"}, ["no base64"]),
        ({"shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "AAAA"}, ["cannot read mask"]),
        ({"label": None, "points": [[1, 2], [3, 4]]}, ["shapes[0].label: expected str"]),
        ({"label": " ", "points": [[1, 2], [3, 4]]}, ["has no class"]),
    ],
)
def test_labelme_refused(shape: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    refused(labelme(tmp_path, shape), *parts)


# Label Studio


def studio(root: Path, *results: dict[str, Any], **changes: Any) -> Path:
    """A Label Studio set of one image with some results, each with its value."""
    common = {"type": "rectanglelabels", "original_width": 128, "original_height": 96}
    annotation = {"result": [common | result for result in results]}
    task = studio_task("a1.png") | {"annotations": [annotation]} | changes
    return one(root, "export.json", json.dumps([task]))


def rectangle(x: float, y: float, w: float, h: float, **more: Any) -> dict[str, Any]:
    """A result with a rectangle in percent."""
    return {"value": {"x": x, "y": y, "width": w, "height": h, "rectanglelabels": ["nut"], **more}}


def test_label_studio_turns_about_the_first_corner_in_pixels(tmp_path: Path) -> None:
    found = read_set(studio(tmp_path, rectangle(50, 50, 25, 25, rotation=90), rectangle(50, 50, 25, 25, rotation=30)))
    # 32 x 24 pixels at (64, 48). A quarter to the right: the upper side points down, the left side to the left.
    np.testing.assert_allclose(corners(found)[0], [40, 48, 64, 80], rtol=0, atol=1e-9)
    turn = np.exp(1j * np.pi / 6)  # with y downwards, a positive angle turns clockwise
    points = (64 + 48j) + turn * np.array([0, 32, 32 + 24j, 24j])
    expected = [points.real.min(), points.imag.min(), points.real.max(), points.imag.max()]
    np.testing.assert_allclose(corners(found)[1], expected, rtol=0, atol=1e-9)
    assert found.notes == ("2 oriented boxes were taken as the upright boxes around them",)


def test_label_studio_results_of_other_kinds(tmp_path: Path) -> None:
    found = read_set(
        studio(
            tmp_path,
            {"type": "choices", "value": {"choices": ["good"]}},
            {"type": "textarea", "value": {"text": ["hello"]}},
            {"type": "keypointlabels", "value": {"x": 1, "y": 2, "width": 0.5, "keypointlabels": ["eye"]}},
            {"type": "rectangle", "id": "q", "value": {"x": 0, "y": 0, "width": 50, "height": 50}},
            {"type": "labels", "id": "q", "value": {"labels": ["bolt"]}},
            {"type": "rectangle", "id": "z", "value": {"x": 0, "y": 0, "width": 50, "height": 50}},
            {"type": "polygonlabels", "value": {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["nut"]}},
            {
                "type": "ellipselabels",
                "value": {"x": 50, "y": 50, "radiusX": 25, "radiusY": 50, "ellipselabels": ["a"]},
            },
            rectangle(0, 100, 100, -50),
        )
    )
    expected = [[0, 0, 64, 48], [0, 0, 64, 48], [32, 0, 96, 96], [0, 48, 128, 96]]
    np.testing.assert_allclose(corners(found), expected, rtol=0, atol=1e-9)
    assert classes(found) == ["bolt", "nut", "a", "nut"]
    assert {"1 points and lines have no area and were left out", "1 regions have no label and were left out"} <= set(
        found.notes
    )


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/0123abcd-a1.png",
        "/data/local-files/?d=a1.png",
        "s3://bucket/x/a1.png?token=1",
        "https://host/a1.png?X=/b.png",
        "a1.png",
    ],
)
def test_label_studio_addresses(address: str, tmp_path: Path) -> None:
    root = studio(tmp_path, rectangle(0, 0, 50, 50), data={"picture": address, "text": "x"})
    assert read_set(root).splits["all"].image_path(0) == root / "a1.png"


def test_label_studio_without_sizes_and_with_many_annotators(tmp_path: Path) -> None:
    first = {"result": [rectangle(0, 0, 25, 25)], "updated_at": "2024-01-02T00:00:00Z"}
    later = {"result": [rectangle(0, 0, 50, 50)], "updated_at": "2024-02-02T00:00:00Z"}
    void = {"result": [rectangle(0, 0, 75, 75)], "updated_at": "2025-02-02T00:00:00Z", "was_cancelled": True}
    found = read_set(studio(tmp_path, annotations=[later, first, void]))
    assert corners(found) == [[0, 0, 64, 48]]
    assert found.notes == ("1 images have several annotations, of which the latest was taken",)
    refused(studio(tmp_path / "new", annotations=[void]), "none of its label files has an image")


@pytest.mark.parametrize(
    ("result", "changes", "parts"),
    [
        (rectangle(0, 0, 5, 5) | {"image_rotation": 90}, {}, ["was turned by 90 degrees"]),
        ({"value": {"x": 1, "y": 2, "rectanglelabels": ["a"]}}, {}, ["None where percent"]),
        (rectangle(1e9, 0, 5, 5), {}, ["percent of the image"]),
        (rectangle(0, 0, 5, 5), {"data": {"a": "b", "c": 1}}, ["'a', 'c'", "no image"]),
        ({"value": {"x": "left", "y": 2}}, {}, ["cannot be read", "Expected"]),
        ({"value": {"rle": [0, 0, 0, 8, 57], "brushlabels": ["a"]}}, {}, ["2 pixels and its image 12288"]),
        ({"value": {"rle": [0, 0, 192], "brushlabels": ["a"]}}, {}, ["ends before its last pixel"]),
    ],
)
def test_label_studio_refused(
    result: dict[str, Any], changes: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    refused(studio(tmp_path, result, **changes), *parts)


# CVAT


def cvat(root: Path, shapes: str) -> Path:
    """A CVAT task of one image."""
    return one(
        root, "annotations.xml", cvat_xml(f'<image id="0" name="a1.png" width="128" height="96">{shapes}</image>')
    )


def test_cvat_shapes(tmp_path: Path) -> None:
    found = read_set(
        cvat(
            tmp_path,
            '<box label="nut" xtl="10" ytl="20" xbr="50" ybr="40" rotation="90.00" z_order="2"/>'
            '<polygon label="bolt" points="1.00,2.00;9.00,2.00;9.00,8.50" z_order="1"/>'
            '<ellipse label="nut" cx="50" cy="40" rx="10" ry="5" z_order="3"/>'
            '<ellipse label="nut" cx="50" cy="40" rx="10" ry="5" rotation="30" z_order="4"/>'
            '<mask label="wheel" rle="1, 2, 3" left="7" top="11" width="3" height="2" z_order="5"/>'
            '<cuboid label="wheel" xtl1="1" ytl1="2" xbl1="1" ybl1="9" xtr1="5" ytr1="2" xbr1="5" ybr1="9" xtl2="3" '
            'ytl2="1" xbl2="3" ybl2="8" xtr2="7" ytr2="1" xbr2="7" ybr2="8" z_order="6"/>'
            '<points label="nut" points="1,2"/><polyline label="nut" points="1,2;3,4"/><skeleton label="nut"/>'
            '<tag label="night"/><polygon label="nut" points="1,2;3,4"/>',
        )
    )
    # Half axes a and b turned by t reach sqrt((a cos t)^2 + (b sin t)^2) to each side.
    across, along = np.hypot(10 * np.cos(np.pi / 6), 5 * 0.5), np.hypot(10 * 0.5, 5 * np.cos(np.pi / 6))
    expected = [
        [1, 2, 9, 8.5],
        [20, 10, 40, 50],
        [40, 35, 60, 45],
        [50 - across, 40 - along, 50 + across, 40 + along],
        [8, 11, 10, 12],
        [1, 1, 7, 9],
    ]
    np.testing.assert_allclose(corners(found), expected, rtol=0, atol=1e-9)
    assert classes(found) == ["bolt", "nut", "nut", "nut", "wheel", "wheel"]
    assert found.splits["all"].classes.names == ("wheel", "bolt", "nut")
    assert found.splits["all"].areas[4] == 2


def track(*boxes: tuple[int, float, int]) -> str:
    """A track of boxes of 10 x 10 pixels: frame, left edge, and whether the object is outside."""
    inner = "".join(
        f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{left}" ytl="0" xbr="{left + 10}" '
        'ybr="10" z_order="0"/>'
        for frame, left, outside in boxes
    )
    return f'<track id="0" label="nut" source="manual">{inner}</track>'


def video(root: Path, tracks: str, names: tuple[str, ...], size: int = 6) -> Path:
    """A CVAT task of a video with its frames as images."""
    write_images(root, ("a1.png",))
    (root / "images").mkdir()
    for name in names:
        (root / "images" / name).write_bytes((root / "a1.png").read_bytes())
    (root / "a1.png").unlink()
    (root / "annotations.xml").write_text(cvat_xml(tracks, "interpolation", size))
    return root


FRAMES = tuple(f"frame_{frame:06d}.PNG" for frame in range(6))


@pytest.mark.parametrize("names", [FRAMES, tuple("abcdef"[i] + ".png" for i in range(6))])
def test_cvat_tracks(names: tuple[str, ...], tmp_path: Path) -> None:
    tracks = track((0, 0, 0), (3, 30, 0), (4, 30, 1)) + track((1, 50, 0), (2, 60, 0), (5, 70, 1))
    found = read_set(video(tmp_path, tracks, names))
    table = found.splits["all"]
    assert len(table) == 6  # the last is a frame without objects
    seen = [
        table.boxes_xywh[start:end, 0].tolist() for start, end in zip(table.box_ends, table.box_ends[1:], strict=False)
    ]
    assert seen == [[0], [10, 50], [20, 60], [30, 60], [60], []]


def test_cvat_frames_that_are_not_there(tmp_path: Path) -> None:
    refused(video(tmp_path, track((0, 0, 0)), ("x.png",)), "tracks of a video of 6 frames", "1 images")
    found = read_set(video(tmp_path / "few", track((0, 0, 0), (99999999, 0, 0)), FRAMES[:2]))
    assert found.notes == ("1 shapes of tracks lie in frames that are not there and were left out",)


@pytest.mark.parametrize(
    ("shapes", "parts"),
    [
        ('<box label="nut" xtl="a" ytl="1" xbr="2" ybr="3"/>', ["image 'a1.png', <box>, xtl: 'a' is no finite"]),
        ('<box label="nut" xtl="1" ytl="1" xbr="2"/>', ["ybr: '' is no finite number"]),
        ('<blob label="nut"/>', ["<blob>: a shape of this type is not known"]),
        ('<mask label="nut" rle="1,2" left="0" top="0" width="3" height="2"/>', ["do not fill 3 x 2 pixels"]),
        ('<polygon label="nut" points="1,2;3,4;5"/>', ["has the point [5.0]"]),
        ('<box xtl="1" ytl="1" xbr="2" ybr="3"/>', ["has no class"]),
    ],
)
def test_cvat_refused(shapes: str, parts: list[str], tmp_path: Path) -> None:
    refused(cvat(tmp_path, shapes), *parts)


@pytest.mark.parametrize("xml", [BOMB, OUTSIDE])
def test_cvat_expands_no_entities(xml: str, tmp_path: Path) -> None:
    text = xml.replace("annotation>", "annotations>").replace("<filename>", "<meta/><x>").replace("</filename>", "</x>")
    refused(one(tmp_path, "annotations.xml", text), "declares XML entities")


def test_no_name_leads_out_of_the_set(tmp_path: Path) -> None:
    write_images(tmp_path, ("a1.png",))
    inner = tmp_path / "in"
    inner.mkdir()
    shape = '<box label="nut" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    (inner / "annotations.xml").write_text(
        cvat_xml(f'<image id="0" name="../a1.png" width="128" height="96">{shape}</image>')
    )
    assert read_set(inner).splits["all"].image_path(0) == inner / "a1.png"
