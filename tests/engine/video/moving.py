"""Scenes with known motion, as pictures and as a video: coloured boxes that pass behind a pillar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.engine.video.variable import rewritten, turned

COLORS = [(230, 40, 40), (40, 200, 60), (60, 80, 240), (230, 210, 40), (200, 60, 220), (40, 210, 220)]
BACKGROUND, PILLAR = 96, 60


@dataclass(frozen=True)
class Scene:
    """Boxes of constant height that drive from side to side, each in a lane of its own, and turn at the edges.

    Attributes:
        size_hw: height and width of the pictures.
        rate: frames per second.
        count: how many boxes there are.
        pillar: left and right of what hides them.
    """

    size_hw: tuple[int, int] = (240, 320)
    rate: float = 25.0
    count: int = 5
    pillar: tuple[int, int] | None = (140, 186)

    def boxes(self, number: int) -> np.ndarray:
        """(N, 4) left, top, right, bottom of all boxes in a frame, hidden or not."""
        height, width = self.size_hw
        lane = height / self.count
        found = []
        for one in range(self.count):
            long, speed = 36 + 4 * one, (30 + 9 * one) / self.rate  # pixels per frame
            way = width - long
            place = (37 * one + speed * number) % (2 * way)
            left = round(place if place < way else 2 * way - place)
            top = round(one * lane + lane / 4)
            found.append([left, top, left + long, top + round(lane / 2)])
        return np.array(found, np.float64)

    def shown(self, number: int) -> np.ndarray:
        """(N,) the share of each box that is not hidden."""
        boxes = self.boxes(number)
        if self.pillar is None:
            return np.ones(len(boxes))
        hidden = np.clip(np.minimum(boxes[:, 2], self.pillar[1]) - np.maximum(boxes[:, 0], self.pillar[0]), 0, None)
        return 1 - hidden / (boxes[:, 2] - boxes[:, 0])

    def picture(self, number: int) -> np.ndarray:
        """(H, W, 3) RGB."""
        image = np.full((*self.size_hw, 3), BACKGROUND, np.uint8)
        for one, (left, top, right, bottom) in enumerate(self.boxes(number).astype(int)):
            image[top:bottom, left:right] = COLORS[one % len(COLORS)]
        if self.pillar is not None:
            image[:, self.pillar[0] : self.pillar[1]] = PILLAR
        return image

    def write(self, path: Path, frames: int, codec: str = "mp4v", turn: int = 0) -> Path:
        """A video of the first frames; an MP4 may be stored turned, as a phone does, so that a player turns it back."""
        size = self.size_hw if turn in (90, 270) else self.size_hw[::-1]
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), self.rate, size)
        assert writer.isOpened()
        for number in range(frames):
            stored = np.rot90(self.picture(number), turn // 90)
            writer.write(np.ascontiguousarray(stored[..., ::-1]))
        writer.release()
        if turn:
            data = path.read_bytes()
            path.write_bytes(rewritten(data, lambda kind, body: turned(body, turn) if kind == b"tkhd" else body))
        return path


def spoil(path: Path, at: float = 0.5, length: int = 300, value: int | None = None) -> Path:
    """Overwrite bytes of a file from a share of its length on: with one value, or with noise."""
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    noise = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    data[start : start + length] = noise if value is None else bytes([value]) * length
    path.write_bytes(data)
    return path
