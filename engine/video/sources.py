"""The frames of what `predict` was given: a video file, a camera or an address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.errors import PartlyReadError
from engine.video.frames import Frames, VideoFrames
from engine.video.streams import open_stream


def frames_of(path: Path, address: str = "") -> Frames:
    """The frames of a video file, or of the camera or address where one is given.

    Raises:
        UnreadableError: it cannot be opened.
    """
    return open_stream(address) if address else VideoFrames(path)


def refuse_damage(frames: Frames, values: Mapping[str, object]) -> None:
    """Do nothing if all frames could be read.

    Args:
        frames: the frames, of which all that can be were read.
        values: what the journal says of the others.

    Raises:
        PartlyReadError: some could not.
    """
    if damage := str(frames.damage):
        msg = (
            f"{frames.name} is damaged: {damage}. What was found in its other frames is written. Give a whole copy of "
            "it, or leave it out."
        )
        raise PartlyReadError(values, msg)
