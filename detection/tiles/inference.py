"""How a detector is applied to a picture: whole or in tiles, at several scales, mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InputError
from engine.large.options import InTiles
from engine.numbers import TenthToTen


@dataclass(frozen=True)
class Inference(InTiles):
    """How a picture is computed, in validation and test as in prediction.

    Args:
        window: see `InTiles`, as `overlap` and `margin`.
        scales: Sizes, relative to the canvas, at which a picture or tile is computed; boxes are fused.
        flip: Fuse with the boxes of the mirrored picture.

    Raises:
        InputError: a value is out of range.
    """

    scales: tuple[TenthToTen, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            msg = "scales is []; give at least one, each from 0.1 to 10."
            raise InputError(msg)

    @property
    def is_plain(self) -> bool:
        """Whether a picture or tile is computed once, at the size of the canvas."""
        return self.scales == (1.0,) and not self.flip

    def changed(
        self,
        window: int | None = None,
        overlap: int | None = None,
        margin: int | None = None,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
    ) -> Inference:
        """The same with other values where some are given; another window has an overlap and a margin of its own.

        Raises:
            InputError: they do not fit one another, or a value is out of range.
        """
        tiles = self.asked(window, overlap, margin)
        own = (self.scales if scales is None else tuple(scales), self.flip if flip is None else flip)
        return Inference(tiles.window, tiles.overlap, tiles.margin, *own)

    def in_tiles_of(self, training: InTiles) -> Inference:
        """The same, in the tiles of the training where none are given."""
        if self.window is not None or training.window is None:
            return self
        return self.changed(training.window, training.overlap, training.margin)

    def check_fits(self, head: str, *, lays_out: bool) -> None:
        """Refuse what a network cannot be asked for.

        Args:
            head: what stands on its pyramid.
            lays_out: whether it lays pictures on its canvas itself, as some exported files do.

        Raises:
            InputError: it is computed neither in tiles nor several times, but that is asked for.
        """
        if self.window is None and self.is_plain:
            return
        if lays_out:
            msg = (
                "this file lays images on its canvas itself, so that window and scales are not for it. Leave them out."
            )
            raise InputError(msg)
        if head == "mask_rcnn":
            msg = "window, scales and flip fuse boxes only, and head mask_rcnn finds masks too. Leave them out."
            raise InputError(msg)
