"""segmentation-models-pytorch's other decoders on the project's feature extractor.

Each keeps the defaults that the library gives it. Its encoder is built with it, as the library offers no other way to
a complete decoder, and left to be forgotten.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from segmentation.aspp import allow_single_values
from segmentation.family import DecoderName


class SmpHead(nn.Module):
    """A decoder with its own last layer.

    Args:
        decoder: its name.
        backbone: a timm name, with the channels of levels 1 to 5.
        classes: K.
        output_stride: of the deepest map; only PAN has a choice.
    """

    def __init__(self, decoder: DecoderName, backbone: str, classes: int, output_stride: int) -> None:
        super().__init__()
        extra = {"encoder_output_stride": output_stride} if decoder == "pan" else {}
        model = smp.create_model(decoder, f"tu-{backbone}", encoder_weights=None, classes=classes, **extra)
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
