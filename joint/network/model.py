"""One pass, two answers: the heads of EfficientDet and of DeepLabv3+ on the maps of one EfficientNet.

The pass runs at the segmenter's output stride. The detector's pyramid reads its coarsest map at the cells of the
network of stride 32, where exact gates give the values of that network (`backbones.gates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from backbones.contract import Freezing, ImageNorm
from backbones.features import EfficientNetFeatures
from backbones.folding import Foldable
from backbones.grid import Grid, is_traced, size_hw
from backbones.slimming import cut, inside, same_backbone
from backbones.two_strides import TwoStrideFeatures
from detection.data.batch import DetectionBatch, Detections
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from engine.errors import InputError
from engine.reading.options import Reading
from segmentation.network.model import Outputs, Segmenter

_LEVELS = (2, 3, 4, 5)

Entry = TypeVar("Entry")


class JointOutputs(NamedTuple):
    """The outputs of the network for a batch; None for a head that did not run.

    Attributes:
        predictions: class logits (B, R, K), box deltas (B, R, 4) and anchors (R, 4) xyxy in pixels of the images.
        segmentation: logits (B, C, H, W), and those of the auxiliary head.
    """

    predictions: tuple[Tensor, Tensor, Tensor] | None
    segmentation: Outputs | None


class JointAnswers(NamedTuple):
    """The outputs of the network for a letter-boxed batch, with its boxes; None for what is not there.

    Attributes:
        outputs: of the network; a file of another runtime may give final answers only.
        detections: boxes in pixels of the original images.
        rows: the class of each pixel of the canvases, (B, H, W) uint8, where there are no logits.
    """

    outputs: JointOutputs
    detections: Detections | None
    rows: Tensor | None = None


class JointNetwork(Foldable):
    """A detector and a segmenter that share their extractor. Each also works alone, at the cost of one network.

    `detector` and `segmenter` are the networks of their own packages with all their functions; they read their maps
    from `backbone` and hold no copy of its weights.

    Args:
        detector: a detector on the same backbone as the segmenter.
        segmenter: a segmenter with the DeepLabv3+ decoder.
        backbone_of: the part whose backbone weights are kept.
        freezing: `frozen_stages`, `freeze_norm` and `grad_checkpointing` of `EfficientNetFeatures`.

    Raises:
        InputError: the backbones or the normalisations of images differ, or the decoder is another one.
    """

    def __init__(
        self,
        detector: EfficientDet,
        segmenter: Segmenter,
        *,
        backbone_of: str = "detector",
        freezing: Freezing | None = None,
    ) -> None:
        super().__init__()
        own, other = _check_match(detector, segmenter)
        config = detector.config
        self.backbone = TwoStrideFeatures(
            config.backbone,
            levels=_LEVELS,
            output_stride=segmenter.config.output_stride,
            drop_path=config.drop_path,
            norm_momentum=config.norm_momentum,
            **(freezing or {}),
        )
        cut(self.backbone, inside(config.widths, "backbone"))
        kept = own if backbone_of == "detector" else other
        self.backbone.to(next(kept.parameters())).load_state_dict(kept.state_dict())
        self.detector = detector
        self.segmenter = segmenter
        dense = segmenter.config.output_stride < 32
        self._attach(detector, tuple(range(config.min_level, 6)), dense=False)
        self._attach(segmenter, (2, 4, 5) if segmenter.aux_head is not None else (2, 5), dense=dense)

    def _attach(self, network: EfficientDet | Segmenter, levels: tuple[int, ...], *, dense: bool) -> None:
        del network.backbone
        network.backbone = SharedMaps(self.backbone, levels, dense=dense)

    def forward(self, images: Tensor, detect: bool = True, segment: bool = True) -> JointOutputs:
        """Both answers from one pass, or one answer at the cost of that network alone.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, of any height and width.
            detect: whether to predict boxes.
            segment: whether to predict classes of pixels.
        """
        image_hw = size_hw(images)
        if not segment:
            return JointOutputs(self.detector.predictions(images) if detect else None, None)
        if not detect:
            return JointOutputs(None, self.segmenter.outputs(images))
        normal = self.detector.normalise(images)
        canvas_hw = size_hw(normal)
        maps = self.backbone(normal)
        coarse = self.backbone.without_dilation(maps, canvas_hw)[self.detector.config.min_level - _LEVELS[0] :]
        predictions = self.detector.predictions_from(coarse, canvas_hw)
        reader = self.segmenter.backbone
        assert isinstance(reader, SharedMaps)
        segmentation = self.segmenter.outputs_from(reader.pick(maps), reader.grids(canvas_hw), image_hw)
        if is_traced(images):
            segmentation = segmentation._replace(aux_logits=segmentation.logits[:0])
        return JointOutputs(predictions, segmentation)

    @torch.no_grad()
    def answer(
        self, batch: DetectionBatch, config: Postprocess, *, detect: bool = True, segment: bool = True
    ) -> JointAnswers:
        """As `forward`, with the boxes of a letter-boxed batch in pixels of the original images.

        Args:
            batch: the images, and where they lie on their canvases.
            config: the settings of the suppression.
            detect: see `forward`.
            segment: see `forward`.
        """
        outputs: JointOutputs = self(batch.images, detect=detect, segment=segment)
        found = None
        if outputs.predictions is not None:
            found = self.detector.detections(outputs.predictions, batch, config)
        return JointAnswers(outputs, found)

    @property
    def stride(self) -> int:
        """The coarsest stride of the detector, in pixels."""
        return self.detector.stride

    @property
    def reading(self) -> Reading:
        """How rasters become the 8-bit RGB that the network is trained on."""
        return self.detector.reading

    @property
    def takes_pictures(self) -> bool:
        """Whether it lays pictures on its canvas itself, and answers in their pixels, as some exported files do."""
        return self.detector.takes_pictures

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """The mean colour in 0..255, which fills canvases beside the image."""
        return self.detector.fill_color

    def settings(self) -> dict[str, object]:
        """Plain values from which `from_settings` builds the same network, for checkpoints."""
        return {"detector": self.detector.settings(), "segmenter": self.segmenter.settings()}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], freezing: Freezing | None = None) -> JointNetwork:
        """The network that `settings` describes, with random weights."""
        detector = EfficientDet.from_settings(settings["detector"])
        return cls(detector, Segmenter.from_settings(settings["segmenter"]), freezing=freezing)


class SharedMaps(nn.Module):
    """Some levels of an extractor that belongs to another module; this module has no weights of its own.

    Args:
        shared: the extractor.
        levels: the levels that are returned.
        dense: whether to run at the extractor's output stride rather than at stride 32.
    """

    def __init__(self, shared: TwoStrideFeatures, levels: tuple[int, ...], *, dense: bool) -> None:
        super().__init__()
        self._shared = (shared,)  # in a tuple, which torch does not search for modules
        self.levels = levels
        self.dense = dense

    @property
    def image_norm(self) -> ImageNorm:
        """The mean and deviation of the extractor."""
        return self._shared[0].image_norm

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return tuple(self.pick(self._shared[0].channels))

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each map."""
        shared = self._shared[0]
        return tuple(self.pick(shared.strides) if self.dense else [2**level for level in self.levels])

    def pick(self, of_all_levels: Sequence[Entry]) -> list[Entry]:
        """The entries that belong to the levels of this module."""
        return [of_all_levels[self._shared[0].levels.index(level)] for level in self.levels]

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map per level, finest first, of normalised images (B, 3, H, W)."""
        shared = self._shared[0]
        return self.pick(shared(images) if self.dense else shared.coarse(images))

    def grids(self, image_hw: tuple[int, int]) -> list[Grid]:
        """The places of each map's cells."""
        shared = self._shared[0]
        return self.pick(shared.grids(image_hw) if self.dense else shared.coarse_grids(image_hw))


