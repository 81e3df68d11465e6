"""Does a dilated network still compute the features of the strided one? Ours, with and without exact gates, and smp's.

    python benchmarks/atrous_exactness.py [--members b0 lite0 v2_s] [--sizes 97x97 84x66 257x257] [--rounds 5]

For each network the maps of level 5 at output strides 16 and 8 are read at the cells of the map of stride 32 and
compared with it: the norm of the difference over the norm of the map less its mean in each channel, so that unrelated
maps give 1.41, and small maps less, as borders have the same effect in both. The weights are random, and the same
at all strides of one network; gates vary enough to have an effect, and batch norms hold the statistics of random
images, so that no activation vanishes or explodes. smp's cells may start anywhere: its smallest difference of all
starts is printed. After the table comes the time that the option costs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import product

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from backbones.features import EfficientNetFeatures
from segmentation.network.family import FAMILY

STRIDES = (16, 8)
_GATES = ("conv_reduce", "conv_expand", "_se_reduce", "_se_expand")


@torch.no_grad()
def trained(network: nn.Module, side: int = 160, *, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with gates and batch norms as a training might leave them.

    The statistics are those of four images of `side`: from far fewer cells than the network is used on, they would be
    so wrong that the activations grow from layer to layer, and every rounding error with them.
    """
    torch.manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    for name, module in network.named_modules():
        if name.endswith(_GATES) and isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            nn.init.normal_(module.bias, std=0.5)  # type: ignore[arg-type]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(torch.randn(4, 3, side, side))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def difference(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference, divided by the norm of the expected map less its mean in each channel."""
    return float((found - expected).norm() / (expected - expected.mean((2, 3), keepdim=True)).norm())


def largest(sizes: list[tuple[int, int]]) -> int:
    """The side of the images from which the statistics are taken."""
    return max(160, *(side for size_hw in sizes for side in size_hw))


@torch.no_grad()
def our_differences(name: str, sizes: list[tuple[int, int]]) -> dict[tuple[tuple[int, int], int, bool], float]:
    """Our differences by size, output stride and `exact_gates`."""
    coarse = trained(EfficientNetFeatures(name, levels=(5,)), largest(sizes))
    results = {}
    for stride, exact_gates in product(STRIDES, (True, False)):
        fine = EfficientNetFeatures(name, levels=(5,), output_stride=stride, exact_gates=exact_gates).eval()
        fine.load_state_dict(coarse.state_dict())
        for size_hw in sizes:
            images = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
            (read,) = fine.without_dilation(fine(images), size_hw)
            results[size_hw, stride, exact_gates] = difference(read, coarse(images)[0])
    return results


@torch.no_grad()
def smp_differences(encoder: str, sizes: list[tuple[int, int]]) -> dict[tuple[tuple[int, int], int], float]:
    """By size and output stride, smp's smallest difference of all starts of the coarse cells; {} without encoder."""
    if not encoder.startswith("tu-") and encoder not in smp.encoders.encoders:
        return {}
    coarse = trained(smp.encoders.get_encoder(encoder, weights=None), largest(sizes))
    results = {}
    for stride in STRIDES:
        fine = smp.encoders.get_encoder(encoder, weights=None, output_stride=stride).eval()
        fine.load_state_dict(coarse.state_dict())
        step = 32 // stride
        for size_hw in sizes:
            images = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
            expected, dense = coarse(images)[-1], fine(images)[-1]
            found = []
            for y, x in product(range(step), repeat=2):
                read = dense[..., y::step, x::step]
                rows, columns = (min(sides) for sides in zip(read.shape[-2:], expected.shape[-2:], strict=True))
                found.append(difference(read[..., :rows, :columns], expected[..., :rows, :columns]))
            results[size_hw, stride] = min(found)
    return results


def native_encoder(member: str) -> str:
    """The name of smp's own encoder for a member; it has none for V2."""
    return f"efficientnet-{member}" if member.startswith("b") else f"timm-tf_efficientnet_{member}"


def rows(members: list[str], sizes: list[tuple[int, int]]) -> Iterator[str]:
    """The table's lines."""
    for member in members:
        name = FAMILY[member].backbone
        ours, theirs = our_differences(name, sizes), smp_differences(f"tu-{name}", sizes)
        native = smp_differences(native_encoder(member), sizes)
        for size_hw, stride in product(sizes, STRIDES):
            own = native.get((size_hw, stride))
            yield (
                f"{name:22}{size_hw[0]:>5}x{size_hw[1]:<5}{stride:>6}{ours[size_hw, stride, True]:12.1e}"
                f"{ours[size_hw, stride, False]:12.1e}{theirs[size_hw, stride]:12.1e}"
                + ("           -" if own is None else f"{own:12.2f}")
            )


def times(name: str, size_hw: tuple[int, int], rounds: int) -> Iterator[str]:
    """Lines with milliseconds with and without the option, measured in turn."""
    images = torch.randn(1, 3, *size_hw).contiguous(memory_format=torch.channels_last)

    def infer(network: nn.Module) -> None:
        with torch.inference_mode():
            network.eval()(images)

    def step(network: nn.Module) -> None:
        network.train()(images)[-1].square().mean().backward()
        network.zero_grad()

    measures: dict[str, Callable[[nn.Module], None]] = {"inference": infer, "training step": step}
    for stride, (measure, call) in product(STRIDES, measures.items()):
        networks = []
        for exact_gates in (False, True):
            network = EfficientNetFeatures(name, levels=(5,), output_stride=stride, exact_gates=exact_gates)
            networks.append(network.to(memory_format=torch.channels_last))
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds + 1):
            for side, network in enumerate(networks):
                start = time.perf_counter()
                call(network)
                if turn:  # the first round is for warming up
                    seconds[side].append(time.perf_counter() - start)
        low, mid = ([1e3 * figure(side) for side in seconds] for figure in (min, statistics.median))
        yield (
            f"{measure:16}{stride:>6}{low[0]:10.0f}{low[1]:8.0f}{low[1] / low[0]:7.2f}"
            f"{mid[0]:11.0f}{mid[1]:8.0f}{mid[1] / mid[0]:7.2f}"
        )


def size(text: str) -> tuple[int, int]:
    """Height and width from a text such as `96x64`."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [f"b{phi}" for phi in range(8)] + [f"lite{phi}" for phi in range(5)] + ["v2_s"]
    parser.add_argument("--members", nargs="+", default=usual, choices=tuple(FAMILY), metavar="MEMBER")
    parser.add_argument("--sizes", nargs="+", type=size, default=[(97, 97), (84, 66), (257, 257)], metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing; 0 leaves it out")
    parser.add_argument("--timed-size", type=size, default=(512, 1024), metavar="HxW")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{'':39}{'EffDense':>12}{'without':>12}{'smp':>12}{'smp':>12}")
    print(f"{'network':26}{'size':7}{'stride':>6}{'exact gates':>12}{'':>12}{'tu-':>12}{'native':>12}")
    for line in rows(given.members, given.sizes):
        print(line, flush=True)
    if given.rounds:
        name = FAMILY[given.members[0]].backbone
        print(f"\n{name}, {given.timed_size[0]}x{given.timed_size[1]}, {given.threads} threads; milliseconds")
        print(f"{'':16}{'stride':>6}{'minimum':>10}{'exact':>8}{'ratio':>7}{'median':>11}{'exact':>8}{'ratio':>7}")
        for line in times(name, given.timed_size, given.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
