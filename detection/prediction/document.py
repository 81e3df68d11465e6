"""Found objects as a document in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detection.data.classes import BoxClasses
from detection.prediction.predict import Found


def coco_document(found: dict[int, Found], paths: Sequence[Path], classes: BoxClasses) -> dict[str, Any]:
    """Images, categories and annotations with scores, in COCO's format; boxes are [x, y, width, height]."""
    images = []
    annotations: list[dict[str, Any]] = []
    for image_id in sorted(found):
        one = found[image_id]
        height, width = one.size_hw
        images.append({"id": image_id, "file_name": paths[image_id].as_posix(), "width": width, "height": height})
        columns = (one.boxes_xyxy.tolist(), one.scores.tolist(), one.category_ids.tolist())
        for (left, top, right, bottom), score, category_id in zip(*columns, strict=True):
            w, h = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [left, top, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "score": score,
                }
            )
    named = zip(classes.category_ids, classes.names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in named if name]
    return {"images": images, "categories": categories, "annotations": annotations}
