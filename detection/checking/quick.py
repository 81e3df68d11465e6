"""What a training says of its boxes before it begins: what the annotations alone tell."""

from __future__ import annotations

from torch import nn

from detection.checking.given import BoxData, apart
from detection.checking.read_set import quick_findings
from detection.network.detector import Detector
from detection.network.family import DetectorArchitecture
from engine.checking.findings import CheckReport
from engine.checking.given import sources_by_split
from engine.data.contracts import OF_TRAINING


def quick_check(data: object, network: nn.Module) -> CheckReport | None:
    """What is wrong with the boxes of a data module, as far as the annotations alone tell.

    Args:
        data: the data module.
        network: the detector that is trained.
    """
    return quick_report(data, network.config) if isinstance(network, Detector) else None


def quick_report(data: object, network: DetectorArchitecture) -> CheckReport | None:
    """The faults of the boxes of a data module, without reading an image; None for one of another kind.

    Args:
        data: the data module.
        network: that is trained.
    """
    if not isinstance(data, BoxData):
        return None
    sources, unusable, _ = sources_by_split(data.has, data.box_source, OF_TRAINING)
    if not sources:
        return None
    own, same = apart(sources)
    images = sum(len(source.image_ids) for source in sources.values())
    found = quick_findings(own, network.image_size, network)
    return CheckReport(f"boxes of {images:,} images", (*unusable, *same, *found))
