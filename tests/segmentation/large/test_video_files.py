"""Which files are videos, by content; and that no list, address or foreign file is opened in place of one."""

from __future__ import annotations

import shutil
import socket
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.errors import UnreadableError
from segmentation.large.video_frames import VideoFrames, is_video
from segmentation.prediction.kinds import kind_of

FORMS = [
    ("a.avi", "MJPG"),
    ("a.mp4", "mp4v"),
    ("a.mov", "mp4v"),
    ("a.mkv", "MJPG"),
    ("a.wmv", "WMV2"),
    ("a.mts", "MPEG"),
    ("a.mpg", "MPG1"),
    ("a.flv", "FLV1"),
]


def write(path, code):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25, (64, 48))
    if not writer.isOpened():
        return False
    for number in range(6):
        writer.write(np.full((48, 64, 3), number * 40, np.uint8))
    writer.release()
    return True


@pytest.mark.parametrize(("name", "code"), FORMS)
def test_containers(tmp_path, name, code):
    path = tmp_path / name
    assert write(path, code), "OpenCV's own encoder"
    assert is_video(path)
    assert kind_of(path) == "video"
    assert len(list(VideoFrames(path))) == 6
    bare = tmp_path / "bare"
    shutil.copy(path, bare)
    assert kind_of(bare) == "video"
    assert len(list(VideoFrames(bare))) == 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "avif", "tif", "webp", "gif", "bmp", "jp2"])
def test_images_are_none(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (64, 48)).save(path)
    assert not is_video(path)
    assert kind_of(path) == "image"


@pytest.fixture
def listener():
    """The port of a server, and the requests that reach it."""
    server = socket.create_server(("127.0.0.1", 0))
    heard = []

    def hear():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            heard.append(connection.recv(100))
            connection.close()

    threading.Thread(target=hear, daemon=True).start()
    yield server.getsockname()[1], heard
    server.close()


def lists(port, secret):
    address = f"http://127.0.0.1:{port}/a.ts"
    return {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n",
        "local m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "dash": f"<?xml version='1.0'?><MPD><BaseURL>{address}</BaseURL></MPD>",
    }


@pytest.mark.parametrize("kind", ["m3u8", "local m3u8", "concat", "sdp", "dash"])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_lists_are_no_videos(tmp_path, listener, kind, name):
    port, heard = listener
    secret = tmp_path / "secret.mp4"
    assert write(secret, "mp4v")
    path = tmp_path / name
    path.write_text(lists(port, secret)[kind])
    with pytest.raises(UnreadableError, match=r"none of MP4.*by its content\. Convert it: ffmpeg"):
        VideoFrames(path)
    assert not heard


def test_opencv_alone_would_have_asked(tmp_path, listener):
    """What makes the test above one that can fail."""
    port, heard = listener
    capture = cv2.VideoCapture(f"http://127.0.0.1:{port}/a.mp4", cv2.CAP_FFMPEG)
    capture.release()
    assert heard
    secret = tmp_path / "secret.mp4"
    assert write(secret, "mp4v")
    path = tmp_path / "a.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.read()[0]
    capture.release()


def test_an_address_is_a_missing_file(listener):
    port, heard = listener
    with pytest.raises(UnreadableError, match="does not exist"):
        VideoFrames(f"http://127.0.0.1:{port}/a.mp4")
    assert not heard
