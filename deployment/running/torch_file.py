"""Programs of torch.export (.pt2), computed by PyTorch."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from deployment.export import letterbox, operators
from deployment.running.inductor import COMPILE_NAME, Computes, compiled, is_asked, register_int8
from deployment.running.opening import Faults, output_names, unreadable
from engine.archives import members_of, read_member
from engine.errors import InputError
from engine.exports.files import KEY, About

_ = letterbox, operators  # their import registers the operators that a program may hold


class TorchFile:
    """An opened .pt2 file.

    One in int8 computes in float what int8 would give, with each value rounded; compiled, it computes in int8.

    Args:
        path: the file.

    Raises:
        InputError: the file is damaged, or of another program; or it is to be compiled, which cannot be done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        extra = {f"{KEY}.json": ""}
        check_plain(path)
        self._faults = Faults(path, "PyTorch", (Exception,))  # of many kinds, for a damaged file
        with self._faults.opening():
            if _INT8 in _graph(path):
                register_int8()
            program = torch.export.load(path, extra_files=extra)
        text = extra[f"{KEY}.json"]
        self.about = About.from_json(text if isinstance(text, str) else bytes(text).decode(), path)
        self._module = program.module()
        specs = program.module_call_graph[0].signature
        assert specs is not None
        self._inputs = [name for name in ("images", "sizes_hw") if name in (specs.forward_arg_names or ())]
        self._outputs = output_names(self.about)
        if self._is_compiled:
            _ = self._compiled  # now, as it takes minutes

    @property
    def _is_compiled(self) -> bool:
        return self.about.precision == "int8" and is_asked()

    @cached_property
    def _compiled(self) -> Computes:
        try:
            assert self.about.batch is not None
            assert self.about.image_hw is not None
            images = torch.zeros((self.about.batch, 3, *self.about.image_hw), dtype=torch.uint8)
            return compiled(self._module, images, self.path)
        except InputError:
            raise
        except Exception as error:  # of many kinds, from compilers and their caches
            lines = str(error).strip().splitlines() or [type(error).__name__]
            msg = (
                f"Inductor could not compile '{self.path}': {lines[0].rstrip('.')}. Delete its cache, "
                f"torchinductor_USER in the folder of temporary files, and start again, or unset {COMPILE_NAME}."
            )
            raise InputError(msg) from error

    @torch.no_grad()
    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        given = {"images": images, "sizes_hw": sizes_hw}
        with self._faults.computing():
            if self._is_compiled:
                found = self._compiled(images)
            else:
                found = self._module(**{name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))


# What an export writes. Other entries hold compiled libraries or pickled objects, which run code when they are read.
_ENTRY = re.compile(
    r"data/weights/(model_weights_config\.json|weight_\d+)|data/constants/(model_constants_config\.json|tensor_\d+)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/\w+\.json|archive_(format|version)|(\.data/)?version"
    r"|byteorder|\.data/serialization_id"
)

_INT8 = b"quantized_decomposed"  # the operators of int8, in the text of a graph


def _graph(path: Path) -> bytes:
    """The text of a program's graph.

    Raises:
        Exception: of many kinds, for a damaged file.
    """
    with zipfile.ZipFile(path) as archive:
        return read_member(archive, f"{archive.namelist()[0].partition('/')[0]}/models/model.json")


def check_plain(path: Path) -> None:
    """Do nothing if a .pt2 file holds nothing but tensors, plain values and a graph.

    PyTorch itself unpickles whatever such a file calls pickled, and loads libraries that it holds.

    Raises:
        InputError: the file is damaged, or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename.partition("/")[2] for entry in members_of(archive)]
            strange = next((name for name in names if not _ENTRY.fullmatch(name)), None)
            root = archive.namelist()[0].partition("/")[0]
            for part in ("weights", "constants"):
                config = json.loads(read_member(archive, f"{root}/data/{part}/model_{part}_config.json"))["config"]
                if any(entry["use_pickle"] or "/" in entry["path_name"] for entry in config.values()):
                    strange = f"pickled {part}"
            torch.load(io.BytesIO(read_member(archive, f"{root}/data/sample_inputs/model.pt")), weights_only=True)
    except OSError as error:
        raise unreadable(path, error) from error
    except pickle.UnpicklingError:
        strange = "pickled sample inputs"
    except Exception as error:  # of many kinds, for a damaged file
        msg = f"'{path}' is no .pt2 file of `python -m deployment export`, or is damaged. Export it again."
        raise InputError(msg) from error
    if strange is not None:
        msg = (
            f"'{path}' holds {strange}, which could run code when it is read, so it is refused. Give a .pt2 file that "
            "`python -m deployment export` wrote."
        )
        raise InputError(msg)
