"""Keras' weight files, read with h5py alone: Keras is not needed, and no layer of the file is built.

Three kinds: HDF5 by layer names (`.h5` of Keras 1 to 3, with or without the model), HDF5 by the order of layers
(`.weights.h5` of Keras 3) and the zip archive with a configuration and the latter (`.keras`). Sources: Keras 3.15
`legacy/saving/legacy_h5_format.py` and `saving/saving_lib.py`.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol, TypedDict, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from backbones.layouts.from_keras import LAYER_NAME
from backbones.layouts.layout import StateDict
from engine.archives import check_size, read_member
from engine.errors import InputError

# `vars/0`, `vars/1`, ... of a layer, by the end of its name.
_NORM_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")
_VARIABLES = ("kernel", "bias")
_STATISTICS = ("mean", "variance", "count")

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


Array = npt.NDArray[np.float64]  # in fact of any number type; the code here works for all of them
Variables = dict[str, Array]


class LayerConfig(TypedDict):
    """A layer in a network's configuration."""

    class_name: str
    config: dict[str, str | list[int | None] | None]


class _Layers(TypedDict, total=False):
    layers: list[LayerConfig]


class Config(TypedDict, total=False):
    """A network's configuration."""

    config: _Layers


class _Attributes(Protocol):
    def get(self, name: str) -> object: ...


class _Group(Protocol):
    """h5py's `Group`, as far as it is used."""

    attrs: _Attributes

    def __getitem__(self, path: str) -> _Group: ...

    def visititems(self, visit: Callable[[str, _Group | _Dataset], None]) -> None: ...


@runtime_checkable
class _Dataset(Protocol):
    """h5py's `Dataset`, as far as it is used."""

    attrs: _Attributes
    name: str
    dtype: np.dtype[np.generic]
    nbytes: int
    external: object
    is_virtual: bool

    def __getitem__(self, key: tuple[()]) -> object: ...


@dataclass(frozen=True)
class Preprocessing:
    """How a Keras network normalises images in 0..255 before its first convolution, as mean and deviation in [0, 1].

    Attributes:
        mean: mean of each channel.
        std: standard deviation of each channel.
        input_hw: height and width that the network was built for, if the file says so.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int] | None


def read_h5(source: Path | BinaryIO, config: Config | None = None) -> tuple[StateDict, Preprocessing]:
    """The variables of an HDF5 file, keyed `layer/variable`, and the preprocessing.

    Args:
        source: the file.
        config: the configuration of the network, if it is not in this file.

    Raises:
        InputError: h5py is not installed, or the file refers to other files or holds code. The message names only
            the fault.
    """
    with _h5py().File(source, "r") as file:
        if config is None and "model_config" in file.attrs:
            config = json.loads(file.attrs["model_config"])
        _refuse_code(config)
        packed = source.stat().st_size if isinstance(source, Path) else source.seek(0, io.SEEK_END)
        layers = dict(_layers(file, _names_by_order(config), _Budget(packed)))
    arrays = {f"{layer}/{name}": array for layer, variables in layers.items() for name, array in variables.items()}
    state = {key: torch.from_numpy(array) for key, array in arrays.items() if re.match(LAYER_NAME, key)}
    if not state:
        fault = "holds no layer of a Keras EfficientNet"
        if not any(layers.values()):
            fault += " by name; save it again as .keras, or with a newer Keras"
        raise InputError(fault)
    return state, _preprocessing(layers, config)


def read_keras_zip(archive: zipfile.ZipFile) -> tuple[StateDict, Preprocessing]:
    """The variables of a `.keras` file, as `read_h5`."""
    names = archive.namelist()
    if missing := [name for name in ("config.json", "model.weights.h5") if name not in names]:
        fault = f"is no complete .keras file: {missing[0]} is missing in it"
        raise InputError(fault)
    config = json.loads(read_member(archive, "config.json"))
    return read_h5(io.BytesIO(read_member(archive, "model.weights.h5")), config)


def _h5py() -> ModuleType:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        fault = "is a Keras file, which h5py reads. Install it: pip install 'effdense[keras]'"
        raise InputError(fault) from error


def _refuse_code(config: object) -> None:
    # A Lambda layer is marshalled Python code. It is not run here, but the weights alone would not be the same network.
    if isinstance(config, dict):
        if config.get("class_name") == "Lambda":
            fault = "holds a Lambda layer, which is code. Save the network without it"
            raise InputError(fault)
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            _refuse_code(part)


def _layers(file: _Group, names: Mapping[str, str], budget: _Budget) -> Iterator[tuple[str, Variables]]:
    """Each layer of the EfficientNet with its variables, including layers without any; other parts are left out."""
    layers: dict[str, dict[str, Variables]] = {}  # by the group that holds the layer, then by layer

    def visit(path: str, thing: _Group | _Dataset) -> None:
        if path.startswith("optimizer"):
            return
        path = path.removeprefix("model_weights/")
        parent, _, last = path.rpartition("/")
        if last == "vars":
            holder, _, place = parent.rpartition("/")
            layer = thing.attrs.get("name") or names.get(place, "")
            layers.setdefault(holder, {}).setdefault(str(layer), {})
        elif isinstance(thing, _Dataset):
            layer, name = _variable(file, path, names)
            top = path.partition("/")[0]
            holder = parent.removesuffix("/vars").rpartition("/")[0] if parent.endswith("/vars") else top
            # Flat files have a group for each layer, which is the layer itself.
            layers.setdefault("" if holder == layer else holder, {}).setdefault(layer, {})[name] = _array(thing, budget)
        elif not parent and path not in ("layers", "_layer_checkpoint_dependencies", "vars", "top_level_model_weights"):
            layers.setdefault("", {}).setdefault(path, {})

    file.visititems(visit)
    holder = next((holder for holder, inside in layers.items() if inside.get("stem_conv")), "")
    yield from layers.get(holder, {}).items()


def _variable(file: _Group, path: str, names: Mapping[str, str]) -> tuple[str, str]:
    """The layer and the variable that a dataset belongs to."""
    parent, _, last = path.rpartition("/")
    if not parent.endswith("vars"):
        name = last.partition(":")[0].removeprefix("depthwise_")
        return parent.rpartition("/")[2], name
    place = parent.removesuffix("/vars").rpartition("/")[2]
    layer = str(file[parent].attrs.get("name") or names.get(place, ""))
    known: tuple[str, ...] = _NORM_VARIABLES if layer.endswith("bn") else _VARIABLES
    if layer.startswith("normalization"):
        known = _STATISTICS
    return layer, known[int(last)] if last.isdigit() and int(last) < len(known) else last


class _Budget:
    """The bytes that all arrays of a file may take together, by the file's own size."""

    def __init__(self, packed: int) -> None:
        self._packed = packed
        self._taken = 0

    def take(self, count: int) -> None:
        self._taken += count
        check_size(self._taken, self._packed)


