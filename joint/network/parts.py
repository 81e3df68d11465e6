"""The detector and the segmenter of a joint network, made from the member, from settings or from checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.data.classes import BoxClasses
from detection.network.build import only_efficientdet
from detection.network.family import FAMILY as DETECTORS
from detection.network.family import DetectorOverrides, PhiName
from detection.network.family import MemberName as DetectorName
from detection.network.model import EfficientDet
from detection.weights.load import load_network as load_detector
from engine.errors import InputError
from segmentation.data.classes import MaskClasses
from segmentation.network.family import FAMILY as SEGMENTERS
from segmentation.network.family import MemberName as SegmenterName
from segmentation.network.family import SegmenterOverrides
from segmentation.network.model import Segmenter
from segmentation.weights.load import load_network as load_segmenter


@dataclass(frozen=True)
class DetectorPart:
    """The settings of the detecting part.

    Attributes:
        member: the member, if `model.member` shall not decide it.
        architecture: single values that replace those of the member.
        classes: the class list, if it shall not come from the data.
    """

    member: DetectorName | PhiName | None = None
    architecture: DetectorOverrides = DetectorOverrides()
    classes: BoxClasses | None = None


@dataclass(frozen=True)
class SegmenterPart:
    """The settings of the segmenting part.

    Attributes:
        member: the member, if the detector's backbone shall not decide it.
        architecture: single values that replace those of the member; backbone, mean and std are the detector's.
        classes: the class list, if it shall not come from the data.
    """

    member: SegmenterName | None = None
    architecture: SegmenterOverrides = SegmenterOverrides()
    classes: MaskClasses | None = None


def make_parts(
    member: str | None,
    detector: DetectorPart,
    segmenter: SegmenterPart,
    *,
    detector_checkpoint: str | Path | None = None,
    segmenter_checkpoint: str | Path | None = None,
    backbone_weights: str | Path | None = None,
) -> tuple[EfficientDet, Segmenter]:
    """A detector and a segmenter on the same backbone.

    A part without a checkpoint is made to fit the other: it gets the same backbone and the same normalisation.

    Args:
        member: the member of the detector; None takes that of the checkpoint, or else d0.
        detector: the settings of the detector.
        segmenter: the settings of the segmenter.
        detector_checkpoint: a trained detector: a checkpoint, a published name or its file.
        segmenter_checkpoint: a checkpoint of a trained segmenter.
        backbone_weights: ImageNet weights, used if there is no checkpoint.

    Raises:
        InputError: the settings contradict each other or a checkpoint.
    """
    name = detector.member or member
    if detector.member is not None and member not in (None, detector.member):
        msg = (
            f"model.member is {member}, but by the checkpoint, or by model.detector.member, the detector is "
            f"{detector.member}. Leave model.member out."
        )
        raise InputError(msg)
    if detector_checkpoint is None and segmenter_checkpoint is None:
        made = EfficientDet(
            name or "d0",
            classes=detector.classes,
            backbone_weights=backbone_weights,
            **detector.architecture.given(),
        )
        return made, _segmenter_beside(made, segmenter)
    if detector_checkpoint is not None:
        found = load_detector(detector_checkpoint, **detector.architecture.given())
        loaded = only_efficientdet(found, detector_checkpoint, "the joint network")
        if name not in (None, loaded.config.name):
            msg = f"model.member is {name}, but '{detector_checkpoint}' is a {loaded.config.name}. Leave it out."
            raise InputError(msg)
        if segmenter_checkpoint is None:
            return loaded, _segmenter_beside(loaded, segmenter)
        return loaded, load_segmenter(segmenter_checkpoint, **segmenter.architecture.given())
    assert segmenter_checkpoint is not None
    other = load_segmenter(segmenter_checkpoint, **segmenter.architecture.given())
    return _detector_beside(other, name, detector), other


def _segmenter_beside(detector: EfficientDet, part: SegmenterPart) -> Segmenter:
    backbone = detector.config.backbone
    usual = next((name for name, member in SEGMENTERS.items() if member.backbone == backbone), None)
    overrides: dict[str, Any] = {"mean": detector.config.mean, "std": detector.config.std}
    overrides |= detector.reading.given()
    if part.member is None and usual is None:
        overrides["backbone"] = backbone
    return Segmenter(part.member or usual or "b0", classes=part.classes, **{**overrides, **part.architecture.given()})


def _detector_beside(segmenter: Segmenter, name: str | None, part: DetectorPart) -> EfficientDet:
    backbone, norm = segmenter.config.backbone, segmenter.backbone.image_norm
    usual = next((each for each, member in DETECTORS.items() if member.backbone == backbone), None)
    overrides: dict[str, Any] = {"mean": segmenter.config.mean or norm.mean, "std": segmenter.config.std or norm.std}
    overrides |= segmenter.reading.given()
    if name is None and usual is None:
        overrides["backbone"] = backbone
    return EfficientDet(name or usual or "d0", classes=part.classes, **{**overrides, **part.architecture.given()})
