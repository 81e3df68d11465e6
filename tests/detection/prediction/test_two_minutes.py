"""Two minutes of a phone's video: ids, frames, times, turn and memory; a corrupt frame; a command that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from detection.prediction.video import VideoFiles, find_in_video
from engine.tracking.byte_track import Tracking
from engine.video.frames import VideoFrames
from tests.detection.prediction.stand_in import stand_in
from tests.detection.prediction.test_video import ids_by_lane, rows, run
from tests.engine.video.moving import Scene, spoil
from tests.house.source import ROOT

pytestmark = pytest.mark.slow
SCENE = Scene(size_hw=(144, 240), count=4, pillar=(100, 146))
FRAMES = 3000

KILLED = """
import sys
from pathlib import Path
from detection.prediction.video import VideoFiles, find_in_video
from tests.detection.prediction.stand_in import stand_in
from tests.engine.video.moving import Scene
out = Path(sys.argv[2])
scene = Scene(size_hw=(144, 240), count=4, pillar=(100, 146))
find_in_video(stand_in(scene), sys.argv[1], VideoFiles(out / "a_objects.csv", out / "a_overlay.webm"), progress=False)
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Four boxes that pass behind a pillar again and again, stored on their side."""
    return SCENE.write(tmp_path_factory.mktemp("long") / "long.mp4", FRAMES, turn=90)


def test_ids_frames_times_turn_and_memory(video, tmp_path):
    predictor, held = stand_in(SCENE), []
    watched = predictor.network.detect

    def detect(batch, postprocess):
        held.append(psutil.Process().memory_info().rss)
        return watched(batch, postprocess)

    predictor.network.detect = detect
    files = VideoFiles(tmp_path / "a_objects.csv", tmp_path / "a_overlay.webm", tmp_path / "a_labels")
    found = find_in_video(predictor, video, files, tracking=Tracking(), progress=False)
    assert (found.frames, found.rate, found.damage) == (FRAMES, 25.0, "")
    # Every box keeps the one id that it got, though each is out of sight a dozen times.
    hidden = np.array([SCENE.shown(number) < 0.2 for number in range(FRAMES)])
    assert ((hidden[1:] & ~hidden[:-1]).sum(0) >= 5).all()
    lanes = ids_by_lane(rows(files.objects), SCENE)
    assert sorted({identity for ids in lanes.values() for identity in ids}) == [1, 2, 3, 4]
    assert all(len(set(ids)) == 1 for ids in lanes.values())
    # The drawn video is upright and has each frame at its time.
    drawn = VideoFrames(files.overlay)
    assert drawn.rate == 25.0
    shown = [(one.number, one.seconds, one.picture.shape) for one in drawn.timed()]
    assert len(shown) == FRAMES
    assert {shape for _, _, shape in shown} == {(*SCENE.size_hw, 3)}
    np.testing.assert_allclose([seconds for _, seconds, _ in shown], np.arange(FRAMES) / 25, atol=1e-3)
    assert len(list(files.labels.iterdir())) == FRAMES
    # 3000 frames would be 311 MB; from the first tenth to the end the process grows by less than a tenth of it.
    early, late = max(held[20 : len(held) // 10]), max(held)
    print(f"memory: {early >> 20} MB after a tenth, at most {late >> 20} MB")
    assert late - early < 32 << 20


def test_a_corrupt_frame_after_a_minute(video, tmp_path):
    path = tmp_path / "long.mp4"
    path.write_bytes(video.read_bytes())
    spoil(path, 0.5, 200)
    with pytest.raises(Exception, match=r"long\.mp4' is damaged: .*6\d(\.\d+)? s"):  # after about sixty seconds
        run(SCENE, source=str(path), output=str(tmp_path / "out"), track=True, batch_size=8)
    frames = [image["frame_id"] for image in json.loads((tmp_path / "out/detections.json").read_text())["images"]]
    assert frames[0] == 0
    assert frames[-1] == FRAMES - 1
    assert len(frames) > FRAMES - 20
    assert len(list(VideoFrames(tmp_path / "out/long_overlay.webm").timed())) == FRAMES
    lanes = ids_by_lane(rows(tmp_path / "out/long_objects.csv"), SCENE)
    assert all(len(set(ids)) == 1 for ids in lanes.values())


def test_a_killed_command_leaves_what_it_wrote(video, tmp_path):
    table = tmp_path / "a_objects.csv"
    command = [sys.executable, "-c", KILLED, str(video), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 200
    while time.monotonic() < until and (not table.exists() or len(rows(table)) < 2400):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    numbers = sorted({int(row["frame"]) for row in rows(table)})
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 580
    # The video plays up to some seconds before: the encoder and the file hold the last ones.
    drawn = list(VideoFrames(tmp_path / "a_overlay.webm").timed())
    assert len(drawn) > len(numbers) - 300
