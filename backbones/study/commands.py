"""The commands `table`, `scale` and `facts` of `python -m backbones`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal


def table(
    names: list[str] | None = None,
    csv: Path | None = None,
    picture: Path | None = None,
    no_latency: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 5,
) -> None:
    """Parameters, multiply-accumulates, published top-1, and the time for one image on this device.

    Args:
        names: b0 ... b7, lite0 ... lite4, v2_s, v2_m, v2_l, names that timm knows, or names such as
            efficientnet_phi1.5; by default all of the first three kinds. May be given without --names.
        csv: file to write the table to.
        picture: file to draw accuracy against cost into, .png, .pdf or .svg.
        no_latency: leave the timing out; the rest takes seconds.
        device: device of the timing, cpu or cuda.
        threads: CPU threads of the timing.
        rounds: rounds of the timing; each runs every network once, in turn.
    """
    from backbones.published import PUBLISHED
    from backbones.study.table import HEADER, cells, rows, timed_cells, write_csv
    from backbones.study.text_tables import aligned

    _check_outputs(csv, picture)
    computed = rows(
        names or tuple(PUBLISHED),
        latency=not no_latency,
        device=device,
        threads=threads,
        rounds=rounds,
        progress=True,
    )
    if no_latency:
        text = aligned(HEADER, [cells(row) for row in computed])
    else:
        text = aligned((*HEADER, "median ms", "fastest ms"), [timed_cells(row) for row in computed])
    sys.stdout.write(f"{text}\n")
    if csv:
        write_csv(csv, computed)
    if picture:
        from backbones.study.pictures import draw_table

        draw_table(picture, computed)


def scale(
    phi: float | None = None,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    rounding: Literal["nearest", "official"] = "nearest",
    search: bool = False,
    step: float = 0.05,
    tolerance: float = 0.1,
    scores: Path | None = None,
    csv: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Describe the EfficientNet at any φ, or search (α, β, γ) at φ = 1 as the paper did.

    To find the best triple, every candidate must be trained on ImageNet. Without training, a search shows which triples
    are admissible and what they cost, and sorts them by how evenly they share the work between depth, width and
    resolution; it measures no accuracy. To complete it, write --csv, fill in its column score with the accuracies of
    your own training, and give the file as --scores.

    Args:
        phi: the amount of scaling; B0 is 0, and cost grows as 2^φ.
        alpha: growth of the depth, at least 1.
        beta: growth of the width, at least 1.
        gamma: growth of the resolution, at least 1.
        rounding: rounding of repeats and multipliers: to the nearest, or up as in the released networks.
        search: run the grid search.
        step: distance of neighbouring values of the grid.
        tolerance: largest distance of α·β²·γ² from 2.
        scores: CSV file with the columns alpha, beta, gamma, score, larger being better.
        csv: file to write the candidates to.
        picture: file to draw the search into, .png, .pdf or .svg.
    """
    from backbones.scaling import Coefficients
    from engine.errors import InputError

    if search == (phi is not None):
        msg = "nothing is asked for. Give --phi, such as --phi 1.5, or --search."
        raise InputError(msg)
    if phi is not None:
        unused = [name for name, value in (("scores", scores), ("csv", csv), ("picture", picture)) if value]
        if unused:
            msg = f"--{unused[0]} goes with --search, not with --phi. Leave it out."
            raise InputError(msg)
        from backbones.study.describe import describe

        sys.stdout.write(describe(phi, Coefficients(alpha, beta, gamma), rounding) + "\n")
        return
    if (alpha, beta, gamma) != (1.2, 1.1, 1.15):
        msg = "--alpha, --beta and --gamma go with --phi; the search tries them all. Leave them out."
        raise InputError(msg)
    from backbones.study.describe import describe_search
    from backbones.study.search import grid, read_scores, write_csv

    _check_outputs(csv, picture)
    score = read_scores(scores) if scores else None
    candidates = grid(step, tolerance, rounding=rounding, score=score, progress=True)
    sys.stdout.write(describe_search(candidates, scored=bool(scores)) + "\n")
    if csv:
        write_csv(csv, candidates, scored=bool(scores))
    if picture:
        from backbones.study.pictures import draw_search

        draw_search(picture, candidates)


def _check_outputs(csv: Path | None, picture: Path | None) -> None:
    """Check that the results can be written, before minutes of work."""
    from engine.outputs import make_folder

    if csv:
        make_folder(csv.parent)
    if picture:
        from backbones.study.pictures import check_picture

        check_picture(picture)


def facts(topic: str | None = None) -> None:
    """Print the tables of docs/efficientnet-facts.md, each computed or measured again.

    Args:
        topic: members, gates, scaling, exponents or quantisation; by default all. May be given without --topic.
    """
    from backbones.study.facts import TOPICS
    from backbones.study.facts import topic as computed

    for name in [topic] if topic else TOPICS:
        sys.stdout.write(f"{computed(name)}\n\n")
