"""A joint network from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import read_checkpoint
from joint.network.model import JointNetwork
from joint.network.norms import network_from

_PREFIX = "network."


def load_network(source: str | Path) -> JointNetwork:
    """The bare network, in evaluation mode on the CPU, for example to train it further.

    Args:
        source: a checkpoint written by `python -m joint fit`, or `best` or `last` of the latest run.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    checkpoint = read_checkpoint(found_source(source, "joint"), "joint")
    network = network_from(checkpoint.model)
    # Values of the training itself, such as learned weights of the losses, are no part of the network.
    stored = checkpoint.state_dict.items()
    network.load_state_dict({key.removeprefix(_PREFIX): value for key, value in stored if key.startswith(_PREFIX)})
    return network.eval().to(memory_format=torch.channels_last)
