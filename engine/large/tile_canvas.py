"""Tiles on the canvas: all at one scale, also those that the end of a picture cuts short."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.prediction.canvas import OnCanvas
from engine.reading.images import Letterbox, UInt8Array


@dataclass(frozen=True)
class TileCanvas:
    """Lays tiles on a square canvas. It holds plain values, which can be sent to other processes.

    Attributes:
        side: of the canvas in pixels.
        window: side of a whole tile in pixels, which fills the canvas.
        fill_color: RGB in 0..255 beside a shorter tile.
    """

    side: int
    window: int
    fill_color: tuple[int, int, int]

    def __call__(self, image: UInt8Array) -> OnCanvas:
        """Scale an (h, w, 3) uint8 RGB tile as a whole one would be, and lay it at the top left of the canvas."""
        letterbox = self.letterbox((image.shape[0], image.shape[1]))
        return OnCanvas(torch.from_numpy(letterbox.apply(image, self.fill_color)), letterbox)

    def letterbox(self, tile_hw: tuple[int, int]) -> Letterbox:
        """The place of a tile of this height and width, at most the window."""
        scale = self.side / self.window
        height, width = (max(1, round(side * scale)) for side in tile_hw)
        return Letterbox(tile_hw, (self.side, self.side), scale, (height, width))
