"""Segmenters teach a segmenter: where each class is."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import size_hw
from engine.distillation.losses import channel_distance
from engine.distillation.teachers import Teachers
from engine.errors import InputError
from segmentation.network.model import Segmenter
from segmentation.training.settings import Distillation
from segmentation.weights.load import load_network

CELL = 4  # pixels: the logits are compared at the stride at which DeepLabv3+ computes them, not after the upsampling
_log = logging.getLogger(__name__)


class SegmenterDistiller(nn.Module):
    """Compares a student's logits with its teachers'; it has no parameters.

    Args:
        student: the segmenter that learns.
        teachers: its teachers.
        config: how the logits are compared.

    Raises:
        InputError: a teacher has fewer than two classes in common with the student.
    """

    def __init__(self, student: Segmenter, teachers: Teachers[Segmenter], config: Distillation) -> None:
        super().__init__()
        self.config = config
        self.teachers = teachers
        pairs = zip(teachers.sources, teachers.networks, strict=True)
        for number, (source, teacher) in enumerate(pairs):
            # On the device with the student: a copy in each step would make it wait.
            self.register_buffer(f"rows_{number}", _common_rows(student, source, teacher), persistent=False)

    def forward(self, images: Tensor, logits: Tensor) -> Tensor:
        """The weighted distance from the teachers' logits, averaged over them.

        Args:
            images: (B, 3, H, W) as the student got them.
            logits: (B, K, H, W), the student's.
        """
        own = F.avg_pool2d(logits.float(), CELL, ceil_mode=True)
        distances = []
        for number, teacher in enumerate(self.teachers.on(images.device)):
            mine, others = self.get_buffer(f"rows_{number}")
            with torch.no_grad():
                taught = F.avg_pool2d(self._logits(teacher, images), CELL, ceil_mode=True)
            distances.append(channel_distance(own[:, mine], taught[:, others], self.config.temperature))
        return self.config.logits * torch.stack(distances).mean()

    def _logits(self, teacher: Segmenter, images: Tensor) -> Tensor:
        if self.config.enlarge == 1:
            found: Tensor = teacher(images)
            return found.float()
        image_hw = size_hw(images)
        seen_hw = tuple(max(1, round(side * self.config.enlarge)) for side in image_hw)
        seen = F.interpolate(images.float(), size=seen_hw, mode="bilinear", align_corners=False, antialias=True)
        return F.interpolate(teacher(seen).float(), size=image_hw, mode="bilinear", align_corners=False)


def make_distiller(student: Segmenter, config: Distillation) -> SegmenterDistiller:
    """What compares a segmenter with its teachers.

    Raises:
        InputError: a teacher cannot be read, or does not fit the student.
    """
    return SegmenterDistiller(student, Teachers(config.teachers, load_network, Segmenter.fold), config)


def _common_rows(student: Segmenter, source: str, teacher: Segmenter) -> Tensor:
    """(2, K) the rows of the student, and those of the teacher that stand for the same classes, by name."""
    rows = {name: row for row, name in enumerate(teacher.classes.names)}
    known = [(row, rows[name]) for row, name in enumerate(student.classes.names) if name in rows]
    if len(known) < 2:
        msg = (
            f"the teacher '{source}' has {len(known)} classes in common with this network, whose classes are "
            f"{', '.join(student.classes.names[:8])}; at least two are needed. Give a teacher that was trained on them."
        )
        raise InputError(msg)
    if len(known) < len(student.classes):
        _log.warning("the teacher '%s' knows %d of the %d classes", source, len(known), len(student.classes))
    return torch.tensor(known).T.contiguous()
