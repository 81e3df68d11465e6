"""ExecuTorch's files (.pte), computed on the CPU by a process of the environment that holds ExecuTorch."""

from __future__ import annotations

import json
import os
import subprocess
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from deployment.executorch.computing_script import Arrays, read, write
from deployment.running.opening import output_names, unreadable
from deployment.setup.environment import EXECUTORCH
from engine.errors import InputError
from engine.exports.files import About

SCRIPT = Path(__file__).parents[1] / "executorch" / "computing_script.py"


class ExecutorchFile:
    """An opened .pte file. It computes as many images of one size as it was written for.

    Args:
        path: the file.

    Raises:
        InputError: the environment of ExecuTorch is missing, or the file is damaged, refused by it, or of another
            program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()  # the process answers one question at a time
        try:
            with path.open("rb") as file:
                identifier = file.read(8)[4:]
        except OSError as error:
            raise unreadable(path, error) from error
        if identifier[:2] != b"ET":
            msg = f"'{path}' is no .pte file, or is damaged. Give one that `python -m deployment export` wrote."
            raise InputError(msg)
        if not EXECUTORCH.is_ready:
            msg = (
                f"'{path}' is computed by ExecuTorch, whose environment is missing. Make it by `python -m deployment "
                "setup executorch`."
            )
            raise InputError(msg)
        # Isolated: the source of this project, which may be on the path, has no place there.
        command = [str(EXECUTORCH.python), "-I", str(SCRIPT), str(path.absolute()), str(torch.get_num_threads())]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        self._end = weakref.finalize(self, _ended, self._process)
        said, _ = self._answer("refuses")
        about = said["about"]
        self.about = About.from_json(about if isinstance(about, str) else None, path)
        self._outputs = output_names(self.about)

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        with self._lock:
            assert self._process.stdin is not None
            with suppress(OSError):  # it has ended, as the answer says
                write(self._process.stdin, {}, [images.numpy()])
            _, found = self._answer("could not compute")
        return dict(zip(self._outputs, map(torch.from_numpy, found), strict=True))

    def _answer(self, what: str) -> tuple[dict[str, object], Arrays]:
        """What the process says next.

        Raises:
            InputError: it says that it cannot, or ends.
        """
        source = self._process.stdout
        assert source is not None
        line = source.readline()
        said: dict[str, object] = json.loads(line) if line else {"error": "its process has ended"}
        if "error" in said:
            msg = f"ExecuTorch {what} '{self.path}': {str(said['error']).rstrip('.')}. Export it again."
            raise InputError(msg)
        return said, read(line, source)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End a process, which is then waited for: it would stay in the system's table."""
    process.kill()
    process.communicate()
