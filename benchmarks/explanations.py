"""How much of what `deployment explain` draws lies inside the boxes and classes that it explains, on real images.

    python benchmarks/explanations.py shared/real/bccd/images bccd_lite0.ckpt --count 12

For each answer, the share of the heat inside its box or class, beside the share of the image that this is: heat that
lay everywhere alike would have the same share of both. The pointing game (Zhang et al., arXiv 1608.00507) counts the
answers whose warmest pixel lies inside. Prints a Markdown table, a row for each checkpoint and method.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from deployment.explaining.cell_maps import Method
from deployment.explaining.explainer import Explainer, Wanted
from deployment.networks import load_any
from engine.prediction.sources import IMAGES, find_sources

MOST = 5


def row(checkpoint: Path, method: Method, images: list[Path]) -> list[str]:
    """One row of the table."""
    explainer = Explainer(load_any(checkpoint), Wanted(most=MOST, method=method))
    found = [each.evidence for path in images for each in explainer.explain(path)]
    inside = [each.share_inside for each in found]
    area = [each.share_of_image for each in found]
    hits = [bool(each.inside[np.unravel_index(each.heat.argmax(), each.heat.shape)]) for each in found]
    more = sum(one > other for one, other in zip(inside, area, strict=True))
    return [
        checkpoint.stem, method, str(len(found)), f"{statistics.median(inside):.3f}", f"{statistics.median(area):.3f}",
        f"{more} of {len(found)}", f"{sum(hits)} of {len(found)}",
    ]  # fmt: skip


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a folder or glob of images")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=8, help="images, evenly from all")
    given = parser.parse_args()
    images = [source.path for source in find_sources(given.images, IMAGES)]
    images = images[:: max(1, len(images) // given.count)][: given.count]
    head = ["network", "method", "answers", "heat inside, median", "of the image, median", "more heat than area",
            "warmest pixel inside"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    rows += [row(path, method, images) for path in given.checkpoints for method in get_args(Method)]
    for each in rows:
        sys.stdout.write(f"| {' | '.join(each)} |\n")


if __name__ == "__main__":
    main()
