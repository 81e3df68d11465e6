"""The groups of options that add something to the training of any task. Nothing here imports what it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Addition(NamedTuple):
    """A group of options.

    Attributes:
        path: the callback whose constructor has them, as "package.module:Class".
        text: what it is, for the help.
    """

    path: str
    text: str


ADDITIONS: Mapping[str, Addition] = {
    "ema": Addition("engine.training.averaging:EMA", "The moving average of the weights."),
    "norms": Addition(
        "engine.training.callbacks.norms:NormMomentum", "Statistics of batch norms that follow the number of steps."
    ),
    "watch": Addition("engine.training.callbacks.watch:Watch", "What a training says of itself while it runs."),
}
