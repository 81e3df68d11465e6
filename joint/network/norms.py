"""Batch norms of a shared extractor: shared by both tasks, frozen, or separate for each task.

Images of two sets differ in brightness, scale and content. Batch norms that see both have statistics that are right
for neither. With separate norms for each task (as in domain-specific batch norm, arXiv 1906.03950), every image goes
through the norms of the task that it has labels for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal

from torch import Tensor, nn

from backbones.contract import Freezing
from backbones.grid import is_traced
from backbones.networks import BATCH_NORMS
from backbones.two_strides import TwoStrideFeatures
from detection.network.model import EfficientDet
from engine.errors import InputError
from joint.network.model import JointNetwork, JointOutputs, SharedMaps
from segmentation.network.model import Segmenter

Norms = Literal["shared", "frozen", "per_task"]
TaskName = Literal["detection", "segmentation"]

# The task of the pass that is running. It belongs to the pass and not to the norms, because threads that share a
# network may run passes of both tasks at once.
_TASK: ContextVar[TaskName] = ContextVar("_TASK", default="detection")


class TaskNorm(nn.Module):
    """Two batch norms, each with its own statistics and affine parameters; the task of the pass uses its own.

    Args:
        norm: the norm that both begin as.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.detection = norm
        self.segmentation = copy.deepcopy(norm)

    def forward(self, features: Tensor) -> Tensor:
        """From (B, C, h, w) to the same shape."""
        normal: Tensor = (self.detection if _TASK.get() == "detection" else self.segmentation)(features)
        return normal


class PerTaskNetwork(JointNetwork):
    """A joint network whose extractor has batch norms for each task; all other weights are shared.

    The maps of one task are not those of the other: an image that needs both answers takes two passes, at the cost of
    the two single networks.

    Args:
        detector: see `JointNetwork`.
        segmenter: see `JointNetwork`.
        options: the other arguments of `JointNetwork`.

    Raises:
        InputError: as in `JointNetwork`, or gradient checkpointing is asked for.
    """

    def __init__(self, detector: EfficientDet, segmenter: Segmenter, **options: Any) -> None:
        if (options.get("freezing") or {}).get("grad_checkpointing"):
            # The repeated forward of one task would run through the norms of the other.
            msg = "grad_checkpointing does not go with norms 'per_task'. Leave one of them out."
            raise InputError(msg)
        super().__init__(detector, segmenter, **options)
        for name, module in list(self.backbone.named_modules()):
            if isinstance(module, BATCH_NORMS):
                self.backbone.set_submodule(name, TaskNorm(module))
        self.backbone.train(self.backbone.training)

    def _attach(self, network: EfficientDet | Segmenter, levels: tuple[int, ...], *, dense: bool) -> None:
        del network.backbone
        task: TaskName = "detection" if isinstance(network, EfficientDet) else "segmentation"
        network.backbone = TaskMaps(self.backbone, levels, dense=dense, task=task)

    def forward(self, images: Tensor, detect: bool = True, segment: bool = True) -> JointOutputs:
        """As `JointNetwork.forward`, with a pass for each answer that is asked for."""
        predictions = self.detector.predictions(images) if detect else None
        segmentation = self.segmenter.outputs(images) if segment else None
        if segmentation is not None and is_traced(images):
            segmentation = segmentation._replace(aux_logits=segmentation.logits[:0])
        return JointOutputs(predictions, segmentation)

    def settings(self) -> dict[str, object]:
        """As `JointNetwork.settings`, with an entry by which `network_from` recognises this class."""
        return {**super().settings(), "norms": "per_task"}


class TaskMaps(SharedMaps):
    """As `SharedMaps`, with the batch norms of one task.

    Args:
        shared: see `SharedMaps`.
        levels: see `SharedMaps`.
        dense: see `SharedMaps`.
        task: the task whose norms are used.
    """

    def __init__(self, shared: TwoStrideFeatures, levels: tuple[int, ...], *, dense: bool, task: TaskName) -> None:
        super().__init__(shared, levels, dense=dense)
        self.task = task

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map per level, finest first, of normalised images (B, 3, H, W)."""
        token = _TASK.set(self.task)
        try:
            return super().forward(images)
        finally:
            _TASK.reset(token)


def task_norms(module: nn.Module) -> Iterator[TaskNorm]:
    """The pairs of norms in a module."""
    return (each for each in module.modules() if isinstance(each, TaskNorm))


def shared_parameters(network: JointNetwork) -> list[nn.Parameter]:
    """The trained parameters that the losses of both tasks depend on: those of the backbone, without separate norms."""
    own = {id(p) for norm in task_norms(network.backbone) for p in norm.parameters()}
    return [p for p in network.backbone.parameters() if p.requires_grad and id(p) not in own]


def network_type(norms: str | None) -> type[JointNetwork]:
    """The class of networks with these norms."""
    return PerTaskNetwork if norms == "per_task" else JointNetwork


def network_from(settings: Mapping[str, Any], freezing: Freezing | None = None) -> JointNetwork:
    """The network that the settings of either class describe, with random weights."""
    return network_type(settings.get("norms")).from_settings(settings, freezing)