def _array(dataset: _Dataset, budget: _Budget) -> Array:
    if dataset.external or dataset.is_virtual:
        fault = "takes values from other files. Save it again in one piece"
        raise InputError(fault)
    if dataset.dtype.kind not in "fiu":
        fault = f"holds {dataset.name}, which is no array of numbers"
        raise InputError(fault)
    budget.take(dataset.nbytes)
    array = np.asarray(dataset[()])
    return array if array.ndim else array.reshape(1)


def _layer_configs(config: Config | None) -> list[LayerConfig]:
    return [] if config is None else config.get("config", {}).get("layers", [])


def _names_by_order(config: Config | None) -> dict[str, str]:
    """Group -> name of the layer, for older files of Keras, whose groups are named by class and a number."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in _layer_configs(config):
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])).lower()
        count = counts[kind] = counts.get(kind, -1) + 1
        names[f"{kind}_{count}" if count else kind] = str(layer["config"]["name"])
    return names


def _preprocessing(layers: Mapping[str, Variables], config: Config | None) -> Preprocessing:
    """The mean and deviation of the layers in front of the stem.

    B0 to B7 scale to [0, 1] and normalise with values of the file; `weights="imagenet"` adds a further scaling by
    1 / sqrt(std), because the published values divide by sqrt(std) where std was meant
    (`applications/efficientnet.py`, tensorflow issue 49930). V2-B0 to B3 normalise with ImageNet's constants, V2-S to
    L with 128. Without any of these layers, images are to be in -1..1.
    """
    rescalings = [name for name in layers if re.fullmatch(r"rescaling(_\d+)?", name)]
    norm = next((name for name in layers if re.fullmatch(r"normalization(_\d+)?", name)), None)
    input_hw = _input_hw(config)
    values = layers.get(norm, {}) if norm else {}
    if "mean" in values and "variance" in values:
        mean = [float(value) for value in values["mean"].reshape(-1)]
        std = [math.sqrt(value) for value in values["variance"].reshape(-1)]
        published = len(std) == 3 and all(abs(a * a - b) < 1e-4 for a, b in zip(std, _IMAGENET_STD, strict=True))
        # `.h5` files lack the layers without weights of a network inside another, so there may be no such layer here.
        if len(rescalings) > 1 or (not rescalings and published):
            std = [value * math.sqrt(factor) for value, factor in zip(std, _IMAGENET_STD, strict=True)]
        return Preprocessing(tuple(mean), tuple(std), input_hw)
    if norm:
        return Preprocessing(_IMAGENET_MEAN, _IMAGENET_STD, input_hw)
    if rescalings:
        return Preprocessing((128 / 255,) * 3, (128 / 255,) * 3, input_hw)
    return Preprocessing((0.5,) * 3, (0.5,) * 3, input_hw)


def _input_hw(config: Config | None) -> tuple[int, int] | None:
    for layer in _layer_configs(config):
        if layer.get("class_name") == "InputLayer":
            shape = layer["config"].get("batch_shape") or layer["config"].get("batch_input_shape") or []
            sides = [size for size in shape[1:3] if isinstance(size, int)]
            if len(shape) == 4 and len(sides) == 2:
                return sides[0], sides[1]
    return None
