"""How a detector is applied to a picture: whole or in tiles, at several scales, mirrored."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InputError
from engine.large.options import InTiles
from engine.numbers import PositiveInt, TenthToTen


@dataclass(frozen=True)
class Inference(InTiles):
    """How a picture is computed.

    Args:
        window: see `InTiles`, as `overlap` and `margin`.
        scales: Sizes, relative to the canvas, at which a picture or tile is computed; boxes are fused.
        flip: Fuse with the boxes of the mirrored picture.
        batch: Number of tiles that are computed together.

    Raises:
        InputError: a value is out of range.
    """

    scales: tuple[TenthToTen, ...] = (1.0,)
    flip: bool = False
    batch: PositiveInt = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            msg = "scales is []; give at least one, each from 0.1 to 10."
            raise InputError(msg)

    @property
    def is_plain(self) -> bool:
        """Whether a picture is computed once, at the size of the canvas."""
        return self.scales == (1.0,) and not self.flip
