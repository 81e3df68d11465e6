"""The label definitions of Cityscapes: ids, training ids, categories, colours.

Source: cityscapesScripts 2.3.0, `cityscapesscripts/helpers/labels.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from segmentation.data.classes import IGNORED, MaskClasses


class Label(NamedTuple):
    """One label.

    Attributes:
        name: as in the polygon files.
        label_id: value in `_labelIds.png`, and in submissions.
        train_id: row of a network's output; `IGNORED` for labels that are not evaluated.
        category: its category's name.
        has_instances: whether `_instanceIds.png` tells single objects apart (id * 1000 + k).
        color: RGB.
    """

    name: str
    label_id: int
    train_id: int
    category: str
    has_instances: bool
    color: tuple[int, int, int]

    @property
    def ignored(self) -> bool:
        """Whether no measure counts its pixels."""
        return self.train_id == IGNORED


# "license plate" (-1) has no value in 8-bit files and is left out.
LABELS: tuple[Label, ...] = (
    Label("unlabeled", 0, IGNORED, "void", False, (0, 0, 0)),
    Label("ego vehicle", 1, IGNORED, "void", False, (0, 0, 0)),
    Label("rectification border", 2, IGNORED, "void", False, (0, 0, 0)),
    Label("out of roi", 3, IGNORED, "void", False, (0, 0, 0)),
    Label("static", 4, IGNORED, "void", False, (0, 0, 0)),
    Label("dynamic", 5, IGNORED, "void", False, (111, 74, 0)),
    Label("ground", 6, IGNORED, "void", False, (81, 0, 81)),
    Label("road", 7, 0, "flat", False, (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", False, (244, 35, 232)),
    Label("parking", 9, IGNORED, "flat", False, (250, 170, 160)),
    Label("rail track", 10, IGNORED, "flat", False, (230, 150, 140)),
    Label("building", 11, 2, "construction", False, (70, 70, 70)),
    Label("wall", 12, 3, "construction", False, (102, 102, 156)),
    Label("fence", 13, 4, "construction", False, (190, 153, 153)),
    Label("guard rail", 14, IGNORED, "construction", False, (180, 165, 180)),
    Label("bridge", 15, IGNORED, "construction", False, (150, 100, 100)),
    Label("tunnel", 16, IGNORED, "construction", False, (150, 120, 90)),
    Label("pole", 17, 5, "object", False, (153, 153, 153)),
    Label("polegroup", 18, IGNORED, "object", False, (153, 153, 153)),
    Label("traffic light", 19, 6, "object", False, (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", False, (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", False, (107, 142, 35)),
    Label("terrain", 22, 9, "nature", False, (152, 251, 152)),
    Label("sky", 23, 10, "sky", False, (70, 130, 180)),
    Label("person", 24, 11, "human", True, (220, 20, 60)),
    Label("rider", 25, 12, "human", True, (255, 0, 0)),
    Label("car", 26, 13, "vehicle", True, (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", True, (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", True, (0, 60, 100)),
    Label("caravan", 29, IGNORED, "vehicle", True, (0, 0, 90)),
    Label("trailer", 30, IGNORED, "vehicle", True, (0, 0, 110)),
    Label("train", 31, 16, "vehicle", True, (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", True, (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", True, (119, 11, 32)),
)
_EVALUATED = sorted((label for label in LABELS if not label.ignored), key=lambda label: label.train_id)
# Rows are the training ids; the values of mask files are the ids, as in the ground truth and in submissions.
CITYSCAPES = MaskClasses(
    tuple(label.name for label in _EVALUATED),
    tuple(label.label_id for label in _EVALUATED),
    tuple(label.color for label in _EVALUATED),
)
