"""The numbers of docs/efficientnet-facts.md, each computed or measured when it is asked for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from backbones import networks
from backbones.published import PUBLISHED
from backbones.scaling import BASE_RESOLUTION, MEMBERS, PAPER, Coefficients
from backbones.study import table
from backbones.study.cost import Cost, count
from backbones.study.text_tables import markdown
from engine.errors import InputError, check_choice


def members() -> str:
    """B0-B7, Lite0-4 and V2: the counted size and work, beside the published figures."""
    return markdown(table.HEADER, [table.cells(row) for row in table.rows()])


def gates() -> str:
    """B0-B7 with and without squeeze-and-excitation; everything else stays as it is."""
    header = ("network", "parameters", "without gates", "share", "MMACs", "without gates", "share")
    lines = []
    for member in MEMBERS:
        published = PUBLISHED[member]
        with torch.device("meta"):
            network = networks.create_classifier(published.name)
        image_hw = (published.image_size, published.image_size)
        whole = count(network, image_hw)
        _remove_gates(network)
        bare = count(network, image_hw)
        lines.append([published.name, *_whole_and_bare(whole, bare)])
    return markdown(header, lines)


def _whole_and_bare(whole: Cost, bare: Cost) -> list[str]:
    return [
        f"{whole.parameters:,}",
        f"{bare.parameters:,}",
        f"{1 - bare.parameters / whole.parameters:.1%}",
        f"{whole.macs / 1e6:,.1f}",
        f"{bare.macs / 1e6:,.1f}",
        f"{1 - bare.macs / whole.macs:.2%}",
    ]


def _remove_gates(network: nn.Module) -> None:
    for block in list(network.modules()):
        if isinstance(getattr(block, "se", None), nn.Module):
            block.se = nn.Identity()


def scaling() -> str:
    """The work at whole φ in units of B0's work: by the paper's rule, and by two rules that articles give instead."""
    unit = "MACs / B0's"
    header = ("φ", "2^φ", "α^φ, β^φ, γ^φ", unit, "α·φ, β·φ, γ·φ", unit, "2^φ each", unit)
    base = _macs(Coefficients(1, 1, 1))
    lines = []
    for phi in (1, 2, 3):
        rules = (
            Coefficients(PAPER.alpha**phi, PAPER.beta**phi, PAPER.gamma**phi),
            Coefficients(PAPER.alpha * phi, PAPER.beta * phi, PAPER.gamma * phi),
            Coefficients(2**phi, 2**phi, 2**phi),
        )
        line = [str(phi), str(2**phi)]
        for rule in rules:
            line += [f"{rule.alpha:.2f}, {rule.beta:.2f}, {rule.gamma:.2f}", f"{_macs(rule) / base:,.2f}"]
        lines.append(line)
    return markdown(header, lines)


def _macs(multipliers: Coefficients) -> int:
    """The MACs of the network that is by these factors deeper, wider and larger than B0."""
    point = multipliers.at(1)
    with torch.device("meta"):
        network = networks.create_classifier(point)
    return count(network, (point.resolution, point.resolution)).macs


def exponents() -> str:
    """The φ that each published multiplier of B0-B7 alone would need."""
    header = ("member", "depth", "φ by depth", "width", "φ by width", "image", "φ by image")
    lines = []
    for member, point in MEMBERS.items():
        lines.append(
            [
                member,
                f"{point.depth:g}",
                f"{math.log(point.depth) / math.log(PAPER.alpha):.2f}",
                f"{point.width:g}",
                f"{math.log(point.width) / math.log(PAPER.beta):.2f}",
                str(point.resolution),
                f"{math.log(point.resolution / BASE_RESOLUTION) / math.log(PAPER.gamma):.2f}",
            ]
        )
    return markdown(header, lines)


def quantisation() -> str:
    """The effect of `torch.ao.quantization.quantize_dynamic` on B0 when it is to quantise convolutions too.

    Raises:
        InputError: this PyTorch has no dynamic quantisation.
    """
    network: Any = networks.create_classifier("tf_efficientnet_b0").eval()
    quantised: Any = _quantised(network)
    image = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(network.forward_features(image), quantised.forward_features(image))
    lines = []
    for name, kind in (("convolutions", nn.Conv2d), ("linear layers", nn.Linear)):
        before = [(path, module) for path, module in network.named_modules() if isinstance(module, kind)]
        after = [(module, quantised.get_submodule(path)) for path, module in before]
        changed = sum(type(new) is not type(old) for old, new in after)
        lines.append(
            [
                name,
                str(len(before)),
                str(changed),
                f"{sum(_weight_bytes(module) for _, module in before):,}",
                f"{sum(_weight_bytes(new) for _, new in after):,}",
            ]
        )
    kept = "Its feature maps are those of B0, bit by bit." if same else "Its feature maps differ from those of B0."
    return markdown(("layers of B0", "there are", "quantised", "bytes of weights", "afterwards"), lines) + f"\n\n{kept}"


def _quantised(network: nn.Module) -> nn.Module:
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        msg = f"PyTorch {torch.__version__} has no torch.ao.quantization.quantize_dynamic; use an older one."
        raise InputError(msg) from error
    with warnings.catch_warnings():
        # The warning says that torchao will replace it, which changes nothing here.
        warnings.simplefilter("ignore")
        quantised: nn.Module = quantize_dynamic(network, {nn.Conv2d, nn.Linear}, dtype=torch.qint8)
    return quantised


def _weight_bytes(module: nn.Module) -> int:
    weight = cast(Any, module).weight
    # A quantised layer packs its weight and returns it by a call.
    tensor: torch.Tensor = weight() if callable(weight) else weight
    return tensor.numel() * tensor.element_size()


TOPICS: dict[str, Callable[[], str]] = {
    "members": members,
    "gates": gates,
    "scaling": scaling,
    "exponents": exponents,
    "quantisation": quantisation,
}


def topic(name: str) -> str:
    """One table of the page as Markdown.

    Raises:
        InputError: there is no such table.
    """
    check_choice("topic", name, TOPICS)
    return TOPICS[name]()
