"""A set as LabelMe: a JSON beside each image in `SPLIT/`, and `labels.txt` for the classes and their order.

LabelMe, AnyLabeling and X-AnyLabeling open these. LabelMe has no crowds: they are marked `difficult`, as X-AnyLabeling
does with what is not to be scored.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from detection.formats.writers.parts import SetToWrite, folder_in
from engine.outputs import write_json, write_text

_VERSION = "5.4.1"  # of the files, not of a program: LabelMe refuses none


def write(given: SetToWrite, folder: Path) -> dict[str, str]:
    """Write the labels, and say in which folder the images of each split belong."""
    write_text(folder / "labels.txt", "\n".join(given.classes) + "\n")
    for split in given.splits:
        place = folder / folder_in("", split).strip("/")
        for image in given.images(split):
            shapes: list[dict[str, object]] = []
            for corners, row, crowd in zip(image.corners_xyxy.tolist(), image.rows, image.crowd, strict=True):
                shape: dict[str, object] = {
                    "label": given.classes[row],
                    "points": [corners[:2], corners[2:]],
                    "group_id": None,
                    "description": "",
                    "shape_type": "rectangle",
                    "flags": {},
                    "mask": None,
                }
                shapes.append(shape | ({"difficult": True} if crowd else {}))
            height, width = image.size_hw
            content: dict[str, object] = {"version": _VERSION, "flags": {}, "shapes": shapes, "imagePath": image.name}
            content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
            write_json(place / f"{PurePosixPath(image.name).stem}.json", content)
    return {split: folder_in("", split).strip("/") for split in given.splits}
