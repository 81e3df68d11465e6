"""The same small set as the files of annotation tools and of public data sets, as their documentation shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.detection.formats.sets import NAMES, SIZES, SPLITS, boxes_of, write_images


def _split_images(root: Path, inner: str = "") -> None:
    for split, names in SPLITS.items():
        write_images(root / split / inner, names)


def labelme_json(name: str) -> dict[str, object]:
    """The JSON of an image, as LabelMe 5 writes it; corners of a rectangle come in any order."""
    height, width = SIZES[name]
    shapes = [
        {
            "label": box.name,
            "points": [[box.corners[2], box.corners[1]], [box.corners[0], box.corners[3]]],
            "group_id": None,
            "description": "",
            "shape_type": "rectangle",
            "flags": {},
            "mask": None,
        }
        for box in boxes_of((name,))
    ]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def write_labelme(root: Path) -> Path:
    """A JSON beside each image, and the class list as LabelMe's examples have it."""
    _split_images(root)
    (root / "labels.txt").write_text("\n".join(("__ignore__", "_background_", *NAMES)))
    for split, names in SPLITS.items():
        for name in names:
            (root / split / f"{name[:-4]}.json").write_text(json.dumps(labelme_json(name)))
    return root


def studio_task(name: str) -> dict[str, object]:
    """A task of Label Studio's full JSON."""
    height, width = SIZES[name]
    results = [
        {
            "id": f"r{count}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": box.corners[0] / width * 100,
                "y": box.corners[1] / height * 100,
                "width": (box.corners[2] - box.corners[0]) / width * 100,
                "height": (box.corners[3] - box.corners[1]) / height * 100,
                "rotation": 0,
                "rectanglelabels": [box.name],
            },
        }
        for count, box in enumerate(boxes_of((name,)))
    ]
    return {
        "id": 1,
        "data": {"image": f"/data/upload/3/0f3a99bc-{name}"},
        "annotations": [{"id": 7, "completed_by": 1, "was_cancelled": False, "result": results}],
        "predictions": [],
    }


def write_label_studio(root: Path) -> Path:
    """One JSON for each split."""
    _split_images(root)
    for split, names in SPLITS.items():
        (root / split / "project-3.json").write_text(json.dumps([studio_task(name) for name in names]))
    return root


def write_label_studio_min(root: Path) -> Path:
    """The same as JSON-MIN."""
    _split_images(root)
    for split, names in SPLITS.items():
        entries = []
        for name in names:
            (annotation,) = studio_task(name)["annotations"]  # type: ignore[misc]
            keep = ("original_width", "original_height")
            label = [result["value"] | {key: result[key] for key in keep} for result in annotation["result"]]
            entries.append(
                {
                    "image": f"/data/upload/3/0f3a99bc-{name}",
                    "id": 1,
                    "label": label,
                    "annotator": 1,
                    "annotation_id": 7,
                }
            )
        (root / split / "min.json").write_text(json.dumps(entries))
    return root


def cvat_xml(body: str, mode: str = "annotation", size: int = 2) -> str:
    """CVAT's XML 1.1 of a task."""
    labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>" for name in NAMES)
    return (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><id>5</id>'
        f"<size>{size}</size><mode>{mode}</mode><labels>{labels}</labels></task></meta>{body}</annotations>"
    )


def write_cvat(root: Path) -> Path:
    """One XML for each split, beside a folder of images, as its export has it."""
    _split_images(root, "images")
    for split, names in SPLITS.items():
        body = ""
        for count, name in enumerate(names):
            height, width = SIZES[name]
            boxes = "".join(
                f'<box label="{box.name}" occluded="1" source="manual" xtl="{box.corners[0]:.2f}" '
                f'ytl="{box.corners[1]:.2f}" xbr="{box.corners[2]:.2f}" ybr="{box.corners[3]:.2f}" z_order="0">'
                '<attribute name="age">old</attribute></box>'
                for box in boxes_of((name,))
            )
            body += f'<image id="{count}" name="{name}" width="{width}" height="{height}">{boxes}</image>'
        (root / split / "annotations.xml").write_text(cvat_xml(body))
    return root


def via_entry(name: str) -> dict[str, object]:
    """An image of VIA 2."""
    regions = [
        {
            "shape_attributes": {
                "name": "rect",
                "x": box.corners[0],
                "y": box.corners[1],
                "width": box.corners[2] - box.corners[0],
                "height": box.corners[3] - box.corners[1],
            },
            "region_attributes": {"class": box.name, "note": "x"},
        }
        for box in boxes_of((name,))
    ]
    return {"filename": name, "size": 1234, "regions": regions, "file_attributes": {}}


def write_via(root: Path) -> Path:
    """A project of VIA 2 for each split."""
    _split_images(root)
    for split, names in SPLITS.items():
        content = {"_via_settings": {}, "_via_img_metadata": {f"{n}1234": via_entry(n) for n in names}}
        (root / split / "via.json").write_text(json.dumps(content))
    return root


