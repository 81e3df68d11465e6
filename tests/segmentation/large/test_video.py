"""Videos: every frame is segmented and drawn, the table holds its areas, damaged files are refused."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from engine.errors import InputError
from engine.video.frames import VideoFrames
from segmentation.inference.inference import Inference
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.large.video import segment_video
from tests.segmentation.toys import CLASSES, ByColor

RATE = 10.0


def by_color(batch: int = 4) -> SegmentationPredictor:
    return SegmentationPredictor(ByColor(), Inference(batch=batch))


def rows_of(number: int) -> np.ndarray:
    """A car that comes in from the left."""
    rows = np.zeros((48, 80), dtype=np.uint8)
    rows[:, : 16 * number] = 1
    return rows


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (80, 48))
    for number in range(5):
        writer.write(np.array(CLASSES.colors, dtype=np.uint8)[rows_of(number)][..., ::-1].copy())
    writer.release()
    return path


def test_every_frame_is_in_the_table_and_the_video(video, tmp_path):
    table, drawn = tmp_path / "out/areas.csv", tmp_path / "out/drawn.webm"
    found = segment_video(by_color(2), video, table, drawn, progress=False)
    assert found.frames == 5
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * 3
    cars = [line for line in lines if line["class"] == "car"]
    # Codecs blur the edge.
    np.testing.assert_allclose([int(line["pixels"]) for line in cars], [48 * 16 * n for n in range(5)], atol=48 * 2)
    np.testing.assert_allclose([float(line["share"]) for line in cars], np.arange(5) / 5, atol=0.03)
    assert [line["seconds"] for line in cars] == ["0.000", "0.100", "0.200", "0.300", "0.400"]
    assert {line["label_id"] for line in cars} == {"26"}
    assert found.areas["car"] == sum(int(line["pixels"]) for line in cars)
    assert sum(found.areas.values()) == 5 * 48 * 80
    frames = VideoFrames(drawn)
    assert frames.rate == pytest.approx(RATE)
    shown = list(frames)
    assert len(shown) == 5
    assert shown[0].shape[1] >= 80
    assert shown[0].shape[0] > 48  # the legend
    assert {frame.shape for frame in shown} == {shown[0].shape}
    blue, road = shown[4][24, 30], shown[4][24, 74]
    np.testing.assert_allclose(blue.astype(int), CLASSES.colors[1], atol=40)
    np.testing.assert_allclose(road.astype(int), CLASSES.colors[0], atol=40)
    assert sorted(path.name for path in table.parent.iterdir()) == ["areas.csv", "drawn.webm"]


def test_without_a_picture(video, tmp_path):
    assert segment_video(by_color(), video, tmp_path / "a.csv", progress=False).frames == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "drive.avi"]


def test_what_is_no_video_leaves_nothing(video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 100)
    (tmp_path / "empty.avi").write_bytes(video.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cannot read video .*convert it to MP4: ffmpeg -i"):
        segment_video(by_color(), tmp_path / "broken.mp4", tmp_path / "out/a.csv", tmp_path / "out/a.webm")
    with pytest.raises(InputError, match="cannot read video"):
        segment_video(
            by_color(), tmp_path / "empty.avi", tmp_path / "out/a.csv", tmp_path / "out/a.webm", progress=False
        )
    with pytest.raises(InputError, match="does not exist"):
        VideoFrames(tmp_path / "none.mp4")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_an_interruption_keeps_what_was_done(video, tmp_path):
    class Stopped(ByColor):
        calls = 0

        def forward(self, images):
            Stopped.calls += 1
            if Stopped.calls == 3:
                raise KeyboardInterrupt
            return super().forward(images)

    stopped = SegmentationPredictor(Stopped(), Inference(batch=1))
    with pytest.raises(KeyboardInterrupt):
        segment_video(stopped, video, tmp_path / "out/a.csv", tmp_path / "out/a.webm", progress=False)
    with (tmp_path / "out/a.csv").open(newline="") as file:
        assert [line["frame"] for line in csv.DictReader(file)] == ["0"] * 3 + ["1"] * 3
    assert len(list(VideoFrames(tmp_path / "out/a.webm"))) == 2
