"""What a class of a whole image rests on, in the image's own pixels."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import Grid, resample
from classification.network.model import Classifier
from deployment.explaining.cell_maps import Method, cell_maps, explained_maps
from deployment.explaining.evidence import Evidence, pixels_inside, scaled
from engine.prediction.predictor import check_numbers
from engine.reading.images import UInt8Array


def explain_labels(
    network: Classifier,
    image: UInt8Array,
    *,
    most: int,
    class_ids: Collection[int] = (),
    method: Method = "layercam",
) -> list[Evidence]:
    """What the likeliest classes of an image rest on, over the backbone's coarsest map, which the head reads.

    Explained are the log-odds of each probability: where images have one label, what speaks for a class against all
    others.

    Args:
        network: the classifier, not folded.
        image: (H, W, 3) uint8 RGB.
        most: number of classes, the likeliest first.
        class_ids: leave out other classes; empty takes all.
        method: see `cell_maps`.

    Returns:
        The evidence of each class. Inside is what the network sees of the image: a square, often cut out of the middle.

    Raises:
        InputError: the network's answers are no numbers.
    """
    square = network.framing(image).permute(2, 0, 1)[None]
    side = square.shape[-1]
    image_hw = (image.shape[0], image.shape[1])
    left, top, right, bottom = window = network.framing.window(image_hw)
    inside = pixels_inside(window, image_hw)
    box = (max(0.0, left), max(0.0, top), min(float(image_hw[1]), right), min(float(image_hw[0]), bottom))
    (grid,) = network.backbone.grids((side, side))
    backbone = network.backbone
    assert isinstance(backbone, nn.Module)  # which `check_features` has seen to
    evidence: list[Evidence] = []
    with explained_maps(backbone) as maps:
        logits = network(square)[0]
        check_numbers(logits)
        odds = logits if network.classes.several else log_odds(logits)
        order: list[int] = odds.argsort(descending=True, stable=True).tolist()
        for class_id in [row for row in order if not class_ids or row in class_ids][:most]:
            (cells,) = cell_maps(network, odds[class_id], maps, method)
            seen = resample(torch.from_numpy(cells)[None, None], grid, Grid(1, (0, 0)), (side, side))
            heat = scaled(_over_image(seen, window, image_hw) * torch.from_numpy(inside))
            evidence.append(Evidence(class_id, float(odds[class_id].detach().sigmoid()), box, inside, heat))
    return evidence


def log_odds(logits: Tensor) -> Tensor:
    """(..., K) logarithms of p / (1 - p) of the probabilities that softmax makes of logits (..., K).

    >>> log_odds(torch.tensor([0.0, 2.0])).tolist()
    [-2.0, 2.0]
    """
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = logits[..., None, :].masked_fill(own, -torch.inf).logsumexp(-1)
    return logits - others


def _over_image(seen: Tensor, window: tuple[float, float, float, float], image_hw: tuple[int, int]) -> Tensor:
    """A map (1, 1, S, S) of a square at the pixels of the image that it was cut out of."""
    left, top, right, bottom = window
    height, width = image_hw
    ys = ((torch.arange(height) + 0.5) - top) / (bottom - top) * 2 - 1
    xs = ((torch.arange(width) + 0.5) - left) / (right - left) * 2 - 1
    places = torch.stack([xs[None, :].expand(height, width), ys[:, None].expand(height, width)], dim=-1)[None]
    over: Tensor = F.grid_sample(seen, places, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
    return over
