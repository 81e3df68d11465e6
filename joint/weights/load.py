"""A joint network from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from backbones.contract import Freezing
from engine.errors import InputError
from engine.training.checkpoint_files import found_source
from engine.training.checkpoints import check_fit, described, read_checkpoint
from joint.network.model import JointNetwork
from joint.network.norms import Norms, PerTaskNetwork, network_from
from joint.network.parts import DetectorPart, SegmenterPart

_PREFIX = "network."


def load_network(
    source: str | Path,
    *,
    detector: Mapping[str, object] = MappingProxyType({}),
    segmenter: Mapping[str, object] = MappingProxyType({}),
    freezing: Freezing | None = None,
) -> JointNetwork:
    """The bare network, in evaluation mode on the CPU, for example to train it further.

    Args:
        source: a checkpoint written by `python -m joint fit`, or `best` or `last` of the latest run.
        detector: fields of `DetectorArchitecture` that hold no weights, such as `image_size`.
        segmenter: the same of `SegmenterArchitecture`.
        freezing: `frozen_stages`, `freeze_norm` and `grad_checkpointing` of the backbone.

    Raises:
        InputError: the file is missing, damaged or of another kind, or its weights do not fit what was asked for.
    """
    checkpoint = read_checkpoint(found_source(source, "joint"), "joint")
    parts = {"detector": detector, "segmenter": segmenter}
    with described(source):
        settings = checkpoint.model | {name: _replaced(checkpoint.model[name], given) for name, given in parts.items()}
        network = network_from(settings, freezing)
    # Values of the training itself, such as learned weights of the losses, are no part of the network.
    stored = checkpoint.state_dict.items()
    state = {key.removeprefix(_PREFIX): value for key, value in stored if key.startswith(_PREFIX)}
    check_fit(source, network.state_dict(), state)
    network.load_state_dict(state)
    return network.eval().to(memory_format=torch.channels_last)


def pretrained_network(
    source: str, member: str | None, detector: DetectorPart, segmenter: SegmenterPart, norms: Norms, freezing: Freezing
) -> JointNetwork:
    """The network of another joint training, to train it further.

    Args:
        source: its checkpoint, or `best` or `last` of the latest run.
        member: the detector that was asked for; None takes the checkpoint's.
        detector: single values that replace those of the checkpoint.
        segmenter: the same of the segmenter.
        norms: the batch norms that were asked for.
        freezing: as in `load_network`.

    Raises:
        InputError: as `load_network`, or the checkpoint has another member or other norms.
    """
    network = load_network(
        source, detector=detector.architecture.given(), segmenter=segmenter.architecture.given(), freezing=freezing
    )
    name = network.detector.config.name
    wanted = {member, detector.member} - {None, name}
    if wanted or segmenter.member not in (None, network.segmenter.config.name):
        asked = wanted.pop() if wanted else segmenter.member
        msg = f"model.pretrained '{source}' is a {name}, but {asked} is asked for. Leave model.member out."
        raise InputError(msg)
    if (norms == "per_task") != isinstance(network, PerTaskNetwork):
        msg = (
            f"model.norms is {norms}, but in model.pretrained '{source}' the tasks "
            f"{'share their norms' if norms == 'per_task' else 'have norms of their own (per_task)'}. "
            f"Give --model.norms {'shared' if norms == 'per_task' else 'per_task'}."
        )
        raise InputError(msg)
    return network


def check_beginning(train: str, pretrained: str | None, parts: Mapping[str, str | None]) -> None:
    """Do nothing if what a training begins with is one whole, and holds what stays as it is.

    Args:
        train: the part that learns: `both`, `detector` or `segmenter`.
        pretrained: the checkpoint of a whole network.
        parts: the checkpoints of its parts, by the names of their options.

    Raises:
        InputError: a whole and a part are given, or the part that is to stay is not.
    """
    given = next((name for name, source in parts.items() if source is not None and name.endswith("_checkpoint")), None)
    if pretrained is not None and given is not None:
        msg = f"model.pretrained is a whole network, and model.{given} a part of one. Give one of them only."
        raise InputError(msg)
    kept = {"detector": "segmenter", "segmenter": "detector"}.get(train)
    if kept is not None and pretrained is None and parts[f"{kept}_checkpoint"] is None:
        msg = (
            f"model.train is {train}, which keeps the {kept} as it is, but there is none. Give "
            f"model.{kept}_checkpoint, or train both."
        )
        raise InputError(msg)


def _replaced(stored: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    size, architecture = given.get("image_size"), stored["architecture"]
    assert isinstance(architecture, Mapping)
    given = {**given, "image_size": (size, size)} if isinstance(size, int) else given
    return {**stored, "architecture": {**architecture, **given}}
