"""Written videos: of a kind that browsers play, of any rate, with each picture at its time, and whole after a stop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import InputError
from engine.video.files import demuxer_of
from engine.video.written import DrawnVideo


def grey(value, size=(64, 48)):
    return Image.new("RGB", size, (value,) * 3)


def shown(path):
    """The rate, and the mean of every frame."""
    capture = cv2.VideoCapture(str(path))
    means = []
    while (answer := capture.read())[0]:
        means.append(float(answer[1].mean()))
    return capture.get(cv2.CAP_PROP_FPS), means


@pytest.mark.parametrize("rate", [5, 12.5, 23.976, 25, 29.97, 59.94, 211.222])
def test_a_video_of_that_rate_is_written(tmp_path, rate):
    path = tmp_path / "a.webm"
    video = DrawnVideo(path, rate)
    for number in range(8):
        video.add(number / rate, grey(20 + 20 * number))
    video.finish(8 / rate)
    video.close()
    stated, means = shown(path)
    assert stated == pytest.approx(rate, rel=1e-3)
    np.testing.assert_allclose(means, 20 + 20 * np.arange(8), atol=4)
    assert (video.repeated, video.left_out) == (0, 0)


@pytest.mark.parametrize(("codec", "name"), [("VP90", b"V_VP9"), ("VP80", b"V_VP8")])
def test_it_is_webm(tmp_path, codec, name):
    path = tmp_path / "a.webm"
    video = DrawnVideo(path, 25, codec)
    video.add(0.0, grey(90))
    video.close()
    start = path.read_bytes()[:1000]
    assert demuxer_of(path) == "matroska"
    assert b"webm" in start[:64]
    assert name in start


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.005, 0.4), min_size=1, max_size=8))
def test_each_picture_stands_at_its_time(tmp_path_factory, durations):
    """What a player shows at any time is the last picture whose time had come, to within half a frame."""
    path, rate = tmp_path_factory.mktemp("v") / "a.webm", 50
    times = np.cumsum([0, *durations])
    video = DrawnVideo(path, rate, "VP80")
    for number, seconds in enumerate(times[:-1]):
        video.add(seconds, grey(20 + 25 * number))
    video.finish(times[-1])
    video.close()
    _, means = shown(path)
    # The last picture lasts a frame at least, from a place that is rounded by half a frame at most.
    assert abs(len(means) - times[-1] * rate) <= 1.5
    for place, mean in enumerate(means):
        possible = {
            int(np.searchsorted(times[:-1], (place + shift) / rate + 1e-9, side="right")) - 1
            for shift in (-0.5, 0, 0.5)
        }
        assert min(abs(mean - 20 - 25 * number) for number in possible) < 6


def test_a_stopped_one_has_the_picture_that_was_held(tmp_path):
    video = DrawnVideo(tmp_path / "a.webm", 10)
    for number in range(3):
        video.add(number / 10, grey(60 * number))
    video.close()
    video.close()
    _, means = shown(tmp_path / "a.webm")
    np.testing.assert_allclose(means, [0, 60, 120], atol=5)


def test_odd_sides_and_a_camera_that_is_turned(tmp_path):
    video = DrawnVideo(tmp_path / "a.webm", 10)
    for number, size in enumerate([(65, 47), (47, 65), (20, 10)]):
        video.add(number / 10, grey(0, size))
    video.finish(0.3)
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / "a.webm"))
    frames = [capture.read()[1] for _ in range(3)]
    assert {frame.shape for frame in frames} == {(48, 66, 3)}
    assert frames[1][:45, :30].mean() < 10  # the whole turned picture, smaller
    assert frames[1][:, 40:].mean() > 245
    assert frames[2][:8, :16].mean() < 30  # a smaller one is not enlarged
    assert frames[2][20:, 30:].mean() > 245


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        DrawnVideo(tmp_path / "file/a.webm", 10).add(0.0, grey(0))
    with pytest.raises(InputError, match=r"cannot write a video of 70000x2 px .*--pictures false"):
        DrawnVideo(tmp_path / "a.webm", 10).add(0.0, grey(0, (70000, 2)))


def test_the_encoder_says_nothing(tmp_path, capfd):
    test_it_is_webm(tmp_path, "VP90", b"V_VP9")
    assert capfd.readouterr() == ("", "")
