"""How far a student's maps and logits are from a teacher's; each is 0 where both say the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-8  # of a variance, so that a constant channel becomes zeros and has a gradient


def map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - r, with Pearson's r of each channel over the batch and all cells, averaged over the channels; 0 to 2.

    Cao et al., "PKD" (arXiv 2207.02039, equations 3 and 4): the mean squared difference of standardised channels,
    halved. A scale or shift of a channel does not matter, so that networks of other kinds can teach.

    Args:
        student: (B, C, H, W).
        teacher: the same shape.
    """
    return F.mse_loss(_standardised(student), _standardised(teacher)) / 2


def _standardised(maps: Tensor) -> Tensor:
    maps = maps.float()
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    return (maps - mean) * (variance + _EPS).rsqrt()


def channel_distance(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of where each class is, averaged over images and classes.

    Shu et al., "Channel-wise Knowledge Distillation" (arXiv 2011.13256, equation 2): a softmax over the places of a
    channel, at a temperature, and the divergence times its square.

    Args:
        student_logits: (B, K, H, W).
        teacher_logits: the same shape.
        temperature: above 0; the larger, the more the weak places count.
    """
    own, others = (
        F.log_softmax(logits.float().flatten(2) / temperature, dim=-1) for logits in (student_logits, teacher_logits)
    )
    divergence = F.kl_div(own, others, reduction="sum", log_target=True)
    return divergence * temperature**2 / (own.shape[0] * own.shape[1])


def score_distance(student_logits: Tensor, teacher_scores: Tensor, focusing: float) -> Tensor:
    """Cross-entropy of each score with the teacher's as its target, weighted by how far they are apart; same shape.

    Li et al., "Generalized Focal Loss" (arXiv 2006.04388, equation 5), with the teacher's score as the quality.

    Args:
        student_logits: of any shape.
        teacher_scores: the same shape, 0 to 1.
        focusing: exponent of the difference, above 0.
    """
    logits = student_logits.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, teacher_scores, reduction="none")
    return (teacher_scores - logits.sigmoid()).abs().pow(focusing) * cross_entropy
