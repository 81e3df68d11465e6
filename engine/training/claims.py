"""The claim on a run's folder: only one training at a time writes there, whoever starts it.

The claim is a lock that the system gives back when the process ends, however it ends, so that a killed training leaves
nothing to clean up.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import InputError
from engine.training.checkpoint_files import CHECKPOINTS

CLAIMS = ".claims"


class Claim:
    """A folder that this process alone writes to until `release`, or until it ends.

    Args:
        folder: the run's folder, which is made if it is missing.

    Raises:
        InputError: another process has claimed it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Beside the runs, as a folder that is given back is removed if nothing was written to it.
        locks = folder.absolute().parents[1] / CLAIMS
        locks.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        self._lock = FileLock(locks / f"{folder.absolute().parent.name}-{folder.name}.lock", blocking=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            msg = (
                f"another training writes to the run '{folder}' at this moment. Wait until it ends, or give another "
                "--run.name."
            )
            raise InputError(msg) from error
        for left in (folder / CHECKPOINTS).glob(".*.part*"):
            left.unlink(missing_ok=True)  # of a training that was killed while it wrote

    def release(self) -> None:
        """Give the folder back, and remove it if nothing was written to it."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
            locked = Path(self._lock.lock_file)
            locked.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other runs are claimed
                locked.parent.rmdir()
        self._lock.release()


def next_version(place: Path) -> Path:
    """The first `version_N` behind all that are there; it is not made."""
    taken = [re.fullmatch(r"version_(\d+)", path.name) for path in place.iterdir()]
    return place / f"version_{max((int(match[1]) for match in taken if match), default=-1) + 1}"


def claim_next(place: Path) -> Claim:
    """Claim the next `version_N` that nobody has, however many begin at once.

    Args:
        place: the folder of a task's runs.
    """
    while True:
        folder = next_version(place)
        try:
            folder.mkdir()
        except FileExistsError:  # another training was faster
            continue
        return Claim(folder)
