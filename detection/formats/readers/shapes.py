"""Shapes of annotation tools as boxes: of everything that is no upright box, the box around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles
from engine.annotations.recognised import ShapeTool
from engine.annotations.shapes import ShapeSet, area_of, extent_xyxy
from engine.annotations.tools import yolo
from engine.errors import InputError

_AROUND = {
    "turned box": "oriented boxes were taken as the upright boxes around them",
    "polygon": "polygons were taken as the boxes around them",
    "mask": "masks were taken as the boxes around them",
}


def reader(tool: ShapeTool) -> Callable[[SetFiles, Sequence[str], ReadOptions], Mapping[str, BoxTable]]:
    """What reads the files of a tool as boxes."""

    def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
        return _boxes(files, tool.name, tool.read(files, labels), options)

    return read


def read_yolo(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
    """The boxes of YOLO, where the user's classes are the names of its numbers."""
    return _boxes(files, yolo.NAME, yolo.read(files, labels, options.classes), options)


def _boxes(files: SetFiles, name: str, found: ShapeSet, options: ReadOptions) -> Mapping[str, BoxTable]:
    """Shapes as boxes; areas are those of polygons and masks."""
    collected = Collected(files, options, found.names)
    for image in found.images:
        place = collected.image(image.split, image.image, image.size_hw)
        for shape in image.shapes:
            if shape.kind in _AROUND:
                files.note(_AROUND[shape.kind])
            area = area_of(shape) if shape.kind in ("polygon", "mask") else None
            try:
                collected.box(image.split, place, shape.label, extent_xyxy(shape), shape.crowd, area)
            except InputError as error:
                files.refuse(image.label, error)
    return collected.tables(name)
