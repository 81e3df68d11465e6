"""What a training says of its boxes and masks before it begins."""

from __future__ import annotations

from torch import nn

from detection.checking.read_set import quick_findings
from detection.network.family import DetectorArchitecture
from engine.checking.findings import CheckReport
from engine.data.contracts import OF_TRAINING
from joint.checking.given import Given, JointSets
from joint.network.model import JointNetwork
from segmentation.checking.quick import quick_look


def quick_check(data: object, network: nn.Module) -> CheckReport | None:
    """What is wrong with a data module, as far as the annotations and a few masks tell.

    Args:
        data: the data module.
        network: the joint network that is trained.
    """
    return quick_report(data, network.detector.config) if isinstance(network, JointNetwork) else None


def quick_report(data: object, network: DetectorArchitecture) -> CheckReport | None:
    """The faults of a data module that annotations and a few masks tell; None for one of another kind.

    Args:
        data: the data module.
        network: the detecting part.
    """
    if not isinstance(data, JointSets):
        return None
    given = Given.of(data, OF_TRAINING)
    boxes = quick_findings(given.boxes, network.image_size, network) if given.boxes else []
    masks = quick_look(given.masks, [])
    findings = (*given.findings, *given.unmatched(), *boxes, *masks.findings)
    count = len(given.images())
    return CheckReport(f"boxes of {count:,} images and some of their masks", tuple(dict.fromkeys(findings)))
