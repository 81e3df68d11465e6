"""The ids that Roboflow's `trackers` gives, for the tests: `python -m tests.engine.tracking.reference`.

Run it where trackers 2.6.1 is installed, in an environment of its own: the library needs a build of OpenCV that cannot
lie beside ours. It writes `bytetrack_ids.json.gz` beside this file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IDS = Path(__file__).with_name("bytetrack_ids.json.gz")
RATES = (25.0, 30.0, 12.5, 59.94)
SCENES, FRAMES, START, LOST_SECONDS = 12, 120, 0.5, 1.0

Frame = tuple[np.ndarray, np.ndarray]


def scenes() -> Iterator[tuple[float, list[Frame]]]:
    """The frame rate of each scene, and boxes and scores of its frames: wandering boxes that are missed and hidden."""
    for seed in range(SCENES):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(3, 15))
        places, speeds = rng.uniform(0, 600, (count, 2)), rng.normal(0, 4, (count, 2))
        sizes, hidden = rng.uniform(20, 120, (count, 2)), rng.integers(10, 110, count)
        frames = []
        for number in range(FRAMES):
            places += speeds
            speeds += rng.normal(0, 0.2, speeds.shape)
            sizes *= np.exp(rng.normal(0, 0.005, sizes.shape))
            seen = (rng.random(count) > 0.08) & ~((hidden <= number) & (number <= hidden + rng.integers(5, 45, count)))
            boxes = np.concatenate([places - sizes / 2, places + sizes / 2], axis=1)[seen]
            boxes += rng.normal(0, 1.5, boxes.shape)
            corners = rng.uniform(0, 600, (int(rng.poisson(0.5)), 2))
            false = np.concatenate([corners, corners + rng.uniform(20, 90, corners.shape)], axis=1)
            scores = np.concatenate([rng.uniform(0.12, 0.99, len(boxes)), rng.uniform(0.1, 0.7, len(false))])
            frames.append((np.concatenate([boxes, false]).astype(np.float32), scores.astype(np.float32)))
        yield RATES[seed % len(RATES)], frames


def write() -> None:
    """Ask the library."""
    import supervision
    import trackers

    found = []
    for rate, frames in scenes():
        tracker = trackers.ByteTrackTracker(
            frame_rate=rate, track_activation_threshold=START, high_conf_det_threshold=START,
            lost_track_buffer=round(30 * LOST_SECONDS), minimum_consecutive_frames=2, minimum_iou_threshold=0.1,
        )  # fmt: skip
        ids = []
        for number, (boxes, scores) in enumerate(frames):
            rows = {"row": np.arange(len(scores))}
            given = supervision.Detections(
                xyxy=boxes, confidence=scores, class_id=np.zeros(len(scores), int), data=rows
            )
            answer = tracker.update(given, timestamp=number / rate)
            mine = np.full(len(scores), -1)
            if len(answer):
                mine[answer.data["row"]] = answer.tracker_id
            ids.append(mine.tolist())
        found.append(ids)
    IDS.write_bytes(gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    write()
