"""The ids of an annotation file for what `predict` finds, so that its list can be scored against that file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.image_names import ImageNames
from engine.errors import InputError


@dataclass(frozen=True)
class Keys:
    """The images and categories of an annotation file, as the results of `predict` name them.

    Attributes:
        images: id and file name of the annotations, by the absolute path of the source.
        classes: the categories of the annotations.
        category_ids: the annotations' id for each category id of the detector; one that they do not list is left out.
        note: one line where numbers or spelling differ; empty where all agree.
    """

    images: Mapping[str, tuple[int, str]]
    classes: BoxClasses
    category_ids: Mapping[int, int]
    note: str = ""

    @classmethod
    def of(cls, annotations: str | Path, sources: Iterable[Path], classes: BoxClasses) -> Keys:
        """Match sources by their file names, and categories by their names.

        Args:
            annotations: the COCO annotation file; it needs no annotations.
            sources: the images that are predicted.
            classes: the class list of the detector.

        Raises:
            InputError: the file cannot be used, does not list an image, lists it twice or lists other categories.
        """
        table = CocoAnnotations.read(annotations)
        matched = CategoryRows.of(table, classes)
        if (matched.category_ids < 0).all():
            msg = (
                f"'{annotations}' and the detector have no category in common: '{table.classes.names[0]}' and others "
                f"there, '{next(filter(None, classes.names))}' and others here. Give the annotations of these images "
                "with the names that the detector knows."
            )
            raise InputError(msg)
        names, images = ImageNames(table), {}
        owners: dict[int, Path] = {}
        for source in sources:
            places = names.places(os.path.abspath(source))
            if len(places) != 1:
                fault = f"lists {len(places)} images of that name" if places else "does not list it"
                msg = (
                    f"'{source}' is to be predicted, but '{annotations}' {fault}. Give the images that it lists, from "
                    "the folder that its file names start from."
                )
                raise InputError(msg)
            first = owners.setdefault(places[0], source)
            if first != source:
                msg = (
                    f"'{first}' and '{source}' are both the image '{table.file_name(places[0])}' of '{annotations}'. "
                    "Give one of them."
                )
                raise InputError(msg)
            images[os.path.abspath(source)] = (int(table.image_ids[places[0]]), table.file_name(places[0]))
        pairs = zip(classes.category_ids, matched.category_ids.tolist(), strict=True)
        return cls(images, table.classes, {own: listed for own, listed in pairs if listed >= 0}, matched.note)
