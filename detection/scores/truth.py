"""The annotation side of a COCO evaluation: what the scores ask of a set of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from detection.data.boxes import BoxSource, Flags, Floats, Ints
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations, CocoObject
from engine.errors import InputError


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What the COCO evaluation asks of a set of boxes, G annotations; names of files and sizes are left out.

    The ids of the annotations are not used. pycocotools marks matches with them, so that there an annotation
    with id 0 can never be found and a repeated id hides the first annotation with it; here they get new numbers.

    Attributes:
        image_ids: ids of all images, in the order of the source.
        category_names: name by category id; a name that several categories share gets the id added.
        annotation_image_ids: (G,) image of each annotation.
        annotation_category_ids: (G,) category of each annotation.
        boxes_xywh: (G, 4) pixels of the original image.
        areas: (G,) square pixels, of the mask where the source gives it; decides small, medium and large.
        crowd: (G,) regions in which any number of detections is neither right nor wrong.
    """

    image_ids: tuple[int, ...]
    category_names: Mapping[int, str]
    annotation_image_ids: Ints
    annotation_category_ids: Ints
    boxes_xywh: Floats
    areas: Floats
    crowd: Flags

    @classmethod
    def of(cls, given: Truth) -> GroundTruth:
        """Take a `BoxSource`, a COCO annotation file, or a `pycocotools.coco.COCO`, which stays unchanged.

        Raises:
            InputError: the file or the object cannot be used; see `CocoAnnotations.to_score`.
        """
        if isinstance(given, GroundTruth):
            return given
        source = CocoAnnotations.to_score(given) if isinstance(given, str | Path | CocoObject) else given
        category_ids = np.array(source.classes.category_ids, np.int64)
        return cls(
            image_ids=tuple(source.image_ids.tolist()),
            category_names=_unique_names(source.classes, set(np.unique(source.class_ids).tolist())),
            annotation_image_ids=np.repeat(source.image_ids, np.diff(source.box_ends)),
            annotation_category_ids=category_ids[source.class_ids],
            boxes_xywh=source.boxes_xywh,
            areas=source.areas,
            crowd=source.crowd,
        )


Truth: TypeAlias = GroundTruth | BoxSource | CocoObject | str | Path


def check_known(given: Ints, known: Iterable[int], what: str, where: str) -> None:
    """Refuse ids that the ground truth does not list.

    Raises:
        InputError: there are such ids; the message has their number and the first one.
    """
    unknown = sorted(set(np.unique(given).tolist()) - set(known))
    if unknown:
        listed = ", ".join(map(str, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        count = f"{len(unknown)} {what} id{'s' * (len(unknown) > 1)}"
        msg = f"{where} name {count} that the annotation file does not list: {listed}. Give files that belong together."
        raise InputError(msg)


def _unique_names(classes: BoxClasses, used: set[int]) -> dict[int, str]:
    """Names by id, in ascending order of id, except rows without name and boxes, which mean no category."""
    bearers = Counter(classes.names)
    return {
        category_id: name if bearers[name] == 1 else f"{name} ({category_id})"
        for row, (name, category_id) in enumerate(zip(classes.names, classes.category_ids, strict=True))
        if name or row in used
    }
