"""Images that annotations list, found by their file names, from whatever folder a path starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath

from detection.data.boxes import BoxTable
from engine.names import pairing_name


@dataclass(frozen=True, eq=False)
class ImageNames:
    """The file names of a set of annotations.

    Attributes:
        table: the annotations.
        by_name: the places of images by the last part of their names.
        paths: the names of the images, in parts.
    """

    table: BoxTable
    by_name: dict[str, list[int]] = field(init=False, default_factory=dict)
    paths: list[PurePath] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for index in range(len(self.table)):
            path = _path(self.table.file_name(index))
            self.paths.append(path)
            self.by_name.setdefault(path.name, []).append(index)

    def places(self, name: str) -> list[int]:
        """The places of the images whose file this may be: the shorter of two paths is the end of the longer one.

        Of several such images, those with the longest name in common come alone: of `a.png` and `b/a.png` the file
        `in/b/a.png` is the second.
        """
        path = _path(name)
        common = {i: min(len(path.parts), len(self.paths[i].parts)) for i in self.by_name.get(path.name, ())}
        alike = {i: parts for i, parts in common.items() if path.parts[-parts:] == self.paths[i].parts[-parts:]}
        return [i for i, parts in alike.items() if parts == max(alike.values())]


def _path(name: str) -> PurePath:
    return PurePath(pairing_name(name))
