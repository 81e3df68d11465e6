"""Batch norm over all devices, for networks that hold timm's layers."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import nn


class SyncBatchNorm(TorchSyncBatchNorm):
    """Takes the place of Lightning's converter behind `trainer.sync_batchnorm`.

    The `convert_sync_batchnorm` of torch turns timm's `BatchNormAct2d` into a plain batch norm and so drops every
    activation of an EfficientNet; timm's function keeps them.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace every batch norm by a synchronised one; parameters and buffers keep their names."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the network as it is: in eval mode a synchronised norm works like a plain one."""
        return model
