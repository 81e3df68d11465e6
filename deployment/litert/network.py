"""The networks as LiteRT computes them: one image with its channels last, of one size, and plain tensors out."""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from backbones.grid import size_hw
from deployment.litert.layers import Decoder, as_converted, coarse_cells
from detection.network.anchors import make_anchors
from detection.network.model import EfficientDet
from engine.errors import InputError
from joint.network.model import JointNetwork, SharedMaps
from segmentation.network.decoders import SmpHead
from segmentation.network.deeplab import DeepLabHead
from segmentation.network.model import Segmenter

Network: TypeAlias = EfficientDet | Segmenter | JointNetwork
# Real values of an input of int8 files: 0..255 as -1..1, the range of the Lite networks themselves.
CENTRE = 127.5
_USUAL_HW = (512, 512)


class Outputs(NamedTuple):
    """What a network gives.

    Attributes:
        names: of the results of `LitertNetwork.forward`, in order.
        anchors_xyxy: (R, 4) in pixels of the canvas; None for a network of pixels only.
    """

    names: tuple[str, ...]
    anchors_xyxy: Tensor | None


class LitertNetwork(nn.Module):
    """A network with its normalisation, channels last.

    `forward` gives, of these, what the network has: `box_deltas` (1, R, 4) as ty, tx, th, tw; `scores` (1, R, K) in
    0..1; and `class_rows` (1, H, W) or `logits` (1, H, W, K).

    Args:
        network: the network; a copy of it is taken.
        image_hw: height and width of the image in pixels.
        argmax: classes of pixels rather than logits.
        integers: whether the image comes in the range of `CENTRE`, to be quantised, and not as 0..255; normalisation is
            then a convolution, which has a form in integers, or nothing.

    Raises:
        InputError: the network pads an image of this size with black.
    """

    def __init__(self, network: Network, image_hw: tuple[int, int], *, argmax: bool, integers: bool) -> None:
        super().__init__()
        own = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format).requires_grad_(False)
        as_converted(own)
        self.network = own
        self.argmax = argmax
        self.scaling = Scaling(own, integers=integers)
        segmenter = segmenter_of(own)
        self.decoder: Decoder | None = None
        if segmenter is not None and isinstance(segmenter.head, DeepLabHead):
            self.decoder = Decoder(segmenter)
        if not _pads(own, image_hw):
            for part in parts_of(own):
                setattr(part, "normalise", _as_it_is)  # noqa: B010 - even 0 and 1 would be in the converter's way
        elif own.fill_color == (0, 0, 0):
            msg = (
                "this network pads its canvas with black, which no .tflite file does. Give image_size in multiples of "
                f"{own.stride}."
            )
            raise InputError(msg)
        detector = detector_of(network)
        anchors = None if detector is None else make_anchors(_canvas_hw(detector, image_hw), detector.config)
        self.outputs = Outputs(self._names(), anchors)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The outputs of an image.

        Args:
            image: (1, H, W, 3) RGB; uint8, or with `integers` float32 in -1..1.
        """
        channels_first = self.scaling(image).permute(0, 3, 1, 2)
        network = self.network
        if isinstance(network, EfficientDet):
            class_maps, box_maps = network(channels_first)
            return network.box_head.flatten(box_maps), network.class_head.flatten(class_maps).sigmoid()
        if isinstance(network, Segmenter):
            if self.decoder is None:
                return (self._pixels(network(channels_first)),)
            maps = network.backbone(network.normalise(channels_first))
            return (self._pixels(self.decoder(maps, size_hw(channels_first))),)
        return self._both(network, channels_first)

    def _both(self, network: JointNetwork, images: Tensor) -> tuple[Tensor, ...]:
        """As `JointNetwork.forward`, whose anchors the converter would compute, and fail to."""
        detector, backbone, reader = network.detector, network.backbone, network.segmenter.backbone
        assert isinstance(reader, SharedMaps)
        assert self.decoder is not None
        normal = detector.normalise(images)
        canvas_hw = size_hw(normal)
        maps = backbone(normal)
        grids = zip(maps[1:], backbone.grids(canvas_hw)[1:], backbone.coarse_grids(canvas_hw)[1:], strict=True)
        pyramid = detector.fpn([coarse_cells(*group) for group in grids])
        box_deltas = detector.box_head.flatten(detector.box_head(pyramid))
        scores = detector.class_head.flatten(detector.class_head(pyramid)).sigmoid()
        return box_deltas, scores, self._pixels(self.decoder(reader.pick(maps), size_hw(images)))

    def _pixels(self, logits: Tensor) -> Tensor:
        channels_last = logits.permute(0, 2, 3, 1)
        return channels_last.argmax(3).to(torch.int32) if self.argmax else channels_last

    def _names(self) -> tuple[str, ...]:
        boxes = ("box_deltas", "scores")
        pixels = ("class_rows" if self.argmax else "logits",)
        if isinstance(self.network, EfficientDet):
            return boxes
        return pixels if isinstance(self.network, Segmenter) else boxes + pixels


def detector_of(network: Network) -> EfficientDet | None:
    """The network of boxes, if there is one."""
    if isinstance(network, JointNetwork):
        return network.detector
    return network if isinstance(network, EfficientDet) else None


def segmenter_of(network: Network) -> Segmenter | None:
    """The network of pixels, if there is one."""
    if isinstance(network, JointNetwork):
        return network.segmenter
    return network if isinstance(network, Segmenter) else None


def parts_of(network: Network) -> list[EfficientDet | Segmenter]:
    """The networks that answer."""
    return [part for part in (detector_of(network), segmenter_of(network)) if part is not None]


def usual_hw(network: Network) -> tuple[int, int]:
    """Height and width of the detector's own canvas; 512 x 512 for a network of pixels only."""
    detector = detector_of(network)
    return _USUAL_HW if detector is None else detector.config.image_size


