"""A joint network in a file of another runtime, with the interface of the network that it was exported from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, Self

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from detection.data.batch import DetectionBatch, Detections
from detection.network.postprocess import Postprocess
from detection.weights.exported import ExportedDetector
from engine.errors import InputError
from engine.exports.files import About, Runtime, check_overrides, check_untrained, computed, open_exported
from joint.network.model import JointAnswers, JointNetwork, JointOutputs
from joint.network.parts import DetectorPart
from segmentation.network.model import Outputs
from segmentation.weights.exported import ExportedSegmenter


class ExportedJoint(JointNetwork):
    """A joint network that a runtime computes: both answers come from every pass. It cannot be trained.

    Args:
        runtime: the opened file.

    Raises:
        InputError: the file does not describe a joint network.
    """

    folded = True
    detector: ExportedDetector
    segmenter: ExportedSegmenter

    def __init__(self, runtime: Runtime) -> None:
        nn.Module.__init__(self)  # no layers
        self.runtime = runtime
        if not {"detector", "segmenter"} <= runtime.about.model.keys():
            msg = f"'{runtime.path}' does not describe a joint network. Export it again."
            raise InputError(msg)
        self.detector = ExportedDetector(_Part(runtime, "detector"))
        self.segmenter = ExportedSegmenter(_Part(runtime, "segmenter"))

    @property
    def own_postprocess(self) -> Postprocess:
        """The suppression inside the file, or else that of the checkpoint that it was exported from."""
        about = self.runtime.about
        make: Callable[..., Postprocess] = Postprocess
        return make(**(about.postprocess or about.settings("postprocess")))

    @torch.no_grad()
    def answer(
        self, batch: DetectionBatch, config: Postprocess, *, detect: bool = True, segment: bool = True
    ) -> JointAnswers:
        """As that of the network.

        Raises:
            InputError: other settings are asked for than those of the suppression inside the file, or the file takes no
                images of this number or size.
        """
        images, about = batch.images, self.runtime.about
        found = computed(self.runtime, images, batch.sizes_hw * batch.scales[:, None])
        predictions, detections, segmentation, rows = None, None, None, None
        if detect and self.detector.suppresses:
            boxes = Detections(found["boxes_xyxy"], found["scores"], found["class_ids"])
            detections = self.detector.finished(boxes, batch, config)
        elif detect:
            anchors = self.detector.anchors(size_hw(images), images.device)
            predictions = found["class_logits"], found["box_deltas"], anchors
            detections = self.detector.detections(predictions, batch, config)
        if segment and about.argmax:
            rows = found["class_rows"]
        elif segment:
            segmentation = Outputs(found["logits"], None)
        return JointAnswers(JointOutputs(predictions, segmentation), detections, rows)

    def forward(self, images: Tensor, detect: bool = True, segment: bool = True) -> NoReturn:
        """Not available, as a suppression inside a file must know the sizes of the images: see `answer`.

        Raises:
            InputError: always.
        """
        msg = f"'{self.runtime.path}' gives answers for images of a known size. Use `answer`, or load the checkpoint."
        raise InputError(msg)

    def train(self, mode: bool = True) -> Self:
        """Nothing changes: there are no layers with a mode."""
        return self


class _Part:
    """The detector's or the segmenter's view of a joint file."""

    def __init__(self, runtime: Runtime, part: str) -> None:
        self.path = runtime.path
        self.about: About = replace(runtime.about, model=runtime.about.settings(part))
        self.run = runtime.run


def load_exported(source: str | Path) -> ExportedJoint:
    """The joint network of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another program or of another task.
    """
    return ExportedJoint(open_exported(source, "joint"))


def exported_network(source: str, detector: DetectorPart, *, fitting: bool) -> ExportedJoint:
    """The network of an exported file, for a command; its settings are those of the checkpoint that it was made of.

    Args:
        source: the file.
        detector: the settings of the detecting part that the command asks for.
        fitting: whether the command is a training, which is refused.

    Raises:
        InputError: as `load_exported`, or what is asked for is not in the file.
    """
    check_untrained(source, fitting=fitting)
    exported = load_exported(source)
    check_overrides(source, detector.architecture.given(), exported.detector.config.to_dict())
    return exported
