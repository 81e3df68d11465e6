"""How far classes drift from the image: our network and segmentation-models-pytorch's, measured on step edges.

    python benchmarks/alignment.py [--width 1024]

Both networks are DeepLabv3+ on tf_efficientnet_b0 at output stride 16, and in both every convolution is set to copy
the pixel under its centre. What is left is geometry: where the network places a pixel. A picture that is
dark left of a column and bright from it on is given for each of 16 neighbouring columns, so that the rounding to cells
averages out, at places all over the width; the drift is the place of the edge in the deep map minus its true place.
"""

from __future__ import annotations

import argparse

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from segmentation.network.model import Segmenter

BRIGHT = 200.0


def copy_pixels(network: nn.Module) -> None:
    """Make every convolution copy the pixel under its centre; batch norms keep their initial state, the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            out_channels, in_channels, height, width = module.weight.shape
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            rows = torch.arange(out_channels)
            module.weight.data[rows, rows % in_channels, height // 2, width // 2] = 1


def edge_positions(logits: Tensor) -> Tensor:
    """Where each row of (B, W) passes half-way from its lowest to its highest value, in pixels."""
    low, high = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
    risen = (logits - low) / (high - low)
    after = (risen >= 0.5).float().argmax(1)
    rows = torch.arange(len(logits))
    below, above = risen[rows, after - 1], risen[rows, after]
    return after - 1 + (0.5 - below) / (above - below)


@torch.no_grad()
def drift(network: nn.Module, width: int, height: int, places: int = 9, *, centred: bool) -> list[tuple[float, float]]:
    """Mean place of 16 edges and mean drift there, in pixels, at `places` over the width."""
    results = []
    for place in torch.linspace(0.08, 0.92, places):
        starts = int(place * (width - 16)) + torch.arange(16)
        images = BRIGHT * (torch.arange(width) >= starts[:, None]).float()
        images = images[:, None, None, :].expand(-1, 3, height, -1)
        images = (images - BRIGHT / 4) / BRIGHT if centred else images
        # A bright pixel at `start` begins half a pixel before its centre.
        found = edge_positions(torch.cat([network(part)[:, 0, height // 2] for part in images.split(4)]))
        results.append((float((starts - 0.5).mean()), float((found - (starts - 0.5)).mean())))
    return results


def build_ours() -> Segmenter:
    """Our network, set to copy pixels."""
    torch.manual_seed(0)
    network = Segmenter("b0", num_classes=2, mean=(0.25, 0.25, 0.25), std=(1.0, 1.0, 1.0)).eval()
    copy_pixels(network)
    return network


def build_smp() -> nn.Module:
    """The network of smp, set to copy pixels."""
    torch.manual_seed(0)
    network = smp.DeepLabV3Plus("tu-tf_efficientnet_b0", encoder_weights=None, classes=2).eval()
    copy_pixels(network)
    return network


def main() -> None:
    """Print the drift of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    width = parser.parse_args().width
    ours = drift(build_ours(), width, 64, centred=False)
    print(f"{'edge at':>10} {'ours':>8} {'smp':>8}   pixels of drift, width {width}")
    theirs = drift(build_smp(), width, 64, centred=True) if width % 16 == 0 else [(0.0, float("nan"))] * len(ours)
    for (edge, own), (_, other) in zip(ours, theirs, strict=True):
        print(f"{edge:10.1f} {own:8.2f} {other:8.2f}")


if __name__ == "__main__":
    main()
