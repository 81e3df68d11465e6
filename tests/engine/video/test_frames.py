"""Damaged videos: what can be read is read, and each damaged place is named with its time."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from engine.errors import UnreadableError
from engine.video.capture import hearing
from engine.video.frames import Damage, VideoFrames
from tests.engine.video.moving import Scene, spoil

SCENE = Scene(size_hw=(96, 128), count=3, pillar=None)
COUNT = 60


def read(path):
    frames = VideoFrames(path)
    return list(frames.timed()), frames


@pytest.fixture(params=["mp4v.mp4", "MJPG.avi", "VP90.webm", "VP80.webm", "MPG2.ts"])
def video(request, tmp_path):
    codec, suffix = request.param.split(".")
    return SCENE.write(tmp_path / f"a.{suffix}", COUNT, codec)


def test_a_whole_video_has_no_damage(video, capfd):
    found, frames = read(video)
    assert [one.number for one in found] == list(range(COUNT))
    np.testing.assert_allclose([one.seconds for one in found], np.arange(COUNT) / 25, atol=1e-3)
    assert str(frames.damage) == ""
    assert capfd.readouterr().err == ""


def test_a_damaged_place_costs_only_itself(video, capfd):
    """Frames before and after it come with their own numbers and times, and the damage names a time in the middle."""
    whole, _ = read(video)
    found, frames = read(spoil(video, 0.5, 400))
    numbers = [one.number for one in found]
    assert numbers[0] == 0
    assert numbers[-1] >= COUNT - 2
    assert len(found) > COUNT * 0.6
    # In a transport stream the times are damaged, too.
    np.testing.assert_allclose([one.seconds * 25 for one in found], numbers, atol=3 if video.suffix == ".ts" else 0.1)
    assert frames.damage.frames >= 1
    assert "damaged (" in str(frames.damage)
    first = float(str(frames.damage).partition("(")[2].split(" s")[0])
    assert 0.2 * COUNT / 25 < first < 0.8 * COUNT / 25
    # The first frames are as they were.
    for one, other in zip(found[:10], whole, strict=False):
        np.testing.assert_array_equal(one.picture, other.picture)
    lost = set(range(COUNT)) - set(numbers)
    assert frames.damage.frames >= len([number for number in lost if number < numbers[-1]])
    assert capfd.readouterr().err == ""  # told once, by whoever reads the frames


def test_a_lost_frame_leaves_its_number_free(tmp_path):
    found, frames = read(spoil(SCENE.write(tmp_path / "a.mp4", COUNT), 0.5, 300))
    numbers = [one.number for one in found]
    assert set(range(COUNT)) - set(numbers)
    assert numbers[-1] == COUNT - 1
    assert frames.damage.short == ""


@pytest.mark.parametrize(("suffix", "codec"), [("webm", "VP90"), ("avi", "MJPG")])
def test_a_video_that_breaks_off(tmp_path, suffix, codec):
    path = SCENE.write(tmp_path / f"a.{suffix}", COUNT, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    found, frames = read(path)
    assert 0.4 * COUNT < len(found) < 0.75 * COUNT
    assert f"it ends after {found[-1].number + 1} of the 60 frames that it states" in str(frames.damage)


def test_nothing_but_damage_is_refused(tmp_path):
    path = SCENE.write(tmp_path / "a.avi", 5, "MJPG")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableError, match="cannot read video"):
        read(path)


def test_many_places_are_counted():
    damage = Damage()
    for number in (*range(10, 20), 30, 41, 52, 63):
        damage.add(number, number / 10, "first words" if number < 20 else "others")
    assert str(damage) == "14 frames are damaged (1 s to 1.9 s, 3 s, 4.1 s, others; first words)"
    damage.short = "it ends after 7 of the 9 frames that it states"
    assert str(damage).endswith("first words) and it ends after 7 of the 9 frames that it states")


def test_what_others_say_is_passed_on(capfd):
    with hearing() as complaints, hearing() as others:
        with complaints.listening():
            os.write(2, b"[h264 @ 0x55d0] error while decoding MB 3 4\nsomeone else\n")
            with others.listening():  # as in another thread: it hears nothing and takes nothing
                os.write(2, b"[mpeg4 @ 0x1] header damaged\n")
        assert (complaints.heard, others.heard) == ("header damaged", "")
        assert capfd.readouterr().err == "someone else\n"
        with complaints.listening():
            pass
        assert complaints.heard == ""


def test_reading_without_standard_error(tmp_path):
    """A service may have closed it."""
    path = SCENE.write(tmp_path / "a.avi", 5, "MJPG")
    saved = os.dup(2)
    os.close(2)
    try:
        found, _ = read(path)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert len(found) == 5


def test_opencv_alone_stops_or_says_nothing(tmp_path):
    """The control: OpenCV gives a patched frame like any other, and a plain loop ends at a lost one."""
    path = spoil(SCENE.write(tmp_path / "a.mp4", COUNT), 0.5, 300)
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count < COUNT - 5
