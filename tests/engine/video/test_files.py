"""Which files are videos: content decides. Lists of other files and addresses are not opened, whatever their name."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.errors import UnreadableError
from engine.video import capture
from engine.video.files import VIDEO_SUFFIXES, demuxer_of, is_video
from engine.video.frames import VideoFrames
from segmentation.prediction.kinds import SUFFIXES, kind_of
from tests.engine.video.variable import lead_elsewhere, write_video

GREY = [np.full((48, 64, 3), 90, np.uint8)] * 6
CODECS = {
    "avi": ("MJPG", "avi"), "mp4": ("mp4v", "mov"), "mov": ("mp4v", "mov"), "3gp": ("mp4v", "mov"),
    "mkv": ("mp4v", "matroska"), "webm": ("VP80", "matroska"), "flv": ("FLV1", "flv"), "wmv": ("WMV2", "asf"),
    "ts": ("MPG2", "mpegts"), "mpg": ("MPG1", "mpeg"),
}  # fmt: skip
PERMISSIVE = "protocol_whitelist;file,http,tcp,crypto,data"


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_content_tells_a_video_of_any_name(tmp_path, suffix):
    codec, demuxer = CODECS[suffix]
    made = write_video(tmp_path / f"a.{suffix}", GREY, codec=codec)
    assert demuxer_of(made) == demuxer
    for name in ("clip", "clip.dat", "clip.jpg", "clip.mts"):
        path = tmp_path / name
        path.write_bytes(made.read_bytes())
        assert is_video(path)
        assert kind_of(path) == "video"
        frames = list(VideoFrames(path))
        assert len(frames) == 6
        assert abs(int(frames[-1].mean()) - 90) < 8


def test_a_transport_stream_with_times_before_packets(tmp_path):
    data = write_video(tmp_path / "a.ts", GREY, codec="MPG2").read_bytes()
    path = tmp_path / "camera"
    path.write_bytes(b"".join(b"\0\0\0\0" + data[at : at + 188] for at in range(0, len(data), 188)))
    assert demuxer_of(path) == "mpegts"
    assert len(list(VideoFrames(path))) == 6


@pytest.mark.parametrize("kind", ["avif", "png", "jpg", "gif", "bmp", "webp", "tif", "jp2"])
def test_pictures_are_no_videos(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (400, 300), (71, 71, 71)).save(path)
    assert demuxer_of(path) is None
    assert not is_video(path)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avis"])
def test_pictures_in_boxes_are_no_videos(tmp_path, brand):
    path = tmp_path / "photo"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(200))
    assert not is_video(path)


def test_suffixes_are_those_that_folders_are_searched_for():
    asked = {".wmv", ".mts", ".m2ts", ".ts", ".3gp", ".flv", ".ogv", ".mpg", ".mp4", ".mkv", ".webm", ".mov", ".avi"}
    assert asked <= VIDEO_SUFFIXES <= SUFFIXES


def lists(address):
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat": "ffconcat version 1.0\nfile other.avi\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL></MPD>',
    }


@pytest.mark.parametrize("kind", ["hls", "ffconcat", "sdp", "dash"])
@pytest.mark.parametrize("suffix", ["mp4", "ts", "avi"])
def test_a_list_is_refused_in_one_line_and_asks_nobody(tmp_path, server, monkeypatch, kind, suffix):
    address, heard = server
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", PERMISSIVE)
    write_video(tmp_path / "other.avi", GREY, codec="MJPG")
    path = tmp_path / f"x.{suffix}"
    path.write_text(lists(address)[kind])
    with pytest.raises(UnreadableError, match=r"no video of a known kind; MP4, .*ffmpeg -i") as error:
        VideoFrames(path)
    assert "\n" not in str(error.value)
    # Nor when its first bytes would pass: the reader is the one that was named.
    for demuxer in ("mov", "avi", "mpegts"):
        monkeypatch.setattr(capture, "demuxer_of", lambda path, named=demuxer: named)
        with pytest.raises(UnreadableError, match="cannot read video"):
            list(VideoFrames(path))
    assert not heard


def test_opencv_alone_would_follow_them(tmp_path, server, monkeypatch):
    """The control: the lists of the tests above lead somewhere."""
    address, heard = server
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", PERMISSIVE)
    write_video(tmp_path / "other.avi", GREY, codec="MJPG")
    path = tmp_path / "x.mp4"
    path.write_text(lists(address)["ffconcat"])
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[0]
    path = tmp_path / "x.m3u8"
    path.write_text(lists(address)["hls"])
    cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert heard


def test_an_alias_to_another_file_is_not_followed(tmp_path, monkeypatch):
    path = lead_elsewhere(tmp_path / "x.mp4", write_video(tmp_path / "private.mp4", GREY))
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "enable_drefs;1|use_absolute_path;1|protocol_whitelist;file")
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()[0]  # the control
    with pytest.raises(UnreadableError, match="no frame"):
        list(VideoFrames(path))
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS")
    with pytest.raises(UnreadableError, match="no frame"):
        list(VideoFrames(path))


def test_a_name_is_no_address_and_no_series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.avi", GREY, codec="MJPG")
    for name in ("concat:a.avi|a.avi", "http:a", "frame%03d.jpg", "0"):
        (tmp_path / name).write_bytes((tmp_path / "a.avi").read_bytes())
        assert len(list(VideoFrames(name))) == 6


def test_the_environment_is_left_as_it_was(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.avi", GREY, codec="MJPG")
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    for given in (None, "threads;1"):
        monkeypatch.delenv(name, raising=False)
        if given:
            monkeypatch.setenv(name, given)
        assert len(list(VideoFrames(path))) == 6
        assert capture.os.environ.get(name) == given
