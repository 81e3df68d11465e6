"""What the tools have in common: shapes that have no area, and what a user is told of what is left out."""

from __future__ import annotations

FLAT = frozenset(
    (
        *("point", "points", "line", "lines", "linestrip", "polyline"),
        *("keypoint", "keypointlabels", "vector", "graph", "skeleton"),
    )
)
FLAT_NOTE = "points and lines have no area and were left out"
SMALL_NOTE = "polygons of fewer than three points were left out"
UNLABELLED_NOTE = "images are not labelled yet and were left out"
