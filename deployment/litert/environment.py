"""The environment of LiteRT's converter. It needs an older PyTorch, and MediaPipe, and so cannot be this project's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from engine.errors import InputError, OutputError
from engine.outputs import make_folder

VARIABLE = "EFFDENSE_LITERT"
# Tried together; the converter's own requirement excludes the PyTorch of this project.
PACKAGES = ("litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", "mediapipe==1.2.3", "torch==2.14.1")
_SCRIPTS = Path(__file__).parent
_LINES = 3  # of a failed program's output that are shown


def folder() -> Path:
    """Where the environment is, or will be: `$EFFDENSE_LITERT`, or a folder of the user's cache."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "effdense", "litert")


def python() -> Path:
    """The environment's Python; it is there only after `set_up`."""
    return folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_ready() -> bool:
    """Whether the environment was made whole, with these packages."""
    mark = folder() / "effdense.txt"
    return python().exists() and mark.is_file() and mark.read_text().split() == list(PACKAGES)


def set_up() -> Path:
    """Make the environment if it is not there: about 6 GB, and a minute or more for the download.

    Two that start at once make it once; one that is stopped half-way begins anew the next time.

    Returns:
        Its folder.

    Raises:
        InputError: uv is missing, or the packages cannot be installed.
    """
    place = folder()
    if is_ready():
        return place
    make_folder(place.parent)
    with FileLock(place.with_name(f"{place.name}.lock")):
        if is_ready():
            return place
        uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if uv is None:
            msg = "the environment of LiteRT's converter is made with uv, which is not installed. Run: pip install uv"
            raise InputError(msg)
        sys.stderr.write(f"{place}: making the environment of LiteRT's converter, about 6 GB, once\n")
        shutil.rmtree(place, ignore_errors=True)  # half of a former one
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python()), *PACKAGES])
        (place / "effdense.txt").write_text("\n".join(PACKAGES))  # last, as the sign that it is whole
    return place


def run_script(name: str, *arguments: str | Path) -> None:
    """Run one of the scripts beside this file in the environment, which is made if it is not there.

    Raises:
        InputError: the environment cannot be made, or the script fails.
    """
    set_up()
    _run([str(python()), str(_SCRIPTS / f"{name}.py"), *map(str, arguments)])


def _run(words: Sequence[str]) -> None:
    # Without this project's folders, whose packages the environment must not see.
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=variables, check=False)  # noqa: S603
    except OSError as error:
        msg = f"cannot run '{words[0]}': {error.strerror or error}. Check its rights."
        raise OutputError(msg) from error
    if done.returncode:
        said = " | ".join(done.stderr.strip().splitlines()[-_LINES:])
        msg = (
            f"'{Path(words[0]).name} {Path(words[1]).name}' failed: {said}. Delete the folder '{folder()}' to make the "
            "environment anew."
        )
        raise InputError(msg)


def setup(what: str) -> None:
    """Make the environment of a format before it is needed.

    Args:
        what: litert.

    Raises:
        InputError: it is another word, or the environment cannot be made.
    """
    if what != "litert":
        msg = f"setup '{what}' is unknown; allowed: litert."
        raise InputError(msg)
    sys.stdout.write(f"{set_up()}\n")
