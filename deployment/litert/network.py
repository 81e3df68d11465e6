"""The networks as LiteRT computes them: one image with its channels last, of one size, and plain tensors out."""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn

from backbones.folding import KernelPaddedConv2d
from detection.network.anchors import make_anchors
from detection.network.model import EfficientDet
from engine.errors import InputError
from joint.network.model import JointNetwork
from segmentation.network.decoders import SmpHead
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
        _as_converted(own)
        self.network = own
        self.argmax = argmax
        self.scaling = Scaling(own, integers=integers)
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
            return (self._pixels(network(channels_first)),)
        found = network(channels_first)
        class_logits, box_deltas, _ = found.predictions
        return box_deltas, class_logits.sigmoid(), self._pixels(found.segmentation.logits)

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


def _as_converted(network: nn.Module) -> None:
    """Put layers that the converter takes well in the place of others, which compute the same."""
    for name, module in list(network.named_modules()):
        conv = module
        if isinstance(module, KernelPaddedConv2d):  # LiteRT's own convolutions have TensorFlow's padding
            outputs, inputs, *kernel = module.weight.shape
            conv = Conv2dSame(
                inputs * module.groups, outputs, (kernel[0], kernel[1]), module.stride, groups=module.groups,
                bias=module.bias is not None,
            )  # fmt: skip
            conv.weight, conv.bias = nn.Parameter(module.weight.detach()), module.bias
        if isinstance(conv, Conv2dSame) and conv.in_channels == 3:
            conv = _FirstConv(conv)
        if conv is not module:
            network.set_submodule(name, conv.requires_grad_(False))


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


class _FirstConv(nn.Module):
    """A network's first convolution, which pads the image with its channels last: the converter turns nothing around.

    Args:
        conv: the convolution, with TensorFlow's padding.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = conv.weight, conv.bias, conv.stride

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) to (1, C, ceil(H / stride), ceil(W / stride))."""
        pads = [0, 0]
        for axis in (3, 2):
            total = get_same_padding(image.shape[axis], self.weight.shape[axis], self.stride[axis - 2], 1)
            pads += [total // 2, total - total // 2]
        padded = F.pad(image.permute(0, 2, 3, 1), pads).permute(0, 3, 1, 2)
        return F.conv2d(padded, self.weight, self.bias, self.stride)


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
