"""Variable frame rates: the table has the times that were written, and the overlay shows each frame at its time."""

from __future__ import annotations

import csv
import logging

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.video.frames import LONGEST_PAUSE, Clock, VideoFrames
from segmentation.inference.inference import Inference
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.large.video import segment_video
from tests.engine.video.variable import write_video
from tests.segmentation.toys import ByColor

BURSTS = [20, 20, 20, 100, 100, 50, 33, 400, 10, 250]
PAUSE = [33, 33, 34, 33, 1500, 33, 34]


def predictor():
    return SegmentationPredictor(ByColor(), Inference(batch=3))


def greys(count):
    return [np.full((48, 80, 3), 20 + 22 * number, np.uint8) for number in range(count)]


@pytest.mark.parametrize("durations", [BURSTS, PAUSE])
def test_times_and_duration_are_those_of_the_source(tmp_path, caplog, durations):
    path = write_video(tmp_path / "phone.mp4", greys(len(durations)), durations)
    table, drawn = tmp_path / "areas.csv", tmp_path / "drawn.webm"
    with caplog.at_level(logging.WARNING):
        found = segment_video(predictor(), path, table, drawn, progress=False)
    assert found.frames == len(durations)
    starts = np.cumsum([0, *durations])[:-1] / 1000
    with table.open(newline="") as file:
        seconds = [float(line["seconds"]) for line in csv.DictReader(file) if line["class"] == "car"]
    np.testing.assert_allclose(seconds, starts, atol=0.001)

    capture = cv2.VideoCapture(str(drawn))
    rate = capture.get(cv2.CAP_PROP_FPS)
    assert rate == pytest.approx(1000 / np.median(durations[:-1]), rel=1e-3)
    shown = []
    while (answer := capture.read())[0]:
        shown.append(float(answer[1][4, 4].mean()))
    assert len(shown) / rate == pytest.approx(sum(durations) / 1000, abs=1.01 / rate)
    # What a player shows at the middle of each long frame is that frame, as it is drawn at a constant rate.
    long = [number for number, duration in enumerate(durations) if duration > 1500 / rate]
    assert long
    by_constant = {}
    segment_video(predictor(), write_video(tmp_path / "c.mp4", greys(len(durations))), tmp_path / "c.csv",
                  tmp_path / "cd.webm", progress=False)  # fmt: skip
    constant = cv2.VideoCapture(str(tmp_path / "cd.webm"))
    for number in range(len(durations)):
        by_constant[number] = float(constant.read()[1][4, 4].mean())
    for number in long:
        middle = int((starts[number] + durations[number] / 2000) * rate)
        assert shown[middle] == pytest.approx(by_constant[number], abs=5)
    said = [record.getMessage() for record in caplog.records if "variable frame rate" in record.getMessage()]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert f"{rate:.4g} frames per second" in said[0]


@pytest.mark.parametrize("rate", [10, 25, 29.97, 211.222])
def test_a_constant_rate_repeats_nothing(tmp_path, caplog, rate):
    path = write_video(
        tmp_path / "a.mkv", greys(9), codec="MJPG", rate=rate
    )  # Matroska has times in whole milliseconds
    with caplog.at_level(logging.WARNING):
        segment_video(predictor(), path, tmp_path / "a.csv", tmp_path / "d.webm", progress=False)
    assert len(list(VideoFrames(tmp_path / "d.webm"))) == 9
    assert not caplog.records


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_phone_s_turned_video_is_read_upright(tmp_path, turn):
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:24, :40] = (250, 0, 0)
    path = write_video(tmp_path / "phone.mp4", [picture] * 3, [33, 33, 33], turn)
    expected = np.rot90(picture, -turn // 90)
    for frame in VideoFrames(path):
        assert frame.shape == expected.shape
        for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8)):
            np.testing.assert_allclose(frame[y, x].astype(int), expected[y, x], atol=25)


def test_joined_recordings_follow_each_other(tmp_path):
    data = write_video(tmp_path / "a.ts", greys(6), codec="MPG2").read_bytes()
    (tmp_path / "two.ts").write_bytes(2 * data)
    seconds = [frame.seconds for frame in VideoFrames(tmp_path / "two.ts").timed()]
    np.testing.assert_allclose(seconds, np.arange(12) / 25, atol=0.001)


@given(st.lists(st.floats(0.001, LONGEST_PAUSE - 1), min_size=1, max_size=20), st.floats(0, 100))
def test_a_clock_that_only_rises_is_believed(steps, start):
    stamps = np.cumsum([start, *steps])
    clock = Clock(0.04)
    np.testing.assert_allclose([clock.time(stamp) for stamp in stamps], stamps - start, atol=1e-6)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30))
def test_no_stamps_fill_a_disk_or_run_back(stamps):
    clock, last = Clock(0.04), 0.0
    for stamp in stamps:
        now = clock.time(stamp)
        assert 0 <= now - last <= LONGEST_PAUSE + 0.001
        last = now
