"""Streams: recordings from a web server in order, cameras by their newest frame, and an end that loses nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from engine.errors import InputError, UnreadableError
from engine.prediction.sources import IMAGES, IMAGES_AND_VIDEOS, find_sources
from engine.video.streams import LiveFrames, is_stream, open_stream, shown_address, stream_name
from tests.engine.video.moving import Scene
from tests.engine.video.serving import serving

SCENE = Scene(size_hw=(96, 128), count=3, pillar=None)
PICTURES = [SCENE.picture(number) for number in range(12)]


class Camera:
    """What OpenCV gives for a camera, with pictures of one grey that counts up, and silences.

    Args:
        script: a number of frames, then a silence, and so on.
        pause: seconds between frames.
    """

    def __init__(self, script, pause=0.0):
        self.script, self.pause, self.number, self.opened = list(script), pause, 0, 1

    def isOpened(self):  # noqa: N802 (OpenCV's name)
        return True

    def get(self, what):
        return 25.0

    def read(self):
        time.sleep(self.pause)
        if not self.script:
            return False, None
        if self.script[0] == 0:
            self.script.pop(0)
            return False, None
        self.script[0] -= 1
        self.number += 1
        return True, np.full((8, 8, 3), self.number, np.uint8)

    def again(self):
        self.opened += 1
        return self

    def release(self):
        self.number = 0 if self.script else self.number


def live(camera, waits=()):
    return LiveFrames(camera, "camera 0", camera.again, waits)


@pytest.fixture(scope="module")
def webm(tmp_path_factory):
    return SCENE.write(tmp_path_factory.mktemp("v") / "a.webm", 40, "VP80").read_bytes()


def test_a_recording_comes_whole_and_in_order(webm):
    with serving({"/a.webm": (webm, len(webm))}) as (address, asked):
        frames = open_stream(f"{address}/a.webm")
        assert not frames.live
        found = list(frames.timed())
    assert [one.number for one in found] == list(range(40))
    np.testing.assert_allclose([one.seconds for one in found], np.arange(40) / 25, atol=1e-3)
    assert str(frames.damage) == ""
    assert set(asked) == {"/a.webm"}


def test_a_recording_that_breaks_off_keeps_what_came(webm):
    with serving({"/a.webm": (webm[: len(webm) * 6 // 10], len(webm))}) as (address, _):
        frames = open_stream(f"{address}/a.webm")
        found = list(frames.timed())
    assert 15 < len(found) < 32
    assert "of the 40 frames that it states" in str(frames.damage)


def test_a_camera_over_http_ends(webm):
    with serving({}, PICTURES, 0.03) as (address, _):
        frames = open_stream(f"{address}/camera?password=secret")
        assert frames.live
        found = list(frames.timed())
    assert 2 <= len(found) <= len(PICTURES)
    assert frames.end >= found[-1].seconds
    assert str(frames.damage) == ""
    # The frames are those of the scene, in their order; the last one is the last that came.
    places = [min(range(12), key=lambda n: np.abs(one.picture.astype(int) - PICTURES[n]).mean()) for one in found]
    assert places == sorted(places)
    assert places[-1] == 11


def test_what_does_not_answer_is_one_line_without_the_password(capfd):
    for address in ("http://me:secret@127.0.0.1:9/x?key=secret", "rtsp://me:secret@127.0.0.1:9/x"):
        with pytest.raises(UnreadableError) as error:
            open_stream(address)
        assert "cannot read " in str(error.value)
        assert "127.0.0.1:9/x" in str(error.value)
        assert "\n" not in str(error.value)
    said = capfd.readouterr()
    assert "secret" not in f"{error.value}{said.out}{said.err}"


def test_a_stream_reads_no_file_of_this_machine(tmp_path):
    """A playlist that a server gives leads to other addresses, and to no file."""
    data = SCENE.write(tmp_path / "a.ts", 30, "MPG2").read_bytes()
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
    texts = {"/good.m3u8": playlist.format("a.ts"), "/bad.m3u8": playlist.format(f"file://{tmp_path}/a.ts")}
    texts["/concat"] = f"ffconcat version 1.0\nfile file://{tmp_path}/a.ts\n"
    videos = {name: (text.encode(), len(text)) for name, text in texts.items()} | {"/a.ts": (data, len(data))}
    with serving(videos) as (address, asked):
        assert len(list(open_stream(f"{address}/good.m3u8").timed())) > 20  # the control
        assert "/a.ts" in asked
        for name in ("/bad.m3u8", "/concat"):
            with pytest.raises(UnreadableError):
                list(open_stream(f"{address}{name}").timed())


def test_only_the_newest_frame_is_computed():
    frames = live(Camera([60], 0.002))
    found = []
    for one in frames.timed():
        found.append((int(one.picture.mean()), one.seconds))
        time.sleep(0.02)
    values, seconds = zip(*found, strict=True)
    assert list(values) == sorted(set(values))
    assert 3 <= len(values) < 40
    assert values[-1] == 60  # the last one is not lost
    assert seconds[0] == 0
    assert all(later > earlier for earlier, later in pairwise(seconds))


def test_a_silent_camera_is_asked_again():
    camera = Camera([5, 5], 0.001)
    frames = live(camera, waits=(0.01, 0.01))
    count = len(list(frames.timed()))
    assert count >= 2
    assert camera.opened == 4  # once in the middle, and twice at the end
    other = Camera([5, 5])
    assert max(int(one.picture.mean()) for one in live(other).timed()) == 5  # without waits the first silence ends it


def test_a_camera_without_a_frame_is_refused():
    with pytest.raises(UnreadableError, match="cannot read camera 0: no frame comes"):
        list(live(Camera([])).timed())


def test_ctrl_c_ends_a_stream_and_only_that():
    before = signal.getsignal(signal.SIGINT)
    frames, count = live(Camera([10**6], 0.001)), 0
    for _ in frames.timed():
        count += 1
        if count == 3:
            signal.raise_signal(signal.SIGINT)
    assert count == 3
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def usual_interrupts() -> Iterator[None]:
    """What Python does by itself; background commands of a shell ignore the signal instead."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupts")
