"""A detector in a file of another runtime, with the interface of the network that it was exported from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn, Self, cast

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses, StoredClasses
from detection.network.anchors import AnchorCache
from detection.network.family import DetectorArchitecture
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess, to_original_pixels
from engine.errors import InputError
from engine.exports.files import Runtime, computed, open_exported

_FREE = ("score_threshold", "max_detections", "max_candidates", "soft_sigma")


class ExportedDetector(EfficientDet):
    """A detector whose maps, or whose boxes, a runtime computes. It has no weights and cannot be trained.

    Args:
        runtime: the opened file.

    Raises:
        InputError: the file does not describe a detector.
    """

    folded = True

    def __init__(self, runtime: Runtime) -> None:
        nn.Module.__init__(self)  # no layers
        about = runtime.about
        try:
            self.config = DetectorArchitecture.from_settings(about.model)
            if about.takes_pictures and about.canvas_hw is not None:
                self.config = replace(self.config, image_size=about.canvas_hw)
            self.classes = BoxClasses.from_dict(cast("StoredClasses", about.settings("classes")))
            self.inside = None if about.postprocess is None else _postprocess(about.postprocess)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"'{runtime.path}' does not describe a detector: {error}. Export it again."
            raise InputError(msg) from error
        self.runtime = runtime
        self.anchors = AnchorCache(self.config)
        self.register_scale()

    @property
    def own_postprocess(self) -> Postprocess:
        """The suppression inside the file, or else that of the checkpoint that it was exported from."""
        if self.inside is not None:
            return self.inside
        return _postprocess(self.runtime.about.settings("postprocess"))

    @property
    def takes_pictures(self) -> bool:
        """Whether the letter-box is inside the file."""
        return self.runtime.about.takes_pictures

    @property
    def suppresses(self) -> bool:
        """Whether boxes come out of the file, and no logits."""
        return self.inside is not None

    def predictions(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As those of the network.

        Raises:
            InputError: the file gives boxes only, or takes no images of this number or size.
        """
        if self.suppresses:
            msg = f"'{self.runtime.path}' gives boxes, not logits. Export it with --nms outside."
            raise InputError(msg)
        step = self.config.stride if self.config.pads_canvas else 1
        height, width = (side + -side % step for side in size_hw(images))
        found = computed(self.runtime, images, _whole(images))
        anchors = self.anchors((height, width), images.device)
        return found["class_logits"], found["box_deltas"], anchors

    @torch.no_grad()
    def detect(self, batch: DetectionBatch, config: Postprocess) -> Detections:
        """Detections of a letter-boxed batch, in pixels of the original images.

        Raises:
            InputError: other settings are asked for than those of the suppression inside the file, or the file takes no
                images of this number or size.
        """
        if self.inside is None:
            return super().detect(batch, config)
        found = computed(self.runtime, batch.images, batch.sizes_hw * batch.scales[:, None])
        boxes = Detections(found["boxes_xyxy"], found["scores"], found["class_ids"], found.get("masks"))
        return self.finished(boxes, batch, config)

    def finished(self, found: Detections, batch: DetectionBatch, config: Postprocess) -> Detections:
        """The boxes of a file in pixels of the original images, as far as their scores are asked for.

        Args:
            found: boxes in pixels of the canvas, by falling score.
            batch: the images.
            config: the settings that are asked for.

        Raises:
            InputError: they are not those of the suppression inside the file.
        """
        assert self.inside is not None
        self._check_settings(self.inside, config)
        boxes, scores, class_ids = (part[:, : config.max_detections] for part in found[:3])
        class_ids = torch.where(scores > config.score_threshold, class_ids.long(), -1)
        used = class_ids >= 0  # by falling score, so that rows without a box stay the last
        masks = None if found.masks is None else found.masks[:, : config.max_detections]
        kept = Detections(boxes * used[..., None], scores * used, class_ids, masks)
        return to_original_pixels(kept, batch.scales, batch.sizes_hw)

    def _check_settings(self, inside: Postprocess, asked: Postprocess) -> None:
        own, other = asdict(inside), asdict(asked)
        differing = [name for name in own if name not in _FREE and own[name] != other[name]]
        if asked.score_threshold < inside.score_threshold:
            differing.insert(0, "score_threshold")
        if differing:
            name = differing[0]
            msg = (
                f"postprocess.{name} is {other[name]}, but '{self.runtime.path}' was exported with {own[name]}. Leave "
                "it out, or export the checkpoint again with --nms outside, which leaves the suppression to this "
                "command."
            )
            raise InputError(msg)

    def forward(self, images: Tensor) -> NoReturn:
        """Not available: a file holds the whole network.

        Raises:
            InputError: always.
        """
        msg = f"'{self.runtime.path}' gives answers, not the maps of its levels. Load the checkpoint for these."
        raise InputError(msg)

    def train(self, mode: bool = True) -> Self:
        """Nothing changes: there are no layers with a mode."""
        return self


def load_exported(source: str | Path) -> ExportedDetector:
    """The detector of an exported file.

    Raises:
        InputError: the file is missing, damaged, of another program or of another task.
    """
    return ExportedDetector(open_exported(source, "detection"))


def _postprocess(stored: Mapping[str, object]) -> Postprocess:
    make: Callable[..., Postprocess] = Postprocess
    return make(**stored)


def _whole(images: Tensor) -> Tensor:
    return torch.tensor([size_hw(images)] * len(images), dtype=torch.float32)
