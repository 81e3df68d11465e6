"""Decoded training images kept in memory that all workers share, within a budget."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.shared_memory import SharedMemory
from multiprocessing.synchronize import Lock
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from engine.hardware.machine import available_mib
from engine.reading.images import UInt8Array
from engine.reading.raster_file import Pixels
from engine.reading.reader import PixelReader

_SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps memory that processes share; containers make it small
_BEGINS, _HEIGHT, _WIDTH, _KEPT = range(4)  # columns of the table


class PixelStore:
    """Images as they were decoded, each written once by the process that needs it first and read by all.

    A Python list of arrays would be copied into each worker bit by bit, as reading an object counts its references.
    Here there is one block, and a table of where each image begins. What does not fit the budget is decoded each time.

    Args:
        mib: the budget of this process and its workers.
        paths: the images.
        method: how workers are started; None as Python does by default.

    Raises:
        InputError: there is not so much memory.
    """

    def __init__(self, mib: int, paths: Sequence[Path], method: str | None = None) -> None:
        check_budget(mib)
        self._rows = {str(path): row for row, path in enumerate(dict.fromkeys(paths))}
        self._bytes = mib * 2**20
        self._block = SharedMemory(create=True, size=self._bytes)
        table = (len(self._rows) + 1) * 4 * 8  # the last row counts the bytes that are taken
        self._places = SharedMemory(create=True, size=table)
        self._table()[:] = 0
        self._lock: Lock = multiprocessing.get_context(method).Lock()

    def get(self, path: Path) -> UInt8Array | None:
        """An own copy of a kept image (H, W, 3); None where it is not kept."""
        row = self._rows.get(str(path))
        if row is None:
            return None
        begins, height, width, kept = self._table()[row].tolist()
        if not kept:
            return None
        found: UInt8Array = np.ndarray((height, width, 3), np.uint8, self._block.buf, begins).copy()
        return found

    def keep(self, path: Path, image: UInt8Array) -> None:
        """Keep an image (H, W, 3), if it is one of the set and fits."""
        row = self._rows.get(str(path))
        if row is None:
            return
        table = self._table()
        with self._lock:
            begins = int(table[-1, _BEGINS])
            if table[row, _KEPT] or begins + image.nbytes > self._bytes:
                return
            table[-1, _BEGINS] = begins + image.nbytes
        np.ndarray(image.shape, np.uint8, self._block.buf, begins)[:] = image
        table[row, :_KEPT] = begins, image.shape[0], image.shape[1]
        with self._lock:  # whoever sees that it is kept sees its pixels
            table[row, _KEPT] = 1

    @property
    def kept(self) -> int:
        """How many images are kept."""
        return int(self._table()[:-1, _KEPT].sum())

    def close(self) -> None:
        """Give the memory back."""
        for block in (self._block, self._places):
            block.close()
            block.unlink()

    def _table(self) -> npt.NDArray[np.int64]:
        return np.ndarray((len(self._rows) + 1, 4), np.int64, self._places.buf)


@dataclass(frozen=True)
class KeepingReader(PixelReader):
    """A reader that keeps what it decodes; pixels without data are not kept.

    Attributes:
        shelf: where the store is, once the training images are known.
    """

    shelf: list[PixelStore] = field(default_factory=list)

    def pixels(
        self,
        path: str | Path,
        annotated_hw: tuple[int, int] | None = None,
        needed_hw: tuple[int, int] | None = None,
    ) -> Pixels:
        """See `PixelReader`. Never a smaller copy: which pictures fit differs from run to run, and pixels must not."""
        path = Path(path)
        for store in self.shelf:
            kept = store.get(path)
            if kept is not None and annotated_hw in (None, kept.shape[:2]):
                return Pixels(kept, None)
        found = super().pixels(path, annotated_hw)
        for store in self.shelf:
            if found.valid is None:
                store.keep(path, found.image)
        return found


def check_budget(mib: int) -> None:
    """Do nothing if so much memory can be shared.

    Raises:
        InputError: it cannot.
    """
    free = [available_mib()]
    if _SHARED.is_dir():
        free.append(shutil.disk_usage(_SHARED).free / 2**20)
    least = min((each for each in free if each is not None), default=None)
    if least is not None and mib > least:
        msg = (
            f"data.cache_mib is {mib}, but {least:.0f} MiB can be shared between processes here. Give at most that, or "
            "more to the container: docker run --shm-size."
        )
        raise InputError(msg)
