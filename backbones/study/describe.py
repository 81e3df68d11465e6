"""A network of the family, or a search over the family, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backbones.networks import create_classifier
from backbones.scaling import MEMBERS, PAPER, Coefficients, Rounding, scaled_name
from backbones.study.cost import count
from backbones.study.search import Candidate, find, leading
from backbones.study.text_tables import aligned


def describe(phi: float, coefficients: Coefficients = PAPER, rounding: Rounding = "nearest") -> str:
    """Multipliers, stages, size and work of the EfficientNet at φ, and its name as a backbone.

    Raises:
        InputError: there is no network at φ.
    """
    name = scaled_name(phi, coefficients, rounding=rounding)
    point = coefficients.at(phi, rounding)
    with torch.device("meta"):
        network, base = create_classifier(point), create_classifier(MEMBERS["b0"])
    cost = count(network, (point.resolution, point.resolution))
    growth = cost.macs / count(base, (MEMBERS["b0"].resolution,) * 2).macs
    stages = [
        [str(stage), str(repeats), str(channels)]
        for stage, (repeats, channels) in enumerate(zip(point.repeats, point.channels, strict=True), start=1)
    ]
    lines = [
        f"{name}: usable as a backbone wherever a timm name is",
        f"depth × {point.depth:.3f}, width × {point.width:.3f}, images of {point.resolution} × {point.resolution}",
        f"{cost.parameters:,} parameters, {cost.macs / 1e9:.4f} billion multiply-accumulates as an ImageNet classifier",
        f"{growth:.3f} times the work of B0; 2^φ is {2**phi:.3f}, (α·β²·γ²)^φ is {coefficients.cost**phi:.3f}",
        "",
        aligned(("stage", "blocks", "channels"), stages),
    ]
    return "\n".join(lines)


def describe_search(candidates: Sequence[Candidate], *, scored: bool = False) -> str:
    """The leading tenth of a search, the cost of all candidates, and the place of the paper's triple.

    Args:
        candidates: the candidates that `search.grid` returned.
        scored: whether the scores are the reader's own, not `search.evenness`.
    """
    best = leading(candidates)
    if not best:
        return f"{len(candidates)} triples are admissible; the scores name none of them"
    order = "score" if scored else "evenness"
    lines = [
        [
            f"{each.coefficients.alpha:g}, {each.coefficients.beta:g}, {each.coefficients.gamma:g}",
            f"{each.coefficients.cost:.3f}",
            f"{each.growth:.3f}",
            f"{each.cost.macs / 1e9:.4f}",
            f"{each.cost.parameters:,}",
            str(each.image_size),
            f"{each.score:.4f}",
        ]
        for each in best
    ]
    text = aligned(("α, β, γ", "α·β²·γ²", "MACs / B0's", "GMACs", "parameters", "image", order), lines)
    growths = [each.growth for each in candidates]
    spans = "; ".join(
        f"{name} {min(values):g} to {max(values):g}"
        for name, values in (
            ("α", [each.coefficients.alpha for each in best]),
            ("β", [each.coefficients.beta for each in best]),
            ("γ", [each.coefficients.gamma for each in best]),
        )
    )
    place = find(candidates)
    where = "is not on this grid"
    if place is not None:
        paper = candidates[place]
        inside = "inside" if paper in best else "outside"
        where = (
            f"is number {place + 1} of {len(candidates)}, {inside} that tenth; it asks for "
            f"{paper.coefficients.cost:.3f} times the work of B0 and costs {paper.growth:.3f} times"
        )
    notes = [
        f"{len(candidates)} triples are admissible; counted on the real networks they cost {min(growths):.2f} to "
        f"{max(growths):.2f} times B0.",
        f"The leading tenth by {order}: {spans}.",
        f"The paper's {PAPER.alpha:g}, {PAPER.beta:g}, {PAPER.gamma:g} {where}.",
    ]
    if not scored:
        notes.append("Evenness measures no accuracy; to rank by it, train the candidates and give --scores.")
    return "\n".join([text, "", *notes])
