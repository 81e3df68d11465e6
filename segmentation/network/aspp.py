"""Atrous spatial pyramid pooling: one map seen through several dilations, and through the whole image.

Source: Chen et al., DeepLabv3 (arXiv 1706.05587), section 3.3 and figure 5. The dilated branches and the layout of the
weights are segmentation-models-pytorch's `decoders/deeplabv3/decoder.py`; the image branch, which fails there with one
image per device, is replaced.
"""

from __future__ import annotations

import torch
from segmentation_models_pytorch.decoders.deeplabv3 import decoder as smp_deeplab
from torch import Tensor, nn

from backbones.dilation.phases import use_phases
from backbones.grid import size_hw


class ASPP(nn.Module):
    """Five branches side by side, projected to `out_channels`: 1x1, three dilated 3x3, and the image's mean.

    Args:
        in_channels: channels of the map.
        out_channels: channels of each branch and of the result.
        rates: dilations of the three 3x3 convolutions.
        separable: whether these are depthwise separable.
        dropout: probability of dropout after the projection.
        image_pooling: whether the fifth branch exists.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: tuple[int, int, int],
        *,
        separable: bool = True,
        dropout: float = 0.1,
        image_pooling: bool = True,
    ) -> None:
        super().__init__()
        parts = smp_deeplab.ASPP(in_channels, out_channels, rates, separable, dropout)
        self.convs = parts.convs[:-1]
        use_phases(self.convs)
        self.project = parts.project
        if image_pooling:
            self.convs.append(ImagePooling(in_channels, out_channels))
        else:
            self.project[0] = nn.Conv2d(4 * out_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """From (B, in_channels, h, w) to (B, out_channels, h, w)."""
        pooled: Tensor = self.project(torch.cat([branch(features) for branch in self.convs], dim=1))
        return pooled


class ImagePooling(nn.Sequential):
    """The mean over the map, through a 1x1 convolution, at every place."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            PooledBatchNorm(out_channels),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """From (B, in_channels, h, w) to (B, out_channels, h, w)."""
        mean: Tensor = super().forward(features)
        return mean.expand(-1, -1, *size_hw(features))


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch norm that accepts a batch with one value per channel.

    One image per device pooled to one cell has no variance to be normalised by: the running statistics are used and
    stay unchanged. With SyncBatchNorm the other devices' images are counted, so there is a variance.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        if self.training and features.numel() == features.shape[1]:
            return nn.functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(features)


def allow_single_values(module: nn.Module) -> None:
    """Replace every batch norm of a foreign module by `PooledBatchNorm`; weights and statistics are kept."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = PooledBatchNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            allow_single_values(child)
