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
    "int8": Addition("engine.training.callbacks.int8:Int8Training", "The rounding of int8 in a training."),
    "lr_find": Addition(
        "engine.training.finding.range_test:FindRate", "A learning-rate range test in the place of a training."
    ),
    "norms": Addition(
        "engine.training.callbacks.norms:NormMomentum", "Statistics of batch norms that follow the number of steps."
    ),
    "stop": Addition("engine.training.callbacks.stopping:Stopping", "The end of a training that gets no better."),
    "unfreeze": Addition(
        "engine.training.callbacks.unfreezing:Unfreezing",
        "A backbone that learns stage after stage.",
    ),
    "watch": Addition("engine.training.callbacks.watch:Watch", "What a training says of itself while it runs."),
}
