"""segmentation-models-pytorch's other decoders on the project's feature extractor.

Each keeps the defaults that the library gives it in its network, `decoders/{name}/model.py` of release 0.6. A network
of the library builds its encoder from a list of names, which other code should not change; so decoder and last
layer are built here, in the same order and with the same random initial values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from segmentation.network.aspp import allow_single_values
from segmentation.network.family import DecoderName

_WIDTHS = (256, 128, 64, 32, 16)
_DEPTH = 5
# For each decoder: a function that builds it from the channels of the images and of levels 1 to 5, its output
# channels, the kernel of the last layer, and the factor by which that layer enlarges.
_DECODERS: Mapping[DecoderName, tuple[Callable[[list[int]], nn.Module], int, int, int]] = {
    "unet": (lambda channels: UnetDecoder(channels, _WIDTHS, _DEPTH), 16, 3, 1),
    "unetplusplus": (lambda channels: UnetPlusPlusDecoder(channels, _WIDTHS, _DEPTH), 16, 3, 1),
    "fpn": (lambda channels: FPNDecoder(channels, _DEPTH), 128, 1, 4),
    "pan": (lambda channels: PANDecoder(channels, _DEPTH, 32), 32, 3, 4),
    "manet": (lambda channels: MAnetDecoder(channels, _WIDTHS, _DEPTH), 16, 3, 1),
    "linknet": (lambda channels: LinknetDecoder(channels, 32, _DEPTH), 32, 1, 1),
    "upernet": (lambda channels: UPerNetDecoder(channels, _DEPTH), 256, 1, 4),
}


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
        build, width, kernel, enlarged = _DECODERS[decoder]
        self.decoder = build([3, *channels])
        self.classifier: nn.Sequential = SegmentationHead(width, classes, kernel_size=kernel, upsampling=enlarged)
        initialize_decoder(self.decoder)
        initialize_head(self.classifier)
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
