"""Environments of converters that need packages which this project's own does not have: made by uv, once for a user.

Each is a folder of the user's cache, or that of an environment variable. It is made beside its place and then renamed,
under a lock, so that neither an interruption nor a second start leaves half of one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from engine.errors import InputError, OutputError
from engine.outputs import make_folder

_NEWEST_PYTHON = (3, 13)  # that all of the packages have wheels for
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")
_MADE_OF = "made_of.txt"  # in a whole environment: what is installed
Converter = Literal["executorch", "litert"]


@dataclass(frozen=True)
class Environment:
    """The environment of a converter.

    Attributes:
        name: of the format, and of its folder in the user's cache.
        title: whose environment it is, for messages.
        gigabytes: about the space that it takes.
    """

    name: Converter
    title: str
    gigabytes: int

    @property
    def variable(self) -> str:
        """The environment variable that names another folder."""
        return f"EFFDENSE_{self.name.upper()}"

    @property
    def pins(self) -> Path:
        """The list of its packages."""
        return Path(__file__).parents[1] / self.name / "requirements.txt"

    @property
    def folder(self) -> Path:
        """Where it is, or would be."""
        if given := os.environ.get(self.variable):
            return Path(given).absolute()
        if sys.platform == "win32":
            cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            cache = Path.home() / "Library" / "Caches"
        else:
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "effdense" / self.name

    @property
    def python(self) -> Path:
        """Its Python."""
        return python_of(self.folder)

    @property
    def is_ready(self) -> bool:
        """Whether it is whole, and of this version's packages."""
        made_of = self.folder / _MADE_OF
        return made_of.is_file() and made_of.read_text() == self.pins.read_text() and self.python.exists()

    def make(self, tell: Callable[[str], None], install: Callable[[Path], None] | None = None) -> Path:
        """Make it if it is missing or of another version, and return its Python.

        Args:
            tell: takes a line about what happens, where it takes a while.
            install: makes an environment in a folder that does not exist; None lets uv do so.

        Raises:
            InputError: uv is missing or fails, or the folder cannot be written.
        """
        place = self.folder
        if self.is_ready:
            return self.python
        self._check_own()
        make_folder(place.parent)
        lock = FileLock(place.with_name(f".{place.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(f"waiting for another process that makes the environment of {self.title} in {place}")
            lock.acquire()
        try:
            if not self.is_ready:  # by the process that was waited for
                tell(f"making the environment of {self.title} in {place}: about {self.gigabytes} GB, some minutes")
                self._make(install or self._by_uv)
        finally:
            lock.release()
        return self.python

    def run(self, script: Path, arguments: Sequence[object], variables: Mapping[str, str] = {}) -> str:
        """Let its Python run a script, and return what that prints.

        Args:
            script: a file that imports nothing of this project.
            arguments: of the script.
            variables: of the process's environment, besides those of this one.

        Raises:
            InputError: it fails.
        """
        # Isolated: the source of this project, which may be on the path, has no place there.
        command = [str(self.python), "-I", str(script), *map(str, arguments)]
        inherited = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables}
        done = subprocess.run(command, capture_output=True, text=True, env=inherited, check=False)  # noqa: S603
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"code {done.returncode}"]
            # The exception itself, whose text may go on over further lines.
            last = next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1])
            msg = f"{self.title} fails: {last.rstrip('.')}. Use another format, and report this with the command."
            raise InputError(msg)
        return done.stdout

    def _check_own(self) -> None:
        """Replace nothing that is not an environment of ours."""
        place = self.folder
        if place.exists() and not (place / _MADE_OF).is_file() and not (place.is_dir() and not any(place.iterdir())):
            msg = f"'{place}' is no environment of this program. Set {self.variable} to a folder that does not exist."
            raise InputError(msg)

    def _make(self, install: Callable[[Path], None]) -> None:
        place = self.folder
        beside = f".{place.name}."
        for left in place.parent.glob(f"{beside}*.part"):  # of a process that was killed; the lock says that none works
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=beside, suffix=".part", dir=place.parent))
        try:
            made = part / "made"
            install(made)
            (made / _MADE_OF).write_text(self.pins.read_text())
            if place.exists():
                os.replace(place, part / "former")
            os.replace(made, place)
        except OSError as error:
            reason = error.strerror or error
            msg = f"cannot write into '{place.parent}': {reason}. Set {self.variable} to another folder."
            raise OutputError(msg) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _by_uv(self, place: Path) -> None:
        uv = self._uv()
        version = min(sys.version_info[:2], _NEWEST_PYTHON)
        python = sys.executable if version == sys.version_info[:2] else ".".join(map(str, version))
        self._run([uv, "venv", "--quiet", "--relocatable", "--python", python, str(place)])
        self._run([uv, "pip", "install", "--quiet", "--python", str(python_of(place)), "--requirement", str(self.pins)])

    def _uv(self) -> str:
        if importlib.util.find_spec("uv") is not None:
            import uv

            return str(uv.find_uv_bin())
        if found := shutil.which("uv"):
            return found
        msg = f"the environment of {self.title} is made by uv, which is not installed. Run: pip install uv"
        raise InputError(msg)

    def _run(self, command: list[str]) -> None:
        # An environment that is active, or this project's own source, is not that of the converter.
        inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(command, capture_output=True, text=True, env=inherited, check=False)  # noqa: S603
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"code {done.returncode}"]
            msg = (
                f"uv could not make the environment of {self.title}: {'; '.join(lines[-3:]).rstrip('.')}. Check the "
                f"network and the free space ({self.gigabytes} GB), and run `python -m deployment setup {self.name}` "
                "again."
            )
            raise InputError(msg)


EXECUTORCH = Environment("executorch", "ExecuTorch", 6)
LITERT = Environment("litert", "LiteRT's converter", 6)
ENVIRONMENTS: Mapping[Converter, Environment] = {"executorch": EXECUTORCH, "litert": LITERT}


def python_of(place: Path) -> Path:
    """The Python of an environment in a folder."""
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def tell_user(line: str) -> None:
    """Show a line about what takes a while."""
    sys.stderr.write(f"{line}\n")
