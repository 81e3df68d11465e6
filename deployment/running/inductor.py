"""Programs in int8 of .pt2 files, compiled by PyTorch's Inductor where they are opened."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import InputError
from engine.exports.extras import needed

COMPILE_NAME = "EFFDENSE_COMPILE_INT8"
Computes = Callable[[Tensor], Sequence[Tensor]]


def register_int8() -> None:
    """Make the operators known that programs in int8 hold; it takes too long for those who open none."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")


def is_asked() -> bool:
    """Whether `EFFDENSE_COMPILE_INT8=1` asks for compiled programs.

    Raises:
        InputError: it is neither 0 nor 1.
    """
    given = os.environ.get(COMPILE_NAME, "0")
    if given not in ("0", "1"):
        msg = f"{COMPILE_NAME} is '{given}'; allowed: 0, 1."
        raise InputError(msg)
    return given == "1"


def compiled(module: torch.nn.Module, images: Tensor, path: Path) -> Computes:
    """A program with convolutions of int8, which Inductor makes of it: that takes minutes.

    Without it each value is rounded to int8 and computed in float, which is no faster. The rounding is
    the same, but for values that lie between two numbers and that the order of a sum moves to the other one, and for
    those beyond a range of seven bits, which are cut at the end of eight.

    Args:
        module: the program.
        images: of the one shape that it takes, (B, 3, H, W) uint8.
        path: its file.

    Returns:
        The program for images of that shape, from any thread and in any mode of gradients.

    Raises:
        InputError: there is no compiler or no torchao, or Inductor takes no convolution of the program as one of int8.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        msg = (
            f"'{path}' is compiled where it is opened, as {COMPILE_NAME}=1 asks, which needs a C++ compiler. Install "
            f"g++, set CXX to one, or unset {COMPILE_NAME}."
        )
        raise InputError(msg)
    teach()
    before = _taken()
    compute = by_inductor(module, images)
    if _taken() == before:
        msg = (
            f"Inductor makes no convolution of int8 of '{path}' on this processor. Take a file of onnx or openvino, or "
            f"unset {COMPILE_NAME}."
        )
        raise InputError(msg)
    return compute


def teach() -> None:
    """Tell Inductor what convolutions of int8 look like, which it would compile in float; torchao does so.

    Raises:
        InputError: it is not installed.
    """
    needed("torchao", extra="inductor")
    importlib.import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")


def by_inductor(module: torch.nn.Module, images: Tensor) -> Computes:
    """A program of any number type, which Inductor compiles now, for images of the shape of these."""
    from torch._inductor import config

    made: Callable[..., Sequence[Tensor]] = torch.compile(module, fullgraph=True, dynamic=False)

    def compute(images: Tensor) -> Sequence[Tensor]:
        # Tensors of another mode or layout would be compiled for anew.
        with torch.inference_mode(mode=False), torch.no_grad():
            return made(images=images.clone(memory_format=torch.contiguous_format))

    # Weights are constants, which are packed beforehand. As an option of `torch.compile` it would come too late, when
    # weights have become inputs.
    with config.patch(freezing=True):
        compute(images)
    return compute


def _taken() -> int:
    """How many convolutions Inductor has taken as those of int8, in this process or, by its cache, in a former one."""
    from torch._dynamo.utils import counters

    names = counters["inductor"]
    return sum(count for name, count in names.items() if name.startswith("qconv") and name.endswith("lower_count"))
