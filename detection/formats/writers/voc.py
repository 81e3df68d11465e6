"""A set as Pascal VOC: `JPEGImages/`, `Annotations/`, `ImageSets/Main/SPLIT.txt`, and `classes.txt` for their order.

Coordinates are VOC's own: pixels count from 1 and the last one belongs to the box, so that the left edge 0 is `xmin` 1
and the right edge is `xmax` as it is. Boxes between pixels keep their fractions.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from detection.formats.writers.parts import Placed, SetToWrite
from engine.annotations.splits import ALL
from engine.outputs import write_text

DATABASE = "pixels as in VOC2012"  # by which readers, ours too, know where pixels begin


def write(given: SetToWrite, folder: Path) -> dict[str, str]:
    """Write the labels, and say in which folder the images of each split belong."""
    write_text(folder / "classes.txt", "\n".join(given.classes) + "\n")
    for split in given.splits:
        stems = []
        for image in given.images(split):
            stems.append(PurePosixPath(image.name).stem)
            write_text(folder / "Annotations" / f"{stems[-1]}.xml", _xml(image, given.classes))
        if split != ALL:
            write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "\n".join(stems) + "\n")
    return dict.fromkeys(given.splits, "JPEGImages")


def _xml(image: Placed, classes: tuple[str, ...]) -> str:
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", image.name)
    _add(SubElement(root, "source"), "database", DATABASE)
    size = SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*reversed(image.size_hw), 3), strict=True):
        _add(size, tag, str(value))
    _add(root, "segmented", "0")
    for corners, row, crowd in zip(image.corners_xyxy, image.rows, image.crowd, strict=True):
        entry = SubElement(root, "object")
        _add(entry, "name", classes[row])
        _add(entry, "pose", "Unspecified")
        _add(entry, "truncated", "0")
        _add(entry, "difficult", str(int(crowd)))
        box = SubElement(entry, "bndbox")
        left, top, right, bottom = corners.tolist()
        for tag, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            _add(box, tag, str(int(value)) if value == int(value) else repr(value))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text
