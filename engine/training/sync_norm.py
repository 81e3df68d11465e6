"""Batch norm over all devices, for networks that hold timm's layers."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import nn


class SyncBatchNorm(TorchSyncBatchNorm):
    """Takes the place of Lightning's converter behind `trainer.sync_batchnorm`.

    torch's own `convert_sync_batchnorm` turns timm's `BatchNormAct2d` into a plain batch norm and with it drops
    every activation of an EfficientNet; timm's keeps them.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace every batch norm by its synchronised kind; parameters and buffers keep their names."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the network as it is: in eval mode a synchronised norm is a plain one."""
        return model
