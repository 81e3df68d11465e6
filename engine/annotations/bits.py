"""Painted masks in the packing of Label Studio's brush, read bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import InputError

_CHANNELS = 4  # red, green, blue and, where the brush was, opacity


def brush_alpha(packed: Sequence[int], pixels: int, where: str) -> npt.NDArray[np.uint8]:
    """The opacity of each pixel of a painted mask, row by row.

    The bits are: 32 of the number of values, 5 of the bits of a value less one, four times 4 of the bits of a length
    less one, and then runs: one bit that says whether one value is repeated, two that choose the bits of the length,
    the length less one, and the value or the values. Source: `rle-pack` of thi.ng/umbrella, which
    `label_studio_sdk/converter/brush.py` repeats.

    Args:
        packed: the bytes.
        pixels: how many the image has.
        where: what messages call the mask.

    Raises:
        InputError: they are no such packing, or not of that many pixels.
    """
    if any(not 0 <= value < 256 for value in packed):
        msg = f"{where}: a painted mask has a number that is no byte. Export it again."
        raise InputError(msg)
    bits = np.unpackbits(np.array(packed, np.uint8))
    place = 0

    def take(count: int, values: int = 1) -> npt.NDArray[np.int64]:
        nonlocal place
        end = place + count * values
        if end > len(bits):
            msg = f"{where}: a painted mask ends before its last pixel. Export it again."
            raise InputError(msg)
        rows = bits[place:end].reshape(values, count)
        place = end
        return rows.astype(np.int64) @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64))

    count = int(take(32)[0])
    if count != pixels * _CHANNELS:
        msg = f"{where}: a painted mask has {count // _CHANNELS} pixels and its image {pixels}. Give its own image."
        raise InputError(msg)
    size = int(take(5)[0]) + 1
    lengths = [int(value) + 1 for value in take(4, 4)]
    values = np.zeros(count, np.uint8)
    filled = 0
    while filled < count:
        repeated = bool(take(1)[0])
        run = int(take(lengths[int(take(2)[0])])[0]) + 1
        values[filled : filled + run] = take(size, 1 if repeated else min(run, count - filled))
        filled += run
    return values[_CHANNELS - 1 :: _CHANNELS]
