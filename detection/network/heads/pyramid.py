"""The maps below a head: torchvision's feature pyramid, or EfficientDet's.

Source: Lin et al., "Feature Pyramid Networks" (arXiv 1612.03144, figure 3); levels 6 and 7 as in RetinaNet (arXiv
1708.02002, footnote 2).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from detection.network.bifpn import BiFPN, initialise_pyramid
from detection.network.family import DetectorArchitecture


class PlainPyramid(nn.Module):
    """torchvision's feature pyramid on lists of maps.

    Args:
        in_channels: of the backbone's maps, finest first.
        config: channels, and the coarsest level: 5, 6 (by a strided look) or 7 (by two strided convolutions).
    """

    def __init__(self, in_channels: Sequence[int], config: DetectorArchitecture) -> None:
        super().__init__()
        channels = config.fpn_channels
        coarser = {5: None, 6: LastLevelMaxPool(), 7: LastLevelP6P7(channels, channels)}[config.max_level]
        self.fpn = FeaturePyramidNetwork(list(in_channels), channels, coarser)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l) of levels 3, 4 and 5 to (B, C, H_l, W_l) of all levels."""
        return list(self.fpn({str(level): one for level, one in enumerate(maps, 3)}).values())


def make_pyramid(in_channels: Sequence[int], config: DetectorArchitecture) -> BiFPN | PlainPyramid:
    """The pyramid that the architecture names, with new random weights.

    Args:
        in_channels: of the backbone's maps, finest first.
        config: kind, channels and levels.
    """
    if config.pyramid == "fpn":
        return PlainPyramid(in_channels, config)
    pyramid = BiFPN(in_channels, config)
    initialise_pyramid(pyramid)
    return pyramid