def _canvas_hw(detector: EfficientDet, image_hw: tuple[int, int]) -> tuple[int, int]:
    step = detector.config.stride if detector.config.pads_canvas else 1
    height, width = (side + -side % step for side in image_hw)
    return height, width


def _pads(network: Network, image_hw: tuple[int, int]) -> bool:
    """Whether a network itself pads images of this size."""
    detector, segmenter = detector_of(network), segmenter_of(network)
    if segmenter is not None and isinstance(segmenter.head, SmpHead):
        return min(image_hw) < segmenter.head.least_side or any(side % segmenter.stride for side in image_hw)
    if detector is None or not detector.config.pads_canvas:
        return False
    return any(side % detector.config.stride for side in image_hw)


def _as_it_is(images: Tensor) -> Tensor:
    return images


class Scaling(nn.Module):
    """A network's normalisation, which it then leaves out itself.

    Args:
        network: the network; its mean and deviation become 0 and 1.
        integers: see `LitertNetwork`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, *, integers: bool) -> None:
        super().__init__()
        parts = parts_of(network)
        mean, std = parts[0].mean.flatten().clone(), parts[0].std.flatten().clone()
        for part in parts:
            part.mean.zero_()
            part.std.fill_(1.0)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.integers = integers
        factors, shifts = CENTRE / std, (CENTRE - mean) / std
        self.conv: nn.Conv2d | None = None
        if integers and not (torch.allclose(factors, torch.ones(3)) and torch.allclose(shifts, torch.zeros(3))):
            self.conv = nn.Conv2d(3, 3, 1, groups=3).requires_grad_(False)
            self.conv.weight.copy_(factors[:, None, None, None])
            assert self.conv.bias is not None
            self.conv.bias.copy_(shifts)

    def forward(self, image: Tensor) -> Tensor:
        """(1, H, W, 3) in 0..255, or with `integers` in -1..1, to the network's range."""
        if not self.integers:
            scaled: Tensor = (image.to(self.mean.dtype) - self.mean) / self.std
            return scaled
        return image if self.conv is None else self.conv(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
