"""The environment of LiteRT's converter, which needs an older PyTorch than this project: made by uv, once for a user.

It is a folder of the user's cache, or that of the environment variable EFFDENSE_LITERT. It is made beside its place and
then renamed, under a lock, so that neither an interruption nor a second start leaves half of one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import InputError, OutputError
from engine.outputs import make_folder

VARIABLE = "EFFDENSE_LITERT"
PINS = Path(__file__).with_name("requirements.txt")
_NEWEST_PYTHON = (3, 13)  # that all of the packages have wheels for
_MADE_OF = "made_of.txt"  # in a whole environment: what is installed


def folder() -> Path:
    """Where the environment is, or would be."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "effdense" / "litert"


def is_ready(place: Path) -> bool:
    """Whether an environment is whole, and of this version's packages."""
    made_of = place / _MADE_OF
    return made_of.is_file() and made_of.read_text() == PINS.read_text() and python_of(place).exists()


def python_of(place: Path) -> Path:
    """The Python of an environment."""
    return place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def tell_user(line: str) -> None:
    """Show a line about what takes a while."""
    sys.stderr.write(f"{line}\n")


def make(tell: Callable[[str], None], install: Callable[[Path], None] | None = None) -> Path:
    """Make the environment if it is missing or of another version, and return its Python.

    Args:
        tell: takes a line about what happens, where it takes a while.
        install: makes an environment in a folder that does not exist; None lets uv do so.

    Raises:
        InputError: uv is missing or fails, or the folder cannot be written.
    """
    place = folder()
    if is_ready(place):
        return python_of(place)
    _check_own(place)
    make_folder(place.parent)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for another process that makes the environment of the converter in {place}")
        lock.acquire()
    try:
        if not is_ready(place):  # by the process that was waited for
            tell(f"making the environment of LiteRT's converter in {place}: about 6 GB, some minutes")
            _make(place, install or _by_uv)
    finally:
        lock.release()
    return python_of(place)


def _check_own(place: Path) -> None:
    """Replace nothing that is not an environment of ours."""
    if place.exists() and not (place / _MADE_OF).is_file() and not (place.is_dir() and not any(place.iterdir())):
        msg = f"'{place}' is no environment of this program. Set {VARIABLE} to a folder that does not exist."
        raise InputError(msg)


def _make(place: Path, install: Callable[[Path], None]) -> None:
    beside = f".{place.name}."
    for left in place.parent.glob(f"{beside}*.part"):  # of a process that was killed; the lock says that none works
        shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=beside, suffix=".part", dir=place.parent))
    try:
        made = part / "made"
        install(made)
        (made / _MADE_OF).write_text(PINS.read_text())
        if place.exists():
            os.replace(place, part / "former")
        os.replace(made, place)
    except OSError as error:
        msg = f"cannot write into '{place.parent}': {error.strerror or error}. Set {VARIABLE} to another folder."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _by_uv(place: Path) -> None:
    uv = _uv()
    version = min(sys.version_info[:2], _NEWEST_PYTHON)
    python = sys.executable if version == sys.version_info[:2] else ".".join(map(str, version))
    _run([uv, "venv", "--quiet", "--relocatable", "--python", python, str(place)])
    _run([uv, "pip", "install", "--quiet", "--python", str(python_of(place)), "--requirement", str(PINS)])


def _uv() -> str:
    if importlib.util.find_spec("uv") is not None:
        import uv

        return str(uv.find_uv_bin())
    if found := shutil.which("uv"):
        return found
    msg = "the environment of LiteRT's converter is made by uv, which is not installed. Run: pip install uv"
    raise InputError(msg)


def _run(command: list[str]) -> None:
    # An environment that is active, or this project's own source, is not that of the converter.
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, env=inherited, check=False)  # noqa: S603
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"code {done.returncode}"]
        msg = (
            f"uv could not make the environment of LiteRT's converter: {'; '.join(lines[-3:]).rstrip('.')}. Check the "
            "network and the free space (6 GB), and run `python -m deployment setup litert` again."
        )
        raise InputError(msg)
