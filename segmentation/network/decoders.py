"""segmentation-models-pytorch's other decoders on the project's feature extractor.

Each keeps the defaults that the library gives it. The library builds a decoder only together with an encoder of a
name that it knows; it gets one that has channels and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from segmentation.network.aspp import allow_single_values
from segmentation.network.family import DecoderName

_NAME = "effdense-channels"  # of the encoder below in the library's list, while a decoder is built


class SmpHead(nn.Module):
    """A decoder with its own last layer.

    Args:
        decoder: its name.
        channels: of the backbone's levels 1 to 5.
        classes: K.
        output_stride: of the deepest map; only PAN has a choice.
    """

    def __init__(self, decoder: DecoderName, channels: Sequence[int], classes: int, output_stride: int) -> None:
        super().__init__()
        extra = {"encoder_output_stride": output_stride} if decoder == "pan" else {}
        entry = {"encoder": _Channels, "pretrained_settings": {}, "params": {"out_channels": (3, *channels)}}
        smp.encoders.encoders[_NAME] = entry
        try:
            model = smp.create_model(decoder, _NAME, encoder_weights=None, classes=classes, **extra)
        finally:
            del smp.encoders.encoders[_NAME]
        self.decoder = model.decoder
        self.classifier = model.segmentation_head
        allow_single_values(self.decoder)
        # PAN halves its deepest map three times.
        self.least_side = 8 * output_stride if decoder == "pan" else 32

    def forward(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """Logits (B, K, H, W).

        Args:
            images: (B, 3, H, W) whose sides are multiples of 32.
            maps: of levels 1 to 5.
        """
        logits: Tensor = self.classifier(self.decoder([images, *maps]))
        return logits


class _Channels(nn.Module):
    """What smp's decoders ask of an encoder."""

    def __init__(self, out_channels: Sequence[int], depth: int, output_stride: int) -> None:
        super().__init__()
        self.out_channels = list(out_channels[: depth + 1])
        self.output_stride = output_stride

    def set_in_channels(self, in_channels: int, pretrained: bool) -> None:
        """There are no weights to adapt."""

    def make_dilated(self, output_stride: int) -> None:
        """There are no convolutions to dilate."""
