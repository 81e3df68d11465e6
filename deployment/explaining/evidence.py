"""What a box or a class of an image rests on, in the image's own pixels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import Grid, feature_grid, resample, size_hw
from deployment.explaining.cell_maps import Method, cell_maps, explained_maps
from detection.network.anchors import decode_boxes
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess, clip_boxes, postprocess, top_candidates
from engine.prediction.canvas import OnCanvas
from engine.prediction.predictor import check_numbers
from engine.reading.images import FloatArray, Letterbox
from segmentation.network.model import Segmenter

_PIXELS = Grid(1, (0, 0))


@dataclass(frozen=True, eq=False)
class Evidence:
    """One answer of a network, and what it rests on.

    Attributes:
        class_id: row of the class list.
        score: of a box its score; of a class of a segmentation its share of the image's pixels; of a class of the image
            its probability.
        box_xyxy: left, top, right, bottom in pixels of the image; of a class the box around its pixels, or what the
            network sees of the image.
        inside: (H, W) the pixels of the box or class, or those that the network sees.
        heat: (H, W) from 0 to 1, the largest value 1; 0 everywhere where the answer rests on no feature.
    """

    class_id: int
    score: float
    box_xyxy: tuple[float, float, float, float]
    inside: npt.NDArray[np.bool_]
    heat: FloatArray

    @property
    def share_inside(self) -> float:
        """Which share of the heat lies inside the box or class; 0 without heat."""
        total = float(self.heat.sum())
        return float(self.heat[self.inside].sum()) / total if total else 0.0

    @property
    def share_of_image(self) -> float:
        """Which share of the image the box or class is: that of the heat, if it lay everywhere alike."""
        return float(self.inside.mean())


class _Answers(NamedTuple):
    """The final boxes (N, 4) of one canvas, with the rows of the network's output that gave them."""

    boxes_xyxy: Tensor
    scores: Tensor
    class_ids: Tensor
    anchors: Tensor


def explain_boxes(
    network: EfficientDet,
    sample: OnCanvas,
    config: Postprocess,
    *,
    most: int,
    class_ids: Collection[int] = (),
    method: Method = "layercam",
) -> list[Evidence]:
    """What the best boxes of an image rest on, over the levels of the pyramid that both heads read.

    Args:
        network: the detector, not folded.
        sample: the image on its canvas.
        config: settings of the suppression.
        most: number of boxes.
        class_ids: leave out boxes of other classes; empty takes all.
        method: see `cell_maps`.

    Raises:
        InputError: the network's answers are no numbers.
    """
    images = sample.image.permute(2, 0, 1)[None]
    found = _answers(network, images, sample.letterbox, config)
    chosen = [row for row, class_id in enumerate(found.class_ids.tolist()) if not class_ids or class_id in class_ids]
    canvas_hw = size_hw(network.normalise(images))
    # Not the middles of the anchors: TensorFlow's padding lets a cell see half a stride further right and down.
    same = network.config.padding == "same"
    grids = [feature_grid(canvas_hw, 2**level, same_padding=same) for level in network.config.levels]
    evidence: list[Evidence] = []
    with explained_maps(network.fpn) as maps:
        logits = network.predictions(images)[0][0]
        for row in chosen[:most]:
            anchor, class_id = int(found.anchors[row]), int(found.class_ids[row])
            by_level = cell_maps(network, logits[anchor, class_id], maps, method)
            heat = over_canvas(by_level, grids, canvas_hw, sample.letterbox)
            box = (found.boxes_xyxy[row] / sample.letterbox.scale).tolist()
            evidence.append(of_box(class_id, float(found.scores[row]), box, heat))
    return evidence


def _answers(network: EfficientDet, images: Tensor, letterbox: Letterbox, config: Postprocess) -> _Answers:
    """The boxes of a canvas with their anchors: suppression gives boxes as they were, so each is found again."""
    with torch.no_grad():
        class_logits, box_deltas, anchors = network.predictions(images)
    check_numbers(class_logits, box_deltas)
    limits = torch.tensor([letterbox.image_hw]) * torch.tensor(letterbox.scale)
    found = postprocess(class_logits, box_deltas, anchors, config, limits)
    count = int((found.class_ids[0] >= 0).sum())
    _, rows, class_ids = top_candidates(class_logits, config.max_candidates)
    boxes = clip_boxes(decode_boxes(box_deltas[0, rows].float(), anchors[rows]), limits)[0]
    same = (found.boxes_xyxy[0, :count, None] == boxes).all(-1) & (found.class_ids[0, :count, None] == class_ids)
    # Candidates come best first, so the first of several equal ones is the one that was kept.
    place = same.int().argmax(1)
    return _Answers(found.boxes_xyxy[0, :count], found.scores[0, :count], found.class_ids[0, :count], rows[0, place])


