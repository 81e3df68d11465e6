"""Frame rates as cameras state them, and as MPEG-4 can: slow motion has rates such as 211.222."""

from __future__ import annotations

import csv
import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.inference.predictor import SegmentationPredictor
from segmentation.large.video import segment_video, writable_rate
from segmentation.large.video_frames import VideoFrames
from tests.segmentation.toys import ByColor


@given(st.floats(0.5, 2000))
def test_a_rate_is_one_that_the_codec_takes(rate):
    written = writable_rate(rate)
    parts = Fraction(str(written))
    assert max(parts.numerator, parts.denominator) <= 65535
    assert written == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("rate", [211.222, 239.76, 29.97, 25, 12.5])
def test_a_video_of_that_rate_is_written(tmp_path, rate):
    path = str(tmp_path / "a.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), writable_rate(rate), (64, 48))
    assert writer.isOpened()
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    capture = cv2.VideoCapture(path)
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    capture.release()


def boxes(content, start, end):
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", content[start : start + 8])
        yield name, start, size
        start += size


def write_varying(path, ticks):
    """An MP4 whose frames are shown for the given tenths of a second: the box `stts` of ISO 14496-12 says so."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(len(ticks)):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    content = bytearray(path.read_bytes())
    start, end, parents = 0, len(content), []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        found = {each: (at, size) for each, at, size in boxes(content, start, end)}
        if b"edts" in found:  # which states the former length
            content[found[b"edts"][0] + 4 : found[b"edts"][0] + 8] = b"free"
        at, size = found[name]
        parents.append(at)
        start, end = at + 8, at + size
    at, tick = parents.pop(), struct.unpack(">I", content[start + 12 : start + 16])[0]
    table = b"".join(struct.pack(">II", 1, count * tick) for count in ticks)
    content[at:end] = struct.pack(">I4sII", 16 + len(table), b"stts", 0, len(ticks)) + table
    for parent in parents:  # all of them lie behind the frames
        size = struct.unpack(">I", content[parent : parent + 4])[0]
        content[parent : parent + 4] = struct.pack(">I", size + 16 + len(table) - (end - at))
    path.write_bytes(content)


@pytest.mark.parametrize(
    "ticks", [(1, 1, 3, 1, 1, 1, 5, 1, 1, 2, 1, 1), (1,) * 12, (4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4)]
)
def test_times_are_those_of_the_source(tmp_path, caplog, ticks):
    path = tmp_path / "phone.mp4"
    write_varying(path, ticks)
    starts = np.cumsum((0, *ticks[:-1])) / 10
    frames = list(VideoFrames(path))
    np.testing.assert_allclose([frame.seconds for frame in frames], starts, atol=1e-3)
    shades = [float(frame.image.mean()) for frame in frames]
    np.testing.assert_allclose(shades, np.arange(12) * 20, atol=6)

    table, drawn = tmp_path / "out.csv", tmp_path / "out.mp4"
    segment_video(SegmentationPredictor(ByColor()), path, table, drawn, progress=False)
    with table.open(newline="") as file:
        seconds = {int(row["frame"]): float(row["seconds"]) for row in csv.DictReader(file)}
    np.testing.assert_allclose([seconds[number] for number in range(12)], starts, atol=1e-3)
    assert ("varying frame rate" in caplog.text) == (len(set(ticks)) > 1)

    shown = list(VideoFrames(drawn))
    step = 1 / VideoFrames(drawn).rate
    assert abs(shown[-1].seconds - starts[-1]) <= step
    # At any time both show the same moment, to half a step of the written video.
    tints = [float(frame.image[:40].mean()) for frame in shown]
    firsts = [shown[k].seconds for k in range(len(shown)) if k == 0 or abs(tints[k] - tints[k - 1]) > 2]
    assert all(np.abs(starts - first).min() <= step / 2 + 1e-3 for first in firsts)
