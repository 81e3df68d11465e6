"""The document that `predict` writes, in the ids of the annotations that it is scored against.

`predict` knows no annotation file: it numbers images as it finds them, and categories as its network does. Here images
are matched by the names of their files and categories by their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from detection.data.categories import CategoryRows
from detection.data.classes import BoxClasses
from detection.data.coco import CocoAnnotations
from detection.data.image_names import ImageNames
from detection.scores.records import DetectionTable
from detection.scores.result_files import JsonId, Result, decoded, read_bytes
from engine.errors import InputError

_WHAT = "a COCO results list, nor a document of predict with images, scored annotations and categories"


class _Image(msgspec.Struct, gc=False):
    id: JsonId
    file_name: str


class _Category(msgspec.Struct, gc=False):
    id: JsonId
    name: str


class _Document(msgspec.Struct):
    images: list[_Image]
    annotations: list[Result]
    categories: list[_Category]


def read_predictions(path: str | Path, truth: CocoAnnotations) -> DetectionTable:
    """Read what is to be scored: a COCO results list, or the document that `predict` writes.

    Args:
        path: the file.
        truth: the annotations, whose ids the table has.

    Raises:
        InputError: the file is neither, names an image that the annotations do not list, or has categories of other
            names.
    """
    raw = read_bytes(Path(path))
    if raw.lstrip()[:1] != b"{":
        return DetectionTable.read(path)
    document = decoded(raw, _Document, Path(path), _WHAT)
    image_ids = _image_ids(str(path), document.images, truth)
    classes = BoxClasses.in_order((category.name, category.id) for category in document.categories)
    own = np.array([result.category_id for result in document.annotations], np.int64)
    unknown = set(own.tolist()) - set(classes.category_ids)
    if unknown:
        msg = f"'{path}' has boxes of category {min(unknown)}, which its 'categories' do not list. Predict again."
        raise InputError(msg)
    rows = np.searchsorted(np.array(classes.category_ids, np.int64), own)
    category_ids = CategoryRows.of(truth, classes).category_ids[rows]
    kept = category_ids >= 0  # classes that the annotations do not list are not scored
    try:
        of_images = np.array([image_ids[result.image_id] for result in document.annotations], np.int64)
    except KeyError as error:
        msg = f"'{path}' has boxes of image {error}, which its 'images' do not list. Predict again."
        raise InputError(msg) from error
    return DetectionTable(
        image_ids=of_images[kept],
        category_ids=category_ids[kept],
        boxes_xywh=np.array([result.bbox for result in document.annotations], np.float64).reshape(-1, 4)[kept],
        scores=np.array([result.score for result in document.annotations], np.float64)[kept],
    )


def _image_ids(path: str, images: Sequence[_Image], truth: CocoAnnotations) -> dict[int, int]:
    """The annotations' id of each image of the document, by the end of its path."""
    names = ImageNames(truth)
    return {image.id: _id_of(path, image.file_name, names) for image in images}


def _id_of(path: str, name: str, names: ImageNames) -> int:
    found = names.places(name)
    if len(found) != 1:
        fault = "do not list it" if not found else f"list {len(found)} such images"
        msg = (
            f"'{path}' has objects of the image '{name}', but the annotations {fault}. Predict the images that are "
            "annotated, from the folder that their file names start from."
        )
        raise InputError(msg)
    return int(names.table.image_ids[found[0]])
