"""From the frames of a video or stream to a predictor's answers, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic

from tqdm import tqdm

from engine.prediction.predictor import Answer, Predictor, Prepared
from engine.video.frames import Frames, TimedFrame


@dataclass(frozen=True)
class AnsweredFrame(Generic[Answer]):
    """A frame with what was found in it.

    Attributes:
        frame: its picture, place and time.
        answer: what was found.
    """

    frame: TimedFrame
    answer: Answer


def answered(
    predictor: Predictor[Prepared, Answer], frames: Frames, batch_size: int, *, progress: bool = True
) -> Iterator[list[AnsweredFrame[Answer]]]:
    """The frames in order with their answers, in lists of those that are computed together.

    Args:
        predictor: the predictor, whose network is in eval mode.
        frames: the frames; of a live stream one is computed at a time, so that it is the newest.
        batch_size: frames that are computed together.
        progress: whether to show a progress bar.

    Raises:
        UnreadableError: no frame can be read.
    """
    shown = iter(tqdm(frames.timed(), frames.name, frames.count or None, unit="frame", disable=not progress))
    while some := list(islice(shown, 1 if frames.live else batch_size)):
        answers = predictor.run([predictor.prepare(frame.picture) for frame in some])
        yield [AnsweredFrame(*both) for both in zip(some, answers, strict=True)]
