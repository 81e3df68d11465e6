"""Detectors teach a detector: maps of the pyramid, scores and boxes of its anchors.

Members share one lattice of anchors (levels, sizes, ratios), so that the answers of a teacher of any size stand for the
same anchors as the student's. For images enlarged twice, the teacher's level 4 has the cells of the student's level 3,
and its anchors have the same size relative to the image.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.grid import size_hw
from detection.network.anchors import Lattice
from detection.network.model import Answers, EfficientDet
from detection.training.settings import Distillation
from engine.distillation.losses import map_distance, score_distance
from engine.distillation.teachers import Teachers
from engine.errors import InputError

BOX_WEIGHT = 50.0  # of google/automl's Huber loss, as `DetectionLoss.of_boxes`
DELTA = 0.1  # and where it turns from square to linear
_log = logging.getLogger(__name__)


class Lessons(NamedTuple):
    """What a student still has to learn from a batch.

    Attributes:
        features: () mean distance of the maps, over levels and teachers, on this device.
        classes: () sum over the anchors and classes, averaged over the teachers.
        boxes: () sum over the anchors, each weighted by how sure the teacher is, averaged over the teachers.
        sureness: () the sum of these weights, without gradient.
    """

    features: Tensor
    classes: Tensor
    boxes: Tensor
    sureness: Tensor

    def terms(self, config: Distillation, normaliser: Tensor) -> dict[str, Tensor]:
        """The weighted terms by name, without those of weight 0; their sum is what to minimise.

        Args:
            config: the weights.
            normaliser: the sureness of all devices, divided by their number; it is taken as at least 1.
        """
        divisor = normaliser.clamp(min=1.0)
        found = {
            "distilled_features": (config.features, self.features),
            "distilled_classes": (config.classes, self.classes / divisor),
            "distilled_boxes": (config.boxes * BOX_WEIGHT, self.boxes / divisor),
        }
        return {name: weight * term for name, (weight, term) in found.items() if weight}

    def over_devices(self, sum_up: Callable[[Tensor], Tensor], devices: int) -> Lessons:
        """The sums over the batches of all devices, and their mean of the features, without gradient."""
        features, classes, boxes, sureness = sum_up(torch.stack(list(self)).detach()).unbind()
        return Lessons(features / devices, classes, boxes, sureness)


class _Pupil(NamedTuple):
    """What one teacher and the student have in common.

    Attributes:
        shift: a level of the student stands for the teacher's that is coarser by so many.
        rows: (2, K) rows of the student's classes that the teacher knows, and the teacher's rows of the same classes;
            None if both lists are the same.
    """

    shift: int
    rows: Tensor | None


class DetectorDistiller(nn.Module):
    """Compares a student's answers with its teachers'. Its own parameters adapt widths and serve the training only.

    Args:
        student: the detector that learns.
        teachers: its teachers.
        config: what counts, and how much.

    Raises:
        InputError: a teacher has no class or level in common with the student, or other anchors.
    """

    def __init__(self, student: EfficientDet, teachers: Teachers[EfficientDet], config: Distillation) -> None:
        super().__init__()
        self.config = config
        self.teachers = teachers
        pairs = zip(teachers.sources, teachers.networks, strict=True)
        self._pupils = [_pupil(student, source, teacher, config) for source, teacher in pairs]
        for number, pupil in enumerate(self._pupils):
            # On the device with the adapters: a copy in each step would make it wait.
            self.register_buffer(f"rows_{number}", pupil.rows, persistent=False)
        self.levels = tuple(student.config.levels)
        self.adapters = nn.ModuleList()
        for teacher, pupil in zip(teachers.networks, self._pupils, strict=True):
            own, wanted = student.config.fpn_channels, teacher.config.fpn_channels
            count = len(_common(self.levels, teacher, pupil.shift)) if config.features and own != wanted else 0
            self.adapters.append(nn.ModuleList(nn.Conv2d(own, wanted, 1) for _ in range(count)))

    def forward(self, images: Tensor, answers: Answers, lattice: Lattice) -> Lessons:
        """What is left to learn from a batch.

        Args:
            images: (B, 3, H, W) as the student got them.
            answers: the student's.
            lattice: the order of its anchors.
        """
        found = []
        each = zip(self.teachers.on(images.device), self._pupils, self.adapters, strict=True)
        for number, (teacher, pupil, adapters) in enumerate(each):
            assert isinstance(adapters, nn.ModuleList)
            pupil = pupil._replace(rows=self._buffers[f"rows_{number}"])
            found.append(self._lesson(teacher, pupil, list(adapters), images, answers, lattice))
        return Lessons(*(torch.stack(parts).mean() for parts in zip(*found, strict=True)))

    def _lesson(
        self,
        teacher: EfficientDet,
        pupil: _Pupil,
        adapters: Sequence[nn.Module],
        images: Tensor,
        answers: Answers,
        lattice: Lattice,
    ) -> Lessons:
        with torch.no_grad():
            seen = _enlarged(images, 2**pupil.shift)
            taught = teacher.answers(seen)
        levels = _common(self.levels, teacher, pupil.shift)
        first, teachers_first = levels[0] - self.levels[0], levels[0] + pupil.shift - teacher.config.levels[0]
        own = answers.pyramid[first : first + len(levels)]
        others = taught.pyramid[teachers_first : teachers_first + len(levels)]
        _check_cells(own, others)
        adapted = [adapt(maps) for adapt, maps in zip(adapters, own, strict=True)] if adapters else own
        distances = [map_distance(*pair) for pair in zip(adapted, others, strict=True)] if self.config.features else []
        none = answers.class_logits.new_zeros((), dtype=torch.float32)
        features = torch.stack(distances).mean() if distances else none
        if not (self.config.classes or self.config.boxes):
            return Lessons(features, none, none, none)
        there = _anchors_of(lattice, first, len(levels))
        here = _anchors_of(teacher.lattice(size_hw(seen)), teachers_first, len(levels))
        class_logits, scores = answers.class_logits[:, there], taught.class_logits[:, here].float().sigmoid()
        if pupil.rows is not None:
            class_logits, scores = class_logits[..., pupil.rows[0]], scores[..., pupil.rows[1]]
        sureness = scores.amax(-1).square()
        classes = score_distance(class_logits, scores, self.config.focusing).sum() if self.config.classes else none
        boxes = none
        if self.config.boxes:
            deltas, wanted = answers.box_deltas[:, there].float(), taught.box_deltas[:, here].float()
            apart = F.huber_loss(deltas, wanted, delta=DELTA, reduction="none").mean(-1)
            boxes = (apart * sureness).sum()
        return Lessons(features, classes, boxes, sureness.sum())


def _pupil(student: EfficientDet, source: str, teacher: EfficientDet, config: Distillation) -> _Pupil:
    shift = _shift(student, teacher, config)
    if not _common(tuple(student.config.levels), teacher, shift):
        msg = (
            f"for images enlarged {2**shift} times the teacher '{source}' has no level in common with this network. "
            "Give --model.distillation.enlarge 1."
        )
        raise InputError(msg)
    if not (config.classes or config.boxes):
        return _Pupil(shift, None)
    for name in ("anchor_scale", "anchor_octaves", "anchor_ratios"):
        own, other = getattr(student.config, name), getattr(teacher.config, name)
        if own != other:
            msg = (
                f"the teacher '{source}' has {name} {other}, and this network has {own}, so that their anchors do not "
                f"correspond. Give --model.architecture.{name} as the teacher has it, or --model.distillation.classes "
                "0 and --model.distillation.boxes 0 to learn from its maps alone."
            )
            raise InputError(msg)
    if student.classes.names == teacher.classes.names:
        return _Pupil(shift, None)
    rows = {name: row for row, name in enumerate(teacher.classes.names) if name}
    known = [(row, rows[name]) for row, name in enumerate(student.classes.names) if name in rows]
    if not known:
        msg = (
            f"the teacher '{source}' knows none of the classes {', '.join(student.classes.names[:8])}. Give one that "
            "was trained on some of them, or --model.distillation.classes 0 and --model.distillation.boxes 0."
        )
        raise InputError(msg)
    if len(known) < len(student.classes):
        _log.warning("the teacher '%s' knows %d of the %d classes", source, len(known), len(student.classes))
    return _Pupil(shift, torch.tensor(known).T.contiguous())


def _shift(student: EfficientDet, teacher: EfficientDet, config: Distillation) -> int:
    if config.enlarge is not None:
        return int(math.log2(config.enlarge))
    (height, width), (teachers_height, teachers_width) = student.config.image_size, teacher.config.image_size
    return min(max(round(math.log2(teachers_height * teachers_width / (height * width)) / 2), 0), 2)


def _common(levels: Sequence[int], teacher: EfficientDet, shift: int) -> list[int]:
    """The student's levels that stand for one of the teacher's."""
    return [level for level in levels if level + shift in teacher.config.levels]


def _enlarged(images: Tensor, times: int) -> Tensor:
    if times == 1:
        return images
    return F.interpolate(images.float(), scale_factor=float(times), mode="bilinear", align_corners=False)


def _anchors_of(lattice: Lattice, first: int, levels: int) -> slice:
    """Where the anchors of some neighbouring levels are among all."""
    counts = lattice.counts()
    start = sum(counts[:first])
    return slice(start, start + sum(counts[first : first + levels]))


def _check_cells(own: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    cells, teachers_cells = ([size_hw(maps) for maps in each] for each in (own, others))
    if cells != teachers_cells:
        msg = (
            f"the levels of the teacher have {teachers_cells} cells, and those of this network {cells}. Give a canvas "
            "whose sides are multiples of 128 pixels, or --model.distillation.enlarge 1."
        )
        raise InputError(msg)
