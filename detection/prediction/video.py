"""Objects in a video or stream: found and followed, drawn, and listed as they come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from detection.data.classes import BoxClasses
from detection.prediction.found import Found
from detection.prediction.frame_table import ENDING, ObjectTable
from detection.prediction.predictor import DetectionPredictor
from detection.prediction.yolo import LABELS_SUFFIX, write_labels
from engine.prediction.predictor import answered
from engine.tracking.byte_track import NO_ID, ByteTrack, Tracking
from engine.video.frames import Frames, VideoFrames
from engine.video.written import SUFFIX, drawn_video

_OVERLAY, _LABELS = f"_overlay{SUFFIX}", "_labels"


class Following:
    """Gives the objects of one video their ids.

    Args:
        tracking: how they are followed.
        score: objects with this score or more are wanted and begin a track; those from `tracking.low_score` on are
            kept only where they continue one.
        frame_rate: the video's usual number of frames per second.
    """

    def __init__(self, tracking: Tracking, score: float, frame_rate: float) -> None:
        self.score = score
        self.tracker = ByteTrack(frame_rate, score, tracking)
        self._least = 0.1 / frame_rate  # files give some frames the same time
        self._seconds = -1.0

    def follow(self, found: Found, seconds: float) -> Found:
        """The wanted objects of the next frame, with their ids.

        Args:
            found: all objects of the frame, from `tracking.low_score` on.
            seconds: when it is shown.
        """
        self._seconds = max(seconds, self._seconds + self._least)
        ids = self.tracker.update(found.boxes_xyxy, found.scores, found.class_ids, self._seconds)
        rows = np.flatnonzero((ids != NO_ID) | (found.scores >= self.score))
        return replace(
            found,
            boxes_xyxy=found.boxes_xyxy[rows],
            scores=found.scores[rows],
            labels=[found.labels[row] for row in rows.tolist()],
            class_ids=found.class_ids[rows],
            category_ids=found.category_ids[rows],
            track_ids=ids[rows],
        )


@dataclass(frozen=True)
class VideoFiles:
    """Where the objects of a video are written.

    Attributes:
        objects: the table, CSV; None for none.
        overlay: the video with boxes, WebM; None for none.
        labels: the folder of YOLO labels, a text for each frame; None for none.
    """

    objects: Path | None = None
    overlay: Path | None = None
    labels: Path | None = None

    @classmethod
    def of(cls, paths: Sequence[Path]) -> VideoFiles:
        """The files among those that `video_outputs` lists."""

        def ending(end: str) -> Path | None:
            return next((path for path in paths if path.name.endswith(end)), None)

        return cls(ending(ENDING), ending(_OVERLAY), ending(_LABELS))


@dataclass(frozen=True)
class VideoObjects:
    """What was found in a video.

    Attributes:
        frames: how many were read.
        objects: how many objects were found in all of them.
        tracks: how many ids were given; 0 where objects are not followed.
        size_hw: height and width of a frame in pixels.
        rate: frames per second, as the video states it.
        damage: what of it could not be read, in words; empty if all could.
    """

    frames: int
    objects: int
    tracks: int
    size_hw: tuple[int, int]
    rate: float
    damage: str = ""

    def values(self) -> dict[str, object]:
        """What a journal records: see `detection.prediction.document.BoxEntry`."""
        video = {"rate": self.rate, "frames": self.frames}
        return {"size_hw": list(self.size_hw), "boxes_xyxy": [], "scores": [], "category_ids": [], "video": video}


class ObjectSink:
    """Takes the objects of one frame after the other: follows them and writes them.

    Args:
        files: where they are written.
        classes: the detector's class list.
        following: gives ids; None for none.
    """

    def __init__(self, files: VideoFiles, classes: BoxClasses, following: Following | None) -> None:
        self.files = files
        self.classes = classes
        self.following = following
        self._table = None if files.objects is None else ObjectTable(files.objects)
        self._objects = self._frames = self._tracks = 0
        self._size_hw = (0, 0)

    def __enter__(self) -> ObjectSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._table is not None:
            self._table.close()

    def add(self, number: int, seconds: float, found: Found) -> Found:
        """Write the objects of the next frame and return them, with ids if they are followed."""
        if self.following is not None:
            found = self.following.follow(found, seconds)
        if found.track_ids is not None and len(found):
            self._tracks = max(self._tracks, int(found.track_ids.max()))
        self._objects += len(found)
        self._frames += 1
        self._size_hw = found.size_hw
        if self._table is not None:
            self._table.add(number, seconds, found)
        if self.files.labels is not None:
            name = f"{self.files.labels.name.removesuffix(_LABELS)}_{number:06d}{LABELS_SUFFIX}"
            write_labels(self.files.labels / name, found, self.classes)
        return found

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._table is not None:
            self._table.flush()

    def result(self, frames: Frames) -> VideoObjects:
        """What was found until now."""
        about = (self._frames, self._objects, self._tracks, self._size_hw)
        return VideoObjects(*about, frames.rate, str(frames.damage))


def video_outputs(name: Path, *, pictures: bool, yolo: bool) -> list[Path]:
    """The files that are written of a video's objects, the table first.

    Args:
        name: the name of its results, without a suffix.
        pictures: whether a video with boxes is drawn.
        yolo: whether YOLO labels are written.
    """
    endings = ((ENDING, True), (_OVERLAY, pictures), (_LABELS, yolo))
    return [name.with_name(name.name + ending) for ending, asked in endings if asked]


def find_in_video(
    predictor: DetectionPredictor,
    source: str | Path | Frames,
    files: VideoFiles,
    *,
    tracking: Tracking | None = None,
    batch_size: int = 4,
    progress: bool = True,
) -> VideoObjects:
    """Find the objects of a video or a stream. However it ends, what was found until then is written.

    Args:
        predictor: the detector, whose network is in eval mode.
        source: the video, or the frames of a stream.
        files: what is written.
        tracking: follow objects, and how; None gives no ids.
        batch_size: frames that are computed together.
        progress: whether to show a progress bar.

    Raises:
        InputError: the video cannot be read, or an output cannot be written.
    """
    frames = VideoFrames(source) if isinstance(source, str | Path) else source
    score = predictor.postprocess.score_threshold
    following = None
    if tracking is not None:
        following = Following(tracking, score, frames.rate)
        predictor = predictor.with_settings(score_threshold=tracking.low_score)
    with ExitStack() as stack:
        batches = answered(predictor, frames, batch_size, progress=progress)
        first = next(batches)  # what has no frame leaves no files
        sink = stack.enter_context(ObjectSink(files, predictor.classes, following))
        drawn = stack.enter_context(drawn_video(files.overlay, frames)) if files.overlay else None
        for batch in chain([first], batches):
            for one in batch:
                found = sink.add(one.frame.number, one.frame.seconds, one.answer)
                if drawn is not None:
                    drawn.add(one.frame.seconds, found.draw(one.frame.picture))
            sink.flush()
    return sink.result(frames)
