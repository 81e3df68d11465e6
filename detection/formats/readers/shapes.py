"""Shapes of annotation tools as boxes: of everything that is no upright box, the box around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from detection.data.boxes import BoxTable
from detection.formats.collected import Collected, ReadOptions
from engine.annotations.files import SetFiles
from engine.annotations.recognised import ShapeTool
from engine.annotations.shapes import area_of, extent_xyxy

_AROUND = {
    "turned box": "oriented boxes were taken as the upright boxes around them",
    "polygon": "polygons were taken as the boxes around them",
    "mask": "masks were taken as the boxes around them",
}


def reader(tool: ShapeTool) -> Callable[[SetFiles, Sequence[str], ReadOptions], Mapping[str, BoxTable]]:
    """What reads the files of a tool as boxes; areas are those of polygons and masks."""

    def read(files: SetFiles, labels: Sequence[str], options: ReadOptions) -> Mapping[str, BoxTable]:
        found = tool.read(files, labels)
        collected = Collected(files, options, found.names)
        for image in found.images:
            place = collected.image(image.split, image.image, image.size_hw)
            for shape in image.shapes:
                if shape.kind in _AROUND:
                    files.note(_AROUND[shape.kind])
                area = area_of(shape) if shape.kind in ("polygon", "mask") else None
                collected.box(image.split, place, shape.label, extent_xyxy(shape), shape.crowd, area)
        return collected.tables(tool.name)

    return read
