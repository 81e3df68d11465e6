"""Where boxes go: a Kalman filter of constant velocity for many boxes at once.

Each side of a box is a number of its own with a velocity, and all sides of all boxes have the same noise. So a box
needs one covariance of position and velocity for its four sides, and only the ratios of the three noises shape an
answer, not the size of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Variances of a first position and velocity, of what a frame adds to both, and of a measured position, in the ratios of
# `trackers` 2.6.1 (Roboflow, Apache-2.0; ByteTrack's tracklet), with which the answers are compared.
_FIRST, _ADDED, _MEASURED = 1.0, 0.01, 0.1


@dataclass
class Motion:
    """Boxes that move.

    Attributes:
        boxes_xyxy: (T, 4) where they are.
        velocities: (T, 4) of their sides, per frame of the usual length.
        covariances: (T, 3) of a side: the variance of its position, the covariance of position and velocity, and the
            variance of its velocity.
    """

    boxes_xyxy: Floats
    velocities: Floats
    covariances: Floats

    @classmethod
    def of(cls, boxes_xyxy: Floats) -> Motion:
        """Boxes that have been seen once."""
        count = len(boxes_xyxy)
        return cls(boxes_xyxy.copy(), np.zeros((count, 4)), np.tile([_FIRST, 0.0, _FIRST], (count, 1)))

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def advance(self, frames: float) -> None:
        """Let time go by.

        Args:
            frames: how much, in frames of the usual length. A gap of several frames is as so many single frames: their
                noises add up as sums of 1, i and i².
        """
        position, both, velocity = self.covariances.T
        sum_i = frames * (frames - 1) / 2
        sum_i2 = sum_i * (2 * frames - 1) / 3
        self.boxes_xyxy += frames * self.velocities
        self.covariances = np.stack(
            [
                position + frames * (2 * both + frames * velocity) + _ADDED * (frames + sum_i2),
                both + frames * velocity + _ADDED * sum_i,
                velocity + _ADDED * frames,
            ],
            axis=1,
        )

    def see(self, rows: npt.NDArray[np.int64], boxes_xyxy: Floats) -> None:
        """Correct some boxes by where they are seen.

        Args:
            rows: (S,) which.
            boxes_xyxy: (S, 4) where they are seen.
        """
        position, both, velocity = self.covariances[rows].T
        total = position + _MEASURED
        surprise = boxes_xyxy - self.boxes_xyxy[rows]
        self.boxes_xyxy[rows] += (position / total)[:, None] * surprise
        self.velocities[rows] += (both / total)[:, None] * surprise
        self.covariances[rows] = np.stack(
            [position * _MEASURED / total, both * _MEASURED / total, velocity - both * both / total], axis=1
        )

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Forget all boxes but some: (T,) which are kept."""
        self.boxes_xyxy, self.velocities = self.boxes_xyxy[rows], self.velocities[rows]
        self.covariances = self.covariances[rows]

    def add(self, boxes_xyxy: Floats) -> None:
        """Begin with (N, 4) more boxes, behind the others."""
        new = Motion.of(boxes_xyxy)
        self.boxes_xyxy = np.concatenate([self.boxes_xyxy, new.boxes_xyxy])
        self.velocities = np.concatenate([self.velocities, new.velocities])
        self.covariances = np.concatenate([self.covariances, new.covariances])
