"""Plugins in place of the trainer's own: batch norm over all devices, and true half precision with whole labels."""

from __future__ import annotations

from typing import TypeVar

from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import nn

Batch = TypeVar("Batch")


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


class HalfNetwork(HalfPrecision):
    """Takes the place of Lightning's plugin behind `trainer.precision bf16-true` and `16-true`.

    Lightning's own rounds every float of a batch, and with it true boxes (95.854 becomes 96) and the scales by which
    found boxes are brought back. Images are whole numbers, which the network converts itself.
    """

    def convert_input(self, data: Batch) -> Batch:
        """The batch as it is."""
        return data
