"""The distribution form of boxes: beside each delta the box tower learns how likely every value of it is.

Li et al., "Generalized Focal Loss" (arXiv 2006.04388, section 3.2). There the expected value of the distribution is the
answer, and the network grows by it. Here the plain deltas stay the answer, and the distribution teaches the tower only
while it is trained: it is in no file that is read to predict, and an exported network has the same cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.network.matching import Matches

BINS = 17  # the paper's n = 16 intervals
LARGEST = 2.0  # delta: anchors' sizes for centres, powers of e for sides; a fitted anchor stays well within it
_DELTAS = 4


class BoxDistribution(nn.Module):
    """Reads the tower's maps at positive anchors.

    Args:
        channels: of the tower's maps.
        anchors: A, anchors of a cell.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.logits = nn.Linear(channels, anchors * _DELTAS * BINS)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)

    def forward(self, towers: Sequence[Tensor], matches: Matches, targets: Tensor) -> Tensor:
        """The loss of each positive anchor, the mean of its four deltas', (P,).

        Args:
            towers: maps (B, C, H_l, W_l) of the box tower, finest first.
            matches: the positives.
            targets: (P, 4) their true deltas.
        """
        cells = torch.cat([maps.permute(0, 2, 3, 1).flatten(1, 2) for maps in towers], dim=1)
        seen = cells[matches.image, matches.anchor // self.anchors]
        logits = self.logits(seen).float().view(-1, self.anchors, _DELTAS, BINS)
        own = logits[torch.arange(len(seen), device=seen.device), matches.anchor % self.anchors]
        return distribution_loss(own, targets.float()).mean(1)


def distribution_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the two bins around each target, in proportion to how near it is (equation 6); (...,).

    Args:
        logits: (..., BINS) of equally spaced values from -LARGEST to LARGEST.
        targets: (...,); those beyond are taken as the nearest.

    >>> bins = torch.zeros(BINS)
    >>> round(float(distribution_loss(bins, torch.tensor(0.3))), 4)  # the logarithm of 17
    2.8332
    """
    places = (targets.clamp(-LARGEST, LARGEST) + LARGEST) * ((BINS - 1) / (2 * LARGEST))
    lower = places.floor().clamp(max=BINS - 2)
    upper_share = places - lower
    log_likely = F.log_softmax(logits, -1)
    lower_log = log_likely.gather(-1, lower.long()[..., None])[..., 0]
    upper_log = log_likely.gather(-1, lower.long()[..., None] + 1)[..., 0]
    return -(lower_log * (1 - upper_share) + upper_log * upper_share)