def write_via_csv(root: Path) -> Path:
    """The same as VIA's CSV; an image without regions has a row of its own."""
    _split_images(root)
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    for split, names in SPLITS.items():
        rows = [header]
        for name in names:
            regions = via_entry(name)["regions"]
            assert isinstance(regions, list)
            for count, region in enumerate(regions):
                cells = [
                    json.dumps(region[key]).replace('"', '""') for key in ("shape_attributes", "region_attributes")
                ]
                rows.append(f'{name},1234,"{{}}",{len(regions)},{count},"{cells[0]}","{cells[1]}"')
            if not regions:
                rows.append(f'{name},1234,"{{}}",0,0,"{{}}","{{}}"')
        (root / split / "via.csv").write_text("\n".join(rows))
    return root


def write_via_3(root: Path) -> Path:
    """A project of VIA 3, with classes as options of a select."""
    _split_images(root)
    attribute = {"aname": "kind", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": dict(enumerate(NAMES))}
    for split, names in SPLITS.items():
        metadata = {
            f"{names.index(box.image) + 1}_{count}": {
                "vid": str(names.index(box.image) + 1),
                "flg": 0,
                "z": [],
                "xy": [
                    2,
                    box.corners[0],
                    box.corners[1],
                    box.corners[2] - box.corners[0],
                    box.corners[3] - box.corners[1],
                ],
                "av": {"1": str(NAMES.index(box.name))},
            }
            for count, box in enumerate(boxes_of(names))
        }
        content = {
            "project": {"data_format_version": "3.1.1", "vid_list": ["1", "2"]},
            "config": {},
            "attribute": {"1": attribute},
            "file": {str(i): {"fid": str(i), "fname": name, "type": 2, "loc": 1} for i, name in enumerate(names, 1)},
            "view": {str(i): {"fid_list": [str(i)]} for i in range(1, len(names) + 1)},
            "metadata": metadata,
        }
        (root / split / "via_project.json").write_text(json.dumps(content))
    return root


def write_supervisely(root: Path) -> Path:
    """`meta.json`, and `img` and `ann` of each split; the last pixels of a rectangle belong to it."""
    _split_images(root, "img")
    (root / "meta.json").write_text(json.dumps({"classes": [{"title": name, "shape": "rectangle"} for name in NAMES]}))
    for split, names in SPLITS.items():
        (root / split / "ann").mkdir()
        for name in names:
            height, width = SIZES[name]
            objects = [
                {
                    "classTitle": box.name,
                    "geometryType": "rectangle",
                    "points": {
                        "exterior": [[box.corners[0], box.corners[1]], [box.corners[2] - 1, box.corners[3] - 1]],
                        "interior": [],
                    },
                }
                for box in boxes_of((name,))
            ]
            content = {"description": "", "tags": [], "size": {"height": height, "width": width}, "objects": objects}
            (root / split / "ann" / f"{name}.json").write_text(json.dumps(content))
    return root


def write_kitti(root: Path) -> Path:
    """`image_2` and `label_2` of each split."""
    _split_images(root, "image_2")
    for split, names in SPLITS.items():
        (root / split / "label_2").mkdir()
        for name in names:
            rows = [
                f"{box.name} 0.00 0 -1.57 {' '.join(f'{side:.2f}' for side in box.corners)} 1.5 1.6 4 1 1.5 9 -1.5"
                for box in boxes_of((name,))
            ]
            (root / split / "label_2" / f"{name[:-4]}.txt").write_text("\n".join(rows))
    return root


def write_dota(root: Path) -> Path:
    """`images` and `labelTxt` of each split, with the headers of DOTA 1.0."""
    _split_images(root, "images")
    for split, names in SPLITS.items():
        (root / split / "labelTxt").mkdir()
        for name in names:
            rows = ["imagesource:GoogleEarth", "gsd:0.146343590398"]
            for box in boxes_of((name,)):
                x0, y0, x1, y1 = box.corners
                rows.append(f"{x0:.1f} {y0:.1f} {x1:.1f} {y0:.1f} {x1:.1f} {y1:.1f} {x0:.1f} {y1:.1f} {box.name} 0")
            (root / split / "labelTxt" / f"{name[:-4]}.txt").write_text("\n".join(rows))
    return root


HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"


def write_openimages(root: Path) -> Path:
    """A table for each split with codes, and the table of their names; an image without a box has no row."""
    _split_images(root)
    (root / "class-descriptions-boxable.csv").write_text(
        "".join(f"/m/0{place},{name}\n" for place, name in enumerate(NAMES))
    )
    for split, names in SPLITS.items():
        rows = [HEADER]
        for box in boxes_of(names):
            height, width = SIZES[box.image]
            x0, y0, x1, y1 = box.corners
            sides = f"{x0 / width!r},{x1 / width!r},{y0 / height!r},{y1 / height!r}"
            rows.append(f"{box.image[:-4]},xclick,/m/0{NAMES.index(box.name)},1,{sides},0,0,0,0,0")
        (root / f"{split}-annotations-bbox.csv").write_text("\n".join(rows))
    return root


TOOLS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "labelme": ("LabelMe", write_labelme),
    "label_studio": ("Label Studio", write_label_studio),
    "label_studio_min": ("Label Studio", write_label_studio_min),
    "cvat": ("CVAT", write_cvat),
    "via": ("VIA", write_via),
    "via_csv": ("VIA", write_via_csv),
    "via_3": ("VIA", write_via_3),
    "supervisely": ("Supervisely", write_supervisely),
    "kitti": ("KITTI", write_kitti),
    "dota": ("DOTA", write_dota),
    "openimages": ("Open Images", write_openimages),
}
