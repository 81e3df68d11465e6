"""The project's own weight file: safetensors with timm's keys, and all that a user of the weights must know."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from backbones.scaling import Padding
from engine.errors import InputError
from engine.outputs import atomic_path

# One entry holds all metadata: safetensors writes several entries in an order that changes from run to run.
_ENTRY = "effdense"
VERSION = 1


@dataclass(frozen=True)
class Metadata:
    """The metadata of a backbone's weights.

    Attributes:
        name: name of the member, as `EfficientNetFeatures` takes it.
        source: the layout that the weights were converted from.
        file: name of the file that they were converted from.
        licence: licence of the weights; `unknown` if nothing tells it.
        mean: mean of each channel, for images in [0, 1], that the weights were trained with.
        std: standard deviation of each channel, likewise.
        padding: `same`, as TensorFlow pads, or `symmetric`.
        norm_eps: epsilon of the batch norms.
        input_size: channels, height and width of the images.
        version: version of this format.
    """

    name: str
    source: str
    file: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: Padding
    norm_eps: float
    input_size: tuple[int, int, int]
    version: int = VERSION

    def __str__(self) -> str:
        """One line for each entry."""
        return "\n".join(f"{key:12} {value}" for key, value in dataclasses.asdict(self).items())


def write_own(path: Path, state: Mapping[str, Tensor], metadata: Metadata) -> None:
    """Write tensors and metadata; the same content gives the same bytes.

    Raises:
        InputError: the folder cannot be written.
    """
    text = json.dumps(dataclasses.asdict(metadata), sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(dict(state), temporary, metadata={_ENTRY: text})


def read_metadata(path: Path) -> Metadata | None:
    """The metadata of a file of our own; None for any other safetensors file.

    Raises:
        InputError: the metadata is ours, but damaged or of a later version. The message names only the fault.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_ENTRY)
    if text is None:
        return None
    try:
        return _checked(json.loads(text))
    except (TypeError, ValueError, KeyError) as error:
        message = "has damaged metadata of EffDense; convert the original file again"
        raise InputError(message) from error


def _checked(fields: dict[str, Any]) -> Metadata:
    if fields["version"] != VERSION:
        message = f"was written in version {fields['version']} of EffDense's layout, which this release cannot read"
        raise InputError(message)
    numbers = {key: tuple(float(value) for value in fields[key]) for key in ("mean", "std")}
    metadata = Metadata(**{**fields, **numbers, "input_size": tuple(int(size) for size in fields["input_size"])})
    finite = all(math.isfinite(value) for value in (*metadata.mean, *metadata.std))
    if metadata.padding not in ("same", "symmetric") or not finite or not 0 < metadata.norm_eps < 1:
        raise ValueError(fields)
    return metadata
