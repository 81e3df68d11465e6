"""Computes a .pte file for another process, run by the Python of an environment of its own.

That environment holds ExecuTorch and none of this project's packages, so that this script imports none of them.
Arguments: the file, and the number of threads.

What it reads and writes is a line of JSON with the shapes and number types of arrays, and then their bytes in C's
order. The first line written says what the file says of itself, and the shape of its images. Each line read brings
images, and is answered by the outputs in their order, or by an `error`. The script ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import numpy as np

KEY = "effdense"  # the method that gives what the file says of itself
Arrays = Sequence["np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]


def main(path: str, threads: str) -> None:
    """Open the file, and answer."""
    # What libraries print goes to the errors: it would stand between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        compute, said = opened(path, int(threads))
    except Exception as error:
        write(answers, {"error": in_words(error)}, [])
        return
    write(answers, said, [])
    while line := sys.stdin.buffer.readline():
        arrays = read(line, sys.stdin.buffer)
        try:
            found = compute(arrays)
        except Exception as error:
            write(answers, {"error": in_words(error)}, [])
        else:
            write(answers, {}, found)


def opened(path: str, threads: int) -> tuple[Callable[[Arrays], Arrays], dict[str, object]]:
    """What computes the file, and what it says of itself."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path)
    if KEY not in program.method_names:
        return (lambda arrays: arrays), {"about": None, "shape": []}
    (about,) = program.load_method(KEY).execute([])
    method = program.load_method("forward")

    def compute(arrays: Arrays) -> Arrays:
        found = method.execute([torch.from_numpy(each) for each in arrays])
        return [each.numpy() for each in found]

    return compute, {"about": about, "shape": list(method.metadata.input_tensor_meta(0).sizes())}


def in_words(error: Exception) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read(line: bytes, source: IO[bytes]) -> Arrays:
    """The arrays that a line says will follow."""
    arrays = []
    for entry in json.loads(line)["arrays"]:
        kind = np.dtype(entry["kind"])
        content = source.read(int(np.prod(entry["shape"])) * kind.itemsize)
        arrays.append(np.frombuffer(bytearray(content), kind).reshape(entry["shape"]))
    return arrays


def write(target: IO[bytes], said: Mapping[str, object], arrays: Arrays) -> None:
    """A line, and the arrays that it says follow."""
    entries = [{"kind": each.dtype.str, "shape": each.shape} for each in arrays]
    target.write(json.dumps({**said, "arrays": entries}).encode() + b"\n")
    for each in arrays:
        target.write(np.ascontiguousarray(each).tobytes())
    target.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