def test_a_second_ctrl_c_interrupts_as_usual():
    frames = live(Camera([10**6], 0.001))
    shown = frames.timed()
    next(shown)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert list(shown) == []


def test_a_stream_in_another_thread():
    """Where no signals come."""
    found = []
    thread = threading.Thread(target=lambda: found.extend(live(Camera([5], 0.001)).timed()))
    thread.start()
    thread.join(5)
    assert found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", True), ("12", True), ("rtsp://h/x", True), ("RTSP://h/x", True), ("https://h/x.mp4", True),
        ("a.mp4", False), ("123456", False), ("s3://b/x.mp4", False), ("file:///x.mp4", False), ("C:/x.mp4", False),
        ("http:x", False), ("rtsp.mp4", False),
    ],
)  # fmt: skip
def test_what_is_a_stream(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_stream(source) == expected


def test_a_file_with_the_name_of_a_camera_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SCENE.write(tmp_path / "a.avi", 2, "MJPG").rename(tmp_path / "0")
    (source,) = find_sources("0", IMAGES_AND_VIDEOS)
    assert (source.kind, source.address) == ("video", "")


def test_names_hold_no_password():
    address = "rtsp://me:secret@192.168.1.7:554/live/main?token=secret"
    at = time.struct_time((2026, 11, 27, 8, 5, 9, 4, 331, 0))
    assert stream_name(address, at) == "192-168-1-7_live_main_20261127T080509"
    assert stream_name("3", at) == "camera3_20261127T080509"
    assert stream_name("http://[::1]:80/../../x", at) == "1_x_20261127T080509"
    assert shown_address(address) == "rtsp://192.168.1.7:554/live/main"
    (source,) = find_sources([address], IMAGES_AND_VIDEOS)
    assert source.address == address
    assert "secret" not in repr(source)


def test_streams_are_alone_and_for_those_who_take_them(tmp_path):
    with pytest.raises(InputError, match=r"rtsp://h/x is a stream, which is read until it ends, and 1 more are given"):
        find_sources(["rtsp://me:secret@h/x", str(tmp_path)], IMAGES_AND_VIDEOS)
    with pytest.raises(InputError, match=r"rtsp://h/x is a stream, which this command does not read\. Give an image"):
        find_sources("rtsp://me:secret@h/x", IMAGES)
