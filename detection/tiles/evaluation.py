"""What was found in the tiles of an evaluation, merged into what was found in whole images."""

from __future__ import annotations

import numpy as np

from detection.data.tiles.cutting import TiledImages
from detection.network.postprocess import Postprocess
from detection.scores.records import DetectionRecords
from detection.tiles.running import in_picture
from detection.tiles.seams import TileBoxes, merged


def of_whole_images(records: DetectionRecords, tiles: TiledImages, postprocess: Postprocess) -> DetectionRecords:
    """The detections of the images of which every tile was seen; others are left out, as images that were not seen.

    Args:
        records: the detections of single tiles in their own pixels, under their numbers.
        tiles: the tiles of all images.
        postprocess: the suppression, whose threshold of overlap counts across tiles too.
    """
    whole = DetectionRecords()
    found: list[TileBoxes] = []
    index, left = -1, 0
    for number, boxes_xyxy, scores, category_ids in records.images():
        image, which = tiles.place(number)
        tiling = tiles.tilings[image]
        if image != index:
            index, left, found, order = image, len(tiling), [], list(tiling)
        tile = TileBoxes(boxes_xyxy.astype(np.float64), scores.astype(np.float32), category_ids.astype(np.int64))
        found.append(in_picture(tile, order[which]))
        left -= 1
        if left == 0:
            together = merged(found, tiling, postprocess.iou_threshold, class_agnostic=postprocess.class_agnostic)
            whole.add(
                tiles.images.source.image_ids[image : image + 1], together.boxes_xyxy[None], together.scores[None],
                together.class_ids[None],
            )  # fmt: skip
    return whole
