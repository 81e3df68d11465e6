"""What is found in the batches of an evaluation: in one pass or in several, in tiles that are merged afterwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from detection.data.batch import DetectionBatch, Detections
from detection.data.tiles.cutting import TiledImages
from detection.network.detector import Detector
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess
from detection.scores.records import DetectionRecords
from detection.tiles.passes import Passes
from detection.tiles.running import in_picture
from detection.tiles.seams import TileBoxes, merged


class Evaluated(NamedTuple):
    """What a batch of an evaluation gives.

    Attributes:
        found: the boxes of all passes together, in pixels of the originals.
        sums: (B, S + 1) as `Detector.image_losses`, of the images as training sees them; None without a loss.
    """

    found: Detections
    sums: Tensor | None


def evaluated(
    detector: Detector, batch: DetectionBatch, loss: DetectionLoss, postprocess: Postprocess, passes: Passes
) -> Evaluated:
    """The boxes and the losses of a batch; a pass as in training serves both.

    Args:
        detector: the network.
        batch: the images, with a view for each further pass.
        loss: settings of the loss.
        postprocess: the suppression that is asked for.
        passes: the passes over each image or tile.
    """
    once = passes.inference.is_plain
    config = postprocess if once else passes.postprocess(postprocess, suppressed=detector.suppresses)
    if detector.suppresses:  # an exported file without logits, and so without a loss
        sums, plain = None, detector.detect(batch, config)
    else:
        predictions = detector.predictions(batch.images)
        sums, plain = (
            detector.image_losses(predictions, batch, loss),
            detector.detections(predictions, batch, config),
        )
    if once:
        return Evaluated(plain, sums)
    views, found = iter(batch.views), []
    for one in passes.each:
        if one == passes.plain:
            found.append(plain)
            continue
        view = next(views)
        boxes = detector.detect(batch._replace(images=view.images, scales=view.scales), config)
        found.append(one.upright(boxes, batch.sizes_hw[:, 1]))
    return Evaluated(passes.together(found, postprocess), sums)


def of_whole_images(records: DetectionRecords, tiles: TiledImages | None, postprocess: Postprocess) -> DetectionRecords:
    """The detections of the images of which every tile was seen; others are left out, as images that were not seen.

    Args:
        records: the detections of single tiles in their own pixels, under their numbers.
        tiles: the tiles of all images; None where the records are of whole images already.
        postprocess: the suppression, whose threshold of overlap counts across tiles too.
    """
    if tiles is None:
        return records
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
