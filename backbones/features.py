"""EfficientNet as a multi-scale feature extractor: any member that timm has, at output stride 32, 16 or 8.

Architectures, channel counts and strides are timm's (`timm.models.efficientnet`, `feature_info`); papers:
EfficientNet (arXiv:1905.11946) and EfficientNetV2 (arXiv:2104.00298).
"""

from __future__ import annotations

import contextvars
import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.contract import ImageNorm
from backbones.dilation.phases import use_phases
from backbones.gates import make_gates_exact
from backbones.grid import Grid, feature_grid, subsample
from backbones.networks import BATCH_NORMS, FeatureInfo, ImageConfig, create_features, resolve_name
from backbones.weights.load import load_backbone_weights
from engine.errors import InputError

_Context = AbstractContextManager[None]


class EfficientNetFeatures(nn.Module):
    """The stem and block stages of an EfficientNet, giving one map per requested level.

    The map of level l has stride `min(2 ** l, output_stride)`. `channels` and `strides` describe the maps,
    finest first, as timm's feature info gives them; images are to be normalised with `image_norm`.
    Stages behind the deepest requested level are left out, so every trainable parameter takes part in the output.
    State-dict keys are timm's: `conv_stem.weight`, `bn1.*`, `blocks.{stage}.{block}.*`.

    Args:
        name: A timm name, with or without a weight tag (`tf_efficientnet_b0.ap_in1k`) or in the old spelling
            (`tf_efficientnet_b0_ap`); or that of a network at any φ (`backbones.scaling.ScaledNetwork`), such as
            `tf_efficientnet_phi1.5`.
        levels: Increasing pyramid levels out of 1 to 5.
        output_stride: Coarsest stride. Below 32, later strides become dilations: the convolution that lost
            its stride keeps its kernel, and only the kernels behind it are spread. So, without
            squeeze-and-excitation, the finer grid holds the features of the coarse grid unchanged.
        exact_gates: Keep them unchanged with squeeze-and-excitation too: at output strides 16 and 8 its averages
            run over the cells that the network of stride 32 has. Keys and parameters stay the same. In training
            this holds if batch norms are frozen; other norms take their statistics from the finer grid.
        in_channels: Image channels. Three-channel weights are adapted by timm's rule: summed for one channel,
            otherwise repeated and rescaled.
        drop_path: Stochastic-depth rate, which grows linearly from 0 at the first block to this value after the last.
        grad_checkpointing: Recompute each block in the backward pass instead of keeping its activations.
        frozen_stages: 0 freezes nothing, 1 the stem, k the stem and the first k - 1 block stages, -1 all of them.
            Their parameters and running statistics stay fixed, also after `.train()`.
        freeze_norm: Freeze the statistics and the affine parameters of every normalisation layer.
        norm_momentum: Weight of a new batch in the running statistics. The official EfficientDet uses 0.99 as
            TensorFlow counts it, which is 0.01 here (google/automl `efficientdet/hparams_config.py`).
        norm_eps: Replaces timm's epsilon of the member (1e-3 for `tf_`, else 1e-5).
        weights: A source for `backbones.weights.load.load_backbone_weights`; None leaves timm's initialisation.

    Raises:
        InputError: a name is no EfficientNet, or a value is out of range.
    """

    def __init__(
        self,
        name: str = "tf_efficientnet_b0",
        *,
        levels: Sequence[int] = (3, 4, 5),
        output_stride: Literal[8, 16, 32] = 32,
        exact_gates: bool = False,
        in_channels: int = 3,
        drop_path: float = 0.0,
        grad_checkpointing: bool = False,
        frozen_stages: int = 0,
        freeze_norm: bool = False,
        norm_momentum: float = 0.01,
        norm_eps: float | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.name = resolve_name(name)
        self.levels = _checked_levels(levels)
        _check_ranges(output_stride, in_channels, drop_path, norm_momentum, norm_eps)
        self.in_channels = in_channels
        self.grad_checkpointing = grad_checkpointing
        self.freeze_norm = freeze_norm

        net = create_features(
            self.name,
            out_indices=tuple(level - 1 for level in self.levels),
            output_stride=output_stride,
            in_chans=in_channels,
            drop_path_rate=drop_path,
        )
        self.channels: tuple[int, ...] = tuple(net.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(net.feature_info.reduction())
        # 0 is the stem, k the k-th block stage (from one).
        self._map_stages: tuple[int, ...] = tuple(net.feature_info.get("stage"))
        self.stage_lengths: tuple[int, ...] = tuple(len(list(stage.children())) for stage in net.blocks)
        self.image_norm = _image_norm(net.pretrained_cfg, in_channels)
        self.same_padding = isinstance(net.conv_stem, Conv2dSame)

        self.conv_stem = net.conv_stem
        self.bn1 = net.bn1
        self.blocks: nn.Sequential = net.blocks[: self._map_stages[-1]]
        if exact_gates:
            steps = _lost_strides(net.feature_info)[1 : len(self.blocks) + 1]
            make_gates_exact(self.blocks, steps, same_padding=self.same_padding)
        use_phases(self.blocks)
        self._set_batch_norms(norm_momentum, norm_eps)
        self.frozen_stages = self._checked_frozen_stages(frozen_stages)
        if weights is not None:
            load_backbone_weights(self, weights)
        self._freeze_parameters()
        self.train(self.training)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            images: Normalised images (B, in_channels, H, W).

        Returns:
            One map (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) per level, finest first.
        """
        x = self.bn1(self.conv_stem(images))
        maps = [x] if self._map_stages[0] == 0 else []
        for stage, blocks in enumerate(self.blocks, start=1):
            for block in blocks.children():
                x = self._run(block, x)
            if stage in self._map_stages:
                maps.append(x)
        return maps

    def grids(self, image_hw: tuple[int, int]) -> list[Grid]:
        """The places of each map's cells on an image of this height and width, in pixels."""
        return [feature_grid(image_hw, stride, same_padding=self.same_padding) for stride in self.strides]

    def without_dilation(self, maps: Sequence[Tensor], image_hw: tuple[int, int]) -> list[Tensor]:
        """The maps of the network of output stride 32, read from the maps of this network.

        Args:
            maps: Maps that `forward` returned for images of this height and width.
            image_hw: Height and width of the images, in pixels.

        Returns:
            One map of stride `2 ** level` per level, finest first; these are views. They equal those of the coarser
            network in evaluation mode if there is no squeeze-and-excitation or `exact_gates` is set.
        """
        coarse = [feature_grid(image_hw, 2**level, same_padding=self.same_padding) for level in self.levels]
        return [subsample(*group) for group in zip(maps, self.grids(image_hw), coarse, strict=True)]

    def count_channels(self) -> None:
        """Set `channels` anew, after layers were cut (`backbones.slimming`): those of each stage's last convolution."""
        last = [
            [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)][-1] for parts in self.stages()
        ]
        self.channels = tuple(last[stage].out_channels for stage in self._map_stages)

    def train(self, mode: bool = True) -> EfficientNetFeatures:
        """Set the training mode; frozen stages and frozen normalisation stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        # Per block, not per stage as in timm: the output of a block is several times narrower than its inside,
        # so keeping every output costs little, and the inside of only one block is in memory at a time.
        if self.grad_checkpointing and torch.is_grad_enabled():
            contexts = functools.partial(_first_and_repeated_pass, block)
            # The repeated pass, which may run in a thread of autograd, has the choices of this one: stride and norms.
            run = contextvars.copy_context().run
            output: Tensor = checkpoint(run, block, x, use_reentrant=False, context_fn=contexts)
        else:
            output = block(x)
        return output

    def stages(self) -> list[list[nn.Module]]:
        """The stem and the block stages, in the order in which `frozen_stages` counts them."""
        return [[self.conv_stem, self.bn1], *([stage] for stage in self.blocks)]

    def _frozen_modules(self) -> Iterator[nn.Module]:
        # Looked up at each call: SyncBatchNorm conversion replaces the normalisation modules.
        for stage in self.stages()[: self.frozen_stages]:
            yield from stage
        if self.freeze_norm:
            # timm names every normalisation layer bn1, bn2 or bn3, for any type.
            yield from (module for name, module in self.named_modules() if re.search(r"(^|\.)bn\d$", name))

    def _freeze_parameters(self) -> None:
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def _set_batch_norms(self, momentum: float, eps: float | None) -> None:
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.momentum = momentum
                module.eps = module.eps if eps is None else eps

    def _checked_frozen_stages(self, frozen_stages: int) -> int:
        total = len(self.stages())
        if not -1 <= frozen_stages <= total:
            message = (
                f"frozen_stages is {frozen_stages}; {self.name} with levels {self.levels} allows 0 (none) to "
                f"{total} or -1 (all)."
            )
            raise InputError(message)
        return total if frozen_stages == -1 else frozen_stages


def _checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    levels = tuple(levels)
    if not levels or list(levels) != sorted(set(levels)) or not set(levels) <= {1, 2, 3, 4, 5}:
        message = f"levels is {levels}; give increasing levels out of 1 to 5, such as (3, 4, 5)."
        raise InputError(message)
    return levels


def _check_ranges(
    output_stride: int, in_channels: int, drop_path: float, norm_momentum: float, norm_eps: float | None
) -> None:
    checks = [
        (output_stride in (8, 16, 32), f"output_stride is {output_stride}; allowed are 8, 16 and 32."),
        (in_channels >= 1, f"in_channels is {in_channels}; it must be at least 1."),
        (0 <= drop_path < 1, f"drop_path is {drop_path}; it must be at least 0 and below 1."),
        (0 < norm_momentum <= 1, f"norm_momentum is {norm_momentum}; it must be above 0 and at most 1."),
        (norm_eps is None or 0 < norm_eps < 1, f"norm_eps is {norm_eps}; it must lie between 0 and 1."),
    ]
    for holds, message in checks:
        if not holds:
            raise InputError(message)


def _image_norm(pretrained_cfg: ImageConfig, in_channels: int) -> ImageNorm:
    """The member's mean and deviation, averaged or repeated over the channels, as timm adapts the weights."""
    mean, std = pretrained_cfg["mean"], pretrained_cfg["std"]
    if in_channels == 1:
        return ImageNorm((sum(mean) / 3,), (sum(std) / 3,))
    return ImageNorm(tuple(mean[i % 3] for i in range(in_channels)), tuple(std[i % 3] for i in range(in_channels)))


def _lost_strides(info: FeatureInfo) -> list[int]:
    """For the stem and each block stage, the stride that its map would have, divided by the one that it has."""
    depths, strides = (info.get(key, list(range(5))) for key in ("stage", "reduction"))
    lost: list[int] = []
    for level, (stage, stride) in enumerate(zip(depths, strides, strict=True), start=1):
        lost += [2**level // stride] * (stage + 1 - len(lost))
    return lost


def _first_and_repeated_pass(block: nn.Module) -> tuple[_Context, _Context]:
    return nullcontext(), _running_statistics_kept(block)


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    # The repeated forward would enter the same batch into the running statistics a second time.
    norms = [module for module in block.modules() if isinstance(module, BATCH_NORMS) and module.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches_tracked) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked
