"""A training of any head that takes seconds, on the scenes of `tests.detection.small`."""

from __future__ import annotations

from tests.detection.small import Said, command


def fit(head: str, rest: str = "", name: str | None = None) -> Said:
    """`fit` of a head on the small set."""
    return command(f"fit --config heads.yaml --model.head {head} --run.name {name or head} {rest}")
