"""Conversion of any known checkpoint to a file of the project's own: safetensors with timm's keys and metadata.

Tensors keep their values and types, so that the converted file holds the same bits as the original.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import timm

from backbones.layouts.files import Content, read
from backbones.layouts.layout import StateDict, Training
from backbones.layouts.members import member, named, untagged
from backbones.layouts.own import Metadata, write_own
from backbones.layouts.recognise import Recognised, recognise
from backbones.networks import ImageConfig, resolve_name, scaled_config
from backbones.scaling import read_scaled_name
from backbones.weights.renaming import under_timm_keys
from engine.download import HASH_IN_NAME
from engine.errors import InputError

UNKNOWN = "unknown"


def convert(
    source: str | Path, destination: str | Path, name: str | None = None, licence: str | None = None
) -> Metadata:
    """Write the EfficientNet of a checkpoint as a file that `EfficientNetFeatures(weights=...)` takes.

    A classification head is kept if there is one. Of detectors and segmentation networks only the backbone is
    written.

    Args:
        source: a file of timm, torchvision, efficientnet_pytorch, Keras, effdet, zylo117 or smp, or of our own.
        destination: a `.safetensors` file.
        name: the member; needed if neither the keys nor the file's name tell the padding.
        licence: licence of the weights; None takes what is known of published files.

    Returns:
        The metadata that was written with the tensors.

    Raises:
        InputError: the source cannot be read or recognised, does not fit the member, or the destination cannot be
            written; in all cases nothing is written.
    """
    source, destination = Path(source), Path(destination)
    if destination.suffix != ".safetensors":
        message = f"'{destination}' does not end in .safetensors, the only format that is written. Change the name."
        raise InputError(message)
    if destination.exists() and source.exists() and destination.samefile(source):
        message = f"'{destination}' is the source itself. Give another name for the converted file."
        raise InputError(message)
    content = read(source)
    try:
        found = recognise(content.state)
        chosen = _chosen_name(found, content, source, name)
        state = {key: tensor.contiguous() for key, tensor in under_timm_keys(found, member(chosen)).items()}
    except InputError as error:
        message = f"'{source}' cannot be converted: {error}"
        raise InputError(message) from None
    metadata = content.metadata or _metadata(found, content, source, chosen, state)
    if licence:
        metadata = Metadata(**{**vars(metadata), "licence": licence})
    write_own(destination, state, metadata)
    return metadata


def _chosen_name(found: Recognised, content: Content, source: Path, given: str | None) -> str:
    """The member's name, with its tag if that is known; the message of an InputError names only the fault."""
    if content.metadata:
        if given and untagged(resolve_name(given)) != untagged(content.metadata.name):
            message = f"it holds {content.metadata.name}, not {given}. Leave the name out."
            raise InputError(message)
        return content.metadata.name
    nearest = found.nearest()
    if given:
        chosen = resolve_name(given)
        found.check_padding(member(chosen))
        return chosen
    if nearest is None:
        message = f"no member has as many blocks as this file of {found.origin}. Give the name of the network."
        raise InputError(message)
    if found.padding:
        return nearest.name
    from_file = _name_of_file(source)
    if from_file and member(from_file).short == nearest.short:
        return from_file
    names = [name for name in (named(nearest.short, "symmetric"), named(nearest.short, "same")) if name]
    if len(names) == 1:
        return names[0]
    message = f"it fits {' and '.join(names)}, which differ in padding only. Say which by the name."
    raise InputError(message)


def _name_of_file(path: Path) -> str | None:
    """The network that a file is named after: `tf_efficientnet_b0_ns-c0e6a31c.pth`, `efficientnet_b0.ra_in1k.pth`."""
    stem = re.sub(r"-[0-9a-f]{8,64}$", "", path.stem)
    try:
        return resolve_name(stem)
    except InputError:
        return None


def _metadata(found: Recognised, content: Content, source: Path, name: str, state: StateDict) -> Metadata:
    wanted = member(name)
    training = found.layout.training.get(wanted.short, Training())
    config = _pretrained_config(name)
    mean, std = training.mean or config["mean"], training.std or config["std"]
    height = width = training.input_size or config["input_size"][1]
    if content.preprocessing:
        mean, std = content.preprocessing.mean, content.preprocessing.std
        height, width = content.preprocessing.input_hw or (height, width)
    return Metadata(
        name=name,
        source=found.origin,
        file=source.name,
        licence=_licence(found, source, name, config),
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
        padding=wanted.padding,
        norm_eps=training.norm_eps or wanted.norm_eps,
        input_size=(state["conv_stem.weight"].shape[1], height, width),
    )


def _pretrained_config(name: str) -> ImageConfig:
    scaled = read_scaled_name(name)
    if scaled:
        return scaled_config(scaled.point)
    config: ImageConfig = timm.get_pretrained_cfg(name).to_dict()
    return config


def _licence(found: Recognised, source: Path, name: str, config: ImageConfig) -> str:
    """The publisher's licence if the hash in the file's name, or timm's tag, shows that the file is a published one."""
    if found.layout.library == "timm" and found.origin == "timm" and name != untagged(name):
        return str(config.get("license") or UNKNOWN)
    match = HASH_IN_NAME.search(source.name)
    if match and found.layout.licence:
        with source.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest().startswith(match[1]):
                return found.layout.licence
    return UNKNOWN
