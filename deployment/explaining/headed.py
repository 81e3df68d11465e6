"""What a box of one of torchvision's heads rests on, in the image's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.ssd import SSD

from backbones.grid import Grid, feature_grid, size_hw
from deployment.explaining.cell_maps import Method, cell_maps, explained_maps
from deployment.explaining.evidence import Evidence, of_box, over_canvas
from deployment.explaining.labels import log_odds
from detection.network.heads.contract import Placed
from detection.network.heads.detector import HeadedDetector
from detection.network.heads.kinds.dense import DenseHead
from detection.network.heads.kinds.faster_rcnn import FasterRcnnHead
from detection.network.heads.parts import exact_maps, image_list
from detection.network.heads.pyramid import PlainPyramid
from detection.network.postprocess import Postprocess, clip_boxes
from engine.prediction.canvas import OnCanvas
from engine.prediction.predictor import check_numbers


class _Candidates(NamedTuple):
    """What a head thinks of each cell or proposal, before the suppression.

    Attributes:
        scores: (R, K).
        boxes_xyxy: (R, 4) in pixels of the canvas, or (R, K, 4) where each class has its own.
        odds: the log-odds of a score by its row and column, with what they were computed from.
    """

    scores: Tensor
    boxes_xyxy: Tensor
    odds: Callable[[int, int], Tensor]


def explain_headed_boxes(
    network: HeadedDetector,
    sample: OnCanvas,
    config: Postprocess,
    *,
    most: int,
    class_ids: Collection[int] = (),
    method: Method = "layercam",
) -> list[Evidence]:
    """What the best boxes of an image rest on, over the levels of the pyramid; see `explain_boxes` for the arguments.

    Explained are the log-odds of a box's score: of RetinaNet its logit; of FCOS those of the geometric mean of class
    and centre; of SSD and R-CNN what speaks for its class against all others and the background. Where a proposal lies
    is taken as it is.

    Raises:
        InputError: the network's answers are no numbers.
    """
    images = sample.image.permute(2, 0, 1)[None]
    letterbox = sample.letterbox
    normal = network.normalise(images)
    canvas_hw = size_hw(normal)
    height, width = (side * letterbox.scale for side in letterbox.image_hw)
    placed = Placed(canvas_hw, [(height, width)], images.device)
    grids = _grids(network, canvas_hw)
    evidence: list[Evidence] = []
    with explained_maps(network.pyramid) as maps:
        levels = network.pyramid(network.backbone(normal))
        outputs = network.head.outputs(levels)
        with torch.no_grad():
            (found,) = network.head.detections(levels, outputs, placed, config)
        check_numbers(*levels, *outputs)
        candidates = _candidates(network.head, levels, outputs, placed)
        chosen = [
            row for row, class_id in enumerate(found.class_ids.tolist()) if not class_ids or class_id in class_ids
        ]
        for row in chosen[:most]:
            class_id, score = int(found.class_ids[row]), float(found.scores[row])
            place = _row_of(candidates, (height, width), found.boxes_xyxy[row], class_id, score)
            by_level = cell_maps(network, candidates.odds(place, class_id), maps, method)
            heat = over_canvas(by_level, grids, canvas_hw, letterbox)
            evidence.append(of_box(class_id, score, (found.boxes_xyxy[row] / letterbox.scale).tolist(), heat))
    return evidence


def _row_of(candidates: _Candidates, limits_hw: tuple[float, float], box: Tensor, class_id: int, score: float) -> int:
    """The candidate that a box was: suppression gives boxes as they were, but for the image's edges and rounding."""
    boxes = candidates.boxes_xyxy
    own = clip_boxes((boxes if boxes.ndim == 2 else boxes[:, class_id])[None], torch.tensor([limits_hw]))[0]
    apart = (own - box).abs().amax(1) + (candidates.scores[:, class_id] - score).abs()
    return int(apart.argmin())


def _candidates(head: object, levels: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed) -> _Candidates:
    if isinstance(head, DenseHead):
        return _of_cells(head, levels, outputs, placed)
    assert isinstance(head, FasterRcnnHead)
    return _of_proposals(head, levels, placed)


def _of_cells(head: DenseHead, levels: Sequence[Tensor], outputs: Sequence[Tensor], placed: Placed) -> _Candidates:
    model = head.model
    logits, codes, *centres = (output[0] for output in outputs)
    (anchors,) = model.anchor_generator(image_list(placed), exact_maps(levels))
    if isinstance(model, FCOS):
        (centre,) = centres
        boxes = model.box_coder.decode(codes.detach(), anchors)
        scores = (logits.sigmoid() * centre.sigmoid()).sqrt()
        return _Candidates(scores.detach(), boxes, lambda row, column: torch.logit(scores[row, column], eps=1e-6))
    boxes = model.box_coder.decode_single(codes.detach(), anchors)
    if isinstance(model, SSD):
        return _against_others(logits, boxes)
    return _Candidates(logits.detach().sigmoid(), boxes, lambda row, column: logits[row, column])


def _of_proposals(head: FasterRcnnHead, levels: Sequence[Tensor], placed: Placed) -> _Candidates:
    named = {str(level): one for level, one in enumerate(levels, 3)}
    with torch.no_grad():
        proposals, _ = head.rpn(image_list(placed), named)
    heads = head.roi_heads
    features = heads.box_roi_pool(named, proposals, placed.sizes_hw)
    logits, codes = heads.box_predictor(heads.box_head(features))
    return _against_others(logits, heads.box_coder.decode(codes.detach(), proposals)[:, 1:])


def _against_others(logits: Tensor, boxes: Tensor) -> _Candidates:
    """Candidates of (R, K + 1) logits of which the first is the background's."""
    scores = logits.detach().softmax(1)[:, 1:]
    return _Candidates(scores, boxes, lambda row, column: log_odds(logits[row])[column + 1])


def _grids(network: HeadedDetector, canvas_hw: tuple[int, int]) -> list[Grid]:
    """Where the cells of each level look.

    The plain pyramid goes on beyond the backbone by layers whose padding is symmetric.
    """
    levels = network.config.levels
    if not isinstance(network.pyramid, PlainPyramid):
        same = network.config.padding == "same"
        return [feature_grid(canvas_hw, 2**level, same_padding=same) for level in levels]
    own = list(network.backbone.grids(canvas_hw))
    return own + [Grid(2**level, own[-1].offset_yx) for level in levels[len(own) :]]
