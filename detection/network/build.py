"""A detector by its settings, whichever head it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from detection.data.classes import BoxClasses, StoredClasses
from detection.network.detector import Detector
from detection.network.family import DetectorArchitecture, architecture
from detection.network.heads.detector import HeadedDetector
from detection.network.model import EfficientDet
from engine.errors import InputError


def build_detector(member: str | DetectorArchitecture = "d0", **options: object) -> Detector:
    """A detector with random weights, except for those of the backbone that are asked for.

    Args:
        member: `d0` ... `d7x`, `lite0` ... `lite4`, or a complete `DetectorArchitecture`.
        options: those of `detection.network.detector.Detector`; `head` is one of
            `detection.network.heads.choice.Head`.

    Raises:
        InputError: as `Detector`.
    """
    head = options.get("head") or (architecture(member).head if isinstance(member, str) else member.head)
    kind: Callable[..., Detector] = EfficientDet if head == "efficientdet" else HeadedDetector
    return kind(member, **options)


def restore_detector(settings: Mapping[str, object]) -> Detector:
    """The network that `Detector.settings` describes, with random weights.

    Raises:
        InputError: the settings are of another version, or do not say how the backbone is built.
    """
    config = DetectorArchitecture.from_settings(settings)
    return build_detector(config, classes=BoxClasses.from_dict(cast("StoredClasses", settings["classes"])))


def only_efficientdet(detector: Detector, source: object, purpose: str) -> EfficientDet:
    """The detector, if it is EfficientDet.

    Args:
        detector: any.
        source: where it is from.
        purpose: what it is for, the subject of a sentence.

    Raises:
        InputError: it has another head.
    """
    if isinstance(detector, EfficientDet):
        return detector
    msg = (
        f"'{source}' has the head {detector.config.head}, and {purpose} takes EfficientDet's only. Train with "
        "--model.head efficientdet for it; `python -m detection` validates and predicts with every head."
    )
    raise InputError(msg)