def _check_match(detector: EfficientDet, segmenter: Segmenter) -> tuple[EfficientNetFeatures, EfficientNetFeatures]:
    """The backbones of both networks; they can be shared."""
    own, other = detector.backbone, segmenter.backbone
    if isinstance(own, SharedMaps) or isinstance(other, SharedMaps):
        msg = "the detector or the segmenter is already part of a joint network. Load it again."
        raise InputError(msg)
    if not isinstance(own, EfficientNetFeatures) or not isinstance(other, EfficientNetFeatures):
        msg = (
            "a joint network is on an EfficientNet that is known by name; here a backbone was given as an object. "
            "Give the name of one."
        )
        raise InputError(msg)
    if segmenter.config.decoder != "deeplabv3plus":
        msg = (
            f"the segmenter's decoder is {segmenter.config.decoder}; a joint network has deeplabv3plus. Give such a "
            "segmenter."
        )
        raise InputError(msg)
    if own.name != other.name:
        msg = f"the detector's backbone is {own.name}, the segmenter's {other.name}; give both the same, to be shared."
        raise InputError(msg)
    if not same_backbone(detector.config.widths, segmenter.config.widths):
        msg = (
            "the backbone was pruned in one of the detector and the segmenter, so that they cannot share it. Give both "
            "as they were before, and prune the joint network."
        )
        raise InputError(msg)
    for part in ("mean", "std"):
        if not torch.equal(getattr(detector, part), getattr(segmenter, part)):
            msg = (
                f"the detector and the segmenter normalise images with another {part}. Set architecture.{part} of the "
                "segmenter to the detector's, and train it with that."
            )
            raise InputError(msg)
    return own, other
