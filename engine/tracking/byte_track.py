"""ByteTrack: ids for the boxes of a detector, frame after frame, from motion and overlap alone.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022, arXiv
2110.06864). In the choices that the paper leaves open it does as `trackers` 2.6.1 (Roboflow, Apache-2.0), whose ids it
gives for the same boxes; that library needs another build of OpenCV than ours, and one of FFmpeg with GPL code, so that
it is no dependency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import ClosedUnitInterval, NonNegativeFloat, PositiveInt
from engine.tracking.motion import Motion

Boxes = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
NO_ID = -1
_ROUNDING = 1e-6  # seconds, which sums of times are off by
_SOME = 1e-9  # boxes that do not touch are no pair, even if no overlap is asked for


@dataclass(frozen=True)
class Tracking(Checked):
    """How objects are followed.

    Attributes:
        low_score: boxes with a score from here on continue a track; those that are asked for also begin one.
        min_iou: the least overlap of a box with the place where a track is expected.
        confirm_frames: frames in a row in which an object is seen before it gets an id; earlier ones have none.
        lost_seconds: how long an object may be out of sight, as behind another, and keep its id.
    """

    low_score: ClosedUnitInterval = 0.1
    min_iou: ClosedUnitInterval = 0.1
    confirm_frames: PositiveInt = 2
    lost_seconds: NonNegativeFloat = 1.0
    group: ClassVar[str] = "tracking"


class ByteTrack:
    """Follows the objects of one video. It holds what it has seen; each video needs one of its own.

    tracker = ByteTrack(frame_rate=25)
    for number, found in enumerate(answers):
        ids = tracker.update(found.boxes_xyxy, found.scores, found.class_ids, number / 25)

    Args:
        frame_rate: the usual number of frames per second, in which motion is counted.
        start_score: boxes with this score or more begin a track.
        tracking: the other settings.

    Raises:
        InputError: the rate is no positive number, or a box that begins a track could not continue it.
    """

    def __init__(self, frame_rate: float, start_score: float = 0.3, tracking: Tracking = Tracking()) -> None:
        if not (math.isfinite(frame_rate) and frame_rate > 0):
            msg = f"frame_rate is {frame_rate}; it must be above 0."
            raise InputError(msg)
        if tracking.low_score > start_score:
            msg = (
                f"tracking.low_score is {tracking.low_score:g} and above the score that begins a track, "
                f"{start_score:g}. Give a lower one."
            )
            raise InputError(msg)
        self.frame_rate = frame_rate
        self.start_score = start_score
        self.tracking = tracking
        self._motion = Motion.of(np.empty((0, 4)))
        self._ids = np.empty(0, dtype=np.int64)
        self._class_ids = np.empty(0, dtype=np.int64)
        self._in_a_row = np.empty(0, dtype=np.int64)  # frames in which it was seen, since it was last missed
        self._unseen = np.empty(0)  # seconds since it was last seen
        self._seconds: float | None = None
        self._next = 1

    def update(self, boxes_xyxy: Boxes, scores: Boxes, class_ids: Ids, seconds: float) -> Ids:
        """The ids of the boxes of the next frame.

        Args:
            boxes_xyxy: (N, 4) pixels.
            scores: (N,).
            class_ids: (N,); a track keeps to one class.
            seconds: the time of the frame, later than that of the one before.

        Returns:
            (N,) ids from 1; -1 for a box that is no object's that was seen often enough.

        Raises:
            InputError: the time does not rise.
        """
        self._advance(seconds)
        boxes, known = boxes_xyxy.astype(np.float64), np.full(len(scores), NO_ID, dtype=np.int64)
        free, open_tracks = np.ones(len(scores), dtype=bool), np.ones(len(self._ids), dtype=bool)
        high = scores >= self.start_score
        for wanted in (high, ~high & (scores >= self.tracking.low_score)):
            rows, tracks = np.flatnonzero(wanted), np.flatnonzero(open_tracks)
            overlaps = _overlaps(self._motion.boxes_xyxy[tracks], boxes[rows])
            overlaps[self._class_ids[tracks][:, None] != class_ids[rows][None]] = 0
            of_tracks, of_rows = _matched(overlaps, self.tracking.min_iou)
            tracks, rows = tracks[of_tracks], rows[of_rows]
            self._see(tracks, boxes[rows])
            known[rows] = self._ids[tracks]
            free[rows] = open_tracks[tracks] = False
        self._keep((self._ids != NO_ID) | (self._unseen == 0))  # what was missed before it had an id is forgotten
        self._begin(boxes, class_ids, np.flatnonzero(high & free))
        return known

    def _advance(self, seconds: float) -> None:
        past = 1 / self.frame_rate if self._seconds is None else seconds - self._seconds
        if not past > 0:
            msg = f"frame at {seconds:g} s follows one at {self._seconds:g} s. Give frames in the order of their times."
            raise InputError(msg)
        self._seconds = seconds
        self._motion.advance(past * self.frame_rate)
        self._in_a_row[self._unseen > 0] = 0
        self._unseen += past
        self._keep(self._unseen <= self.tracking.lost_seconds + _ROUNDING)

    def _see(self, tracks: Ids, boxes: npt.NDArray[np.float64]) -> None:
        self._motion.see(tracks, boxes)
        self._unseen[tracks] = 0
        self._in_a_row[tracks] += 1
        new = tracks[(self._ids[tracks] == NO_ID) & (self._in_a_row[tracks] >= self.tracking.confirm_frames)]
        self._ids[new] = self._next + np.arange(len(new))
        self._next += len(new)

    def _keep(self, rows: npt.NDArray[np.bool_]) -> None:
        self._motion.keep(rows)
        self._ids, self._class_ids = self._ids[rows], self._class_ids[rows]
        self._in_a_row, self._unseen = self._in_a_row[rows], self._unseen[rows]

    def _begin(self, boxes: npt.NDArray[np.float64], class_ids: Ids, rows: Ids) -> None:
        count = len(rows)
        self._motion.add(boxes[rows])
        self._class_ids = np.concatenate([self._class_ids, class_ids[rows]])
        self._ids = np.concatenate([self._ids, np.full(count, NO_ID, dtype=np.int64)])
        self._in_a_row = np.concatenate([self._in_a_row, np.ones(count, dtype=np.int64)])
        self._unseen = np.concatenate([self._unseen, np.zeros(count)])


def _matched(overlaps: npt.NDArray[np.float64], least: float) -> tuple[Ids, Ids]:
    """Pairs of rows and columns with the largest sum of overlaps, without those below the least."""
    if not overlaps.size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    good = overlaps[rows, columns] >= max(least, _SOME)
    return rows[good], columns[good]


def _overlaps(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T, N) intersection over union of (T, 4) and (N, 4) boxes."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    end = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.clip(end - corner, 0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (first, second)]
    shares: npt.NDArray[np.float64] = inside / np.maximum(areas[0][:, None] + areas[1][None] - inside, _SOME)
    return shares