def over_canvas(
    by_level: Sequence[FloatArray], grids: Sequence[Grid], canvas_hw: tuple[int, int], letterbox: Letterbox
) -> FloatArray:
    """Maps of all levels over the image, (H, W) from 0 to 1.

    Args:
        by_level: a map of each level.
        grids: the places that its cells look at.
        canvas_hw: height and width of the canvas.
        letterbox: the place of the image on it.
    """
    heat = torch.zeros(canvas_hw)
    for grid, cells in zip(grids, by_level, strict=True):
        heat += resample(torch.from_numpy(cells)[None, None], grid, _PIXELS, canvas_hw)[0, 0]
    height, width = letterbox.scaled_hw
    image = heat[None, None, :height, :width]
    return scaled(F.interpolate(image, letterbox.image_hw, mode="bilinear", align_corners=False)[0, 0])


def of_box(class_id: int, score: float, box: Sequence[float], heat: FloatArray) -> Evidence:
    """The evidence of a box, left, top, right and bottom in pixels of the image."""
    left, top, right, bottom = box
    inside = pixels_inside((left, top, right, bottom), (heat.shape[0], heat.shape[1]))
    return Evidence(class_id, score, (left, top, right, bottom), inside, heat)


def pixels_inside(box_xyxy: tuple[float, float, float, float], image_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W) the pixels of an image whose middles lie inside a box."""
    left, top, right, bottom = box_xyxy
    rows, columns = (np.arange(side) + 0.5 for side in image_hw)
    return ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))


def explain_classes(
    network: Segmenter,
    image: Tensor,
    *,
    most: int,
    class_ids: Collection[int] = (),
    method: Method = "layercam",
) -> list[Evidence]:
    """What the classes of an image's pixels rest on, over the maps of the backbone that the head reads.

    Args:
        network: the segmenter, not folded.
        image: (H, W, 3) uint8 RGB.
        most: number of classes, those with the most pixels first.
        class_ids: leave out other classes; empty takes all.
        method: see `cell_maps`.

    Raises:
        InputError: the network's answers are no numbers.
    """
    images = image.permute(2, 0, 1)[None]
    image_hw = (image.shape[0], image.shape[1])
    grids = network.backbone.grids(image_hw)
    evidence: list[Evidence] = []
    backbone = network.backbone
    assert isinstance(backbone, nn.Module)  # which `check_features` has seen to
    with explained_maps(backbone) as maps:
        logits = network(images)[0]
        check_numbers(logits)
        rows = logits.argmax(0)
        pixels = torch.bincount(rows.flatten(), minlength=len(network.classes))
        order = [row for row in pixels.argsort(descending=True, stable=True).tolist() if pixels[row]]
        chosen = [row for row in order if not class_ids or row in class_ids]
        for class_id in chosen[:most]:
            inside = rows == class_id
            by_level = cell_maps(network, logits[class_id][inside].mean(), maps, method)
            heat = _over_image(by_level, grids, image_hw)
            places = inside.nonzero()
            top, left = places.amin(0).tolist()
            bottom, right = (places.amax(0) + 1).tolist()
            share = float(pixels[class_id]) / inside.numel()
            evidence.append(Evidence(class_id, share, (left, top, right, bottom), inside.numpy(), heat))
    return evidence


def _over_image(by_level: Sequence[FloatArray], grids: Sequence[Grid], image_hw: tuple[int, int]) -> FloatArray:
    """The mean of the maps of all levels over the image, each scaled to 0..1 and at the places of its cells.

    Gradients of fine maps are as many times smaller as they have more cells, so levels are not added as they are.
    """
    maps = [
        resample(torch.from_numpy(_to_one(level))[None, None], grid, _PIXELS, image_hw)[0, 0]
        for level, grid in zip(by_level, grids, strict=True)
    ]
    return scaled(torch.stack(maps).mean(0))


def scaled(heat: Tensor) -> FloatArray:
    """A map as an array, divided by its largest value."""
    return _to_one(heat.contiguous().numpy())


def _to_one(heat: FloatArray) -> FloatArray:
    largest = heat.max()
    return heat / largest if largest > 0 else heat
