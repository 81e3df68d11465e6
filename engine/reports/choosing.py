"""Which images a report shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

WORST = 36
SAMPLE = 12
Key = TypeVar("Key")


def worst(scores: Mapping[Key, float], count: int = WORST) -> list[Key]:
    """The images of the lowest scores, the lowest first; among equal ones in their order."""
    return sorted(scores, key=lambda key: scores[key])[:count]


def sample(names: Mapping[Key, str], count: int = SAMPLE) -> list[Key]:
    """A fixed choice by the hashes of names, in which two runs over the same images agree."""
    return sorted(names, key=lambda key: hashlib.sha256(names[key].encode()).digest())[:count]


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Each path without the folders that all have in common."""
    parts = [path.replace("\\", "/").split("/") for path in paths]
    common = 0
    while parts and all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return ["/".join(part[common:]) for part in parts]
