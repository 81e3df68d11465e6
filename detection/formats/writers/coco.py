"""A set as COCO: `images/SPLIT/` and `annotations/instances_SPLIT.json`, with the ids that it had."""

from __future__ import annotations

from pathlib import Path

from detection.formats.writers.parts import SetToWrite, folder_in
from engine.annotations.splits import ALL
from engine.outputs import write_json


def write(given: SetToWrite, folder: Path) -> dict[str, str]:
    """Write the labels, and say in which folder the images of each split belong."""
    categories = [
        {"id": category_id, "name": name} for category_id, name in zip(given.category_ids, given.classes, strict=True)
    ]
    for split in given.splits:
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for image in given.images(split):
            height, width = image.size_hw
            images.append({"id": image.image_id, "file_name": image.name, "height": height, "width": width})
            for corners, row, crowd, area in zip(image.corners_xyxy, image.rows, image.crowd, image.areas, strict=True):
                left, top, right, bottom = corners.tolist()
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image.image_id,
                        "category_id": given.category_ids[row],
                        "bbox": [left, top, right - left, bottom - top],
                        "area": float(area),
                        "iscrowd": int(crowd),
                    }
                )
        name = "instances.json" if split == ALL else f"instances_{split}.json"
        write_json(
            folder / "annotations" / name, {"images": images, "annotations": annotations, "categories": categories}
        )
    return {split: folder_in("images", split) for split in given.splits}
