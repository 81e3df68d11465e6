"""Objects in videos: every frame in the tables, ids through a pillar, and nothing lost of a damaged or stopped one."""

from __future__ import annotations

import contextlib
import csv
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from detection.formats.found import read_set
from detection.prediction.predictor import DetectionPredictor
from detection.prediction.trainer import DetectionTrainer
from detection.prediction.video import VideoFiles, find_in_video
from detection.task import DetectionTask
from engine.errors import InputError
from engine.tracking.byte_track import Tracking
from engine.video.frames import VideoFrames
from tests.detection.prediction.stand_in import CLASSES, Seeing, stand_in
from tests.engine.video.moving import Scene, spoil
from tests.engine.video.variable import write_video

SCENE = Scene(size_hw=(120, 320), rate=12.5, count=3, pillar=(140, 186))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ids_by_lane(table, scene):
    """The ids that each box of a scene had, in their order."""
    lane = scene.size_hw[0] / scene.count
    found = {number: [] for number in range(scene.count)}
    for row in table:
        if row["track_id"]:
            found[int(float(row["top"]) // lane)].append(int(row["track_id"]))
    return found


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class Task(DetectionTask):
    """The task with the detector that sees colours."""

    def __init__(self, network):
        super().__init__(classes=CLASSES)
        self.toy = network

    @property
    def network(self):
        return self.toy

    def configure_model(self):
        pass


def run(scene=SCENE, network=None, **settings):
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    trainer = DetectionTrainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet)
    network = network or stand_in(scene).network
    trainer.predict(Task(network), num_workers=0, **{"score_threshold": 0.5} | settings)
    return network


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return SCENE.write(tmp_path_factory.mktemp("drive") / "drive.mp4", 50)


def test_tables_video_and_labels_agree_with_the_scene(drive, tmp_path):
    run(source=str(drive), output=str(tmp_path), track=True, yolo=True)
    expected = [f"drive_labels/drive_{number:06d}.txt" for number in range(50)]
    books = ["classes.txt", "detections.json", "drive_objects.csv", "drive_overlay.webm"]
    assert files_in(tmp_path) == sorted([*expected, *books, "finished.jsonl", "settings.json"])
    table = rows(tmp_path / "drive_objects.csv")
    for number in range(50):
        mine = [row for row in table if int(row["frame"]) == number]
        boxes = np.array([[float(row[side]) for side in ("left", "top", "right", "bottom")] for row in mine])
        seen = SCENE.shown(number) > 0.55
        truth = SCENE.boxes(number)[seen]
        assert len(mine) >= len(truth)
        for box in truth:
            assert np.abs(boxes - box).max(1).min() <= 4  # the codec blurs edges
        assert {row["seconds"] for row in mine} == {f"{number / 12.5:.3f}"}
        assert {(row["class"], row["category_id"]) for row in mine} == {("car", "7")}
    # Coco's own reader, and the frames' labels.
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "detections.json")
    assert len(coco.imgs) == 50
    image = coco.imgs[7]
    assert image["file_name"].endswith("drive_000007.jpg")
    assert (image["width"], image["height"], image["video_id"], image["frame_id"]) == (320, 120, 1, 7)
    assert image["seconds"] == pytest.approx(7 / 12.5, abs=1e-3)
    (video,) = coco.dataset["videos"]
    assert (video["fps"], video["length"], video["name"].endswith("drive.mp4")) == (12.5, 50, True)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[7]))
    mine = [row for row in table if row["frame"] == "7"]
    assert [str(one["track_id"]) for one in annotations] == [row["track_id"] for row in mine]
    assert [one["bbox"][0] for one in annotations] == [float(row["left"]) for row in mine]
    lines = (tmp_path / "drive_labels/drive_000007.txt").read_text().splitlines()
    for line, one in zip(lines, annotations, strict=True):
        kind, x, y, width, height, track = line.split()
        left, top, across, down = one["bbox"]
        assert (kind, track) == ("0", str(one["track_id"]))
        np.testing.assert_allclose([float(width) * 320, float(height) * 120], [across, down], atol=1e-3)
        np.testing.assert_allclose([float(x) * 320, float(y) * 120], [left + across / 2, top + down / 2], atol=1e-3)
    assert (tmp_path / "classes.txt").read_text() == "car\nperson\n"
    # The drawn video has the frames, the rate and the ids' colours.
    drawn = VideoFrames(tmp_path / "drive_overlay.webm")
    assert drawn.rate == 12.5
    shown = list(drawn.timed())
    assert [one.number for one in shown] == list(range(50))
    source = [one.picture for one in VideoFrames(drive).timed()]
    assert all(np.abs(one.picture.astype(int) - other).max() > 60 for one, other in zip(shown, source, strict=True))
    # What is finished is not done again.
    network = stand_in(SCENE).network
    run(network=network, source=str(drive), output=str(tmp_path), track=True, yolo=True)
    assert network.calls == 0


def test_ids_are_kept_behind_the_pillar(tmp_path):
    scene = Scene(size_hw=(120, 320), rate=12.5, count=3, pillar=(140, 186))
    path = scene.write(tmp_path / "a.mp4", 190)
    found = find_in_video(
        stand_in(scene), path, VideoFiles(tmp_path / "a_objects.csv"), tracking=Tracking(), progress=False
    )
    assert (found.frames, found.tracks, found.damage) == (190, 3, "")
    lanes = ids_by_lane(rows(tmp_path / "a_objects.csv"), scene)
    assert all(len(set(ids)) == 1 for ids in lanes.values())
    hidden = np.array([scene.shown(number) < 0.2 for number in range(190)]).sum(0)
    assert hidden.max() >= 5  # some were out of sight
    # Without patience each one that was hidden comes back as another.
    impatient = Tracking(lost_seconds=0.1)
    again = find_in_video(
        stand_in(scene), path, VideoFiles(tmp_path / "b_objects.csv"), tracking=impatient, progress=False
    )
    assert again.tracks > 3


def test_images_and_videos_in_one_list(drive, tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), np.ascontiguousarray(SCENE.picture(3)[..., ::-1]))
    (tmp_path / "in/b.mp4").write_bytes(drive.read_bytes())
    cv2.imwrite(str(tmp_path / "in/c.png"), np.full((120, 320, 3), 96, np.uint8))
    run(source=str(tmp_path / "in"), output=str(tmp_path / "out"), yolo=True, pictures=False)
    document = json.loads((tmp_path / "out/detections.json").read_text())
    assert [image["file_name"].rpartition("/")[2] for image in document["images"][:2]] == ["a.png", "b_000000.jpg"]
    assert len(document["images"]) == 52
    assert document["images"][-1]["file_name"].endswith("c.png")
    assert "track_id" not in document["annotations"][0]
    assert (tmp_path / "out/c.txt").read_text() == ""
    assert len((tmp_path / "out/a.txt").read_text().splitlines()) == 3
    assert all(row["track_id"] == "" for row in rows(tmp_path / "out/b_objects.csv"))
    # Labels beside their image are a set that annotation tools and our own reader open.
    for name in ("a.txt", "classes.txt"):
        (tmp_path / "in" / name).write_text((tmp_path / "out" / name).read_text())
    (tmp_path / "in/c.png").unlink()
    (table,) = read_set(tmp_path / "in").splits.values()
    found = np.array([one["bbox"] for one in document["annotations"] if one["image_id"] == 0])
    np.testing.assert_allclose(np.sort(table.boxes_xywh, axis=0), np.sort(found, axis=0), atol=0.01)


def test_videos_of_one_name_stay_apart(tmp_path):
    scene = Scene(size_hw=(96, 128), count=2, pillar=None)
    for suffix, codec in (("avi", "MJPG"), ("mp4", "mp4v")):
        scene.write(tmp_path / f"a.{suffix}", 2, codec)
    run(scene, source=[str(tmp_path / "a.avi"), str(tmp_path / "a.mp4")], output=str(tmp_path / "out"), pictures=False)
    document = json.loads((tmp_path / "out/detections.json").read_text())
    names = [image["file_name"].rpartition("/")[2] for image in document["images"]]
    assert names == ["a_000000.jpg", "a_000001.jpg", "a_mp4_000000.jpg", "a_mp4_000001.jpg"]
    assert [video["id"] for video in document["videos"]] == [1, 2]


def test_frames_without_objects_are_listed(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((120, 320, 3), 96, np.uint8)] * 4)
    run(source=str(path), output=str(tmp_path / "out"), track=True)
    table = rows(tmp_path / "out/a_objects.csv")
    assert [(row["frame"], row["score"]) for row in table] == [(str(number), "") for number in range(4)]
    document = json.loads((tmp_path / "out/detections.json").read_text())
    assert len(document["images"]) == 4
    assert document["annotations"] == []


def test_a_corrupt_frame_is_listed_and_costs_only_itself(drive, tmp_path):
    path = tmp_path / "in/drive.mp4"
    path.parent.mkdir()
    path.write_bytes(drive.read_bytes())
    spoil(path, 0.5, 200)
    settings = {"source": str(path), "output": str(tmp_path / "out"), "track": True}
    for _ in range(2):  # it is tried again each time, and fails each time
        with pytest.raises(InputError, match=r"drive\.mp4' is damaged: .*frames? .* damaged \(.*Give a whole copy"):
            run(**settings)
        (failed,) = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").read_text().splitlines() if line]
        assert failed["source"] == str(path)
        document = json.loads((tmp_path / "out/detections.json").read_text())
        numbers = [image["frame_id"] for image in document["images"]]
        assert numbers[0] == 0
        assert numbers[-1] == 49
        assert len(numbers) >= 40
    drawn = list(VideoFrames(tmp_path / "out/drive_overlay.webm").timed())
    assert len(drawn) == 50  # in step with its source
    path.write_bytes(drive.read_bytes())
    run(**settings)
    assert not (tmp_path / "out/failed.jsonl").exists()
    assert len(json.loads((tmp_path / "out/detections.json").read_text())["images"]) == 50


def test_a_stop_keeps_what_was_found(drive, tmp_path):
    class Stopped(Seeing):
        def detect(self, batch, postprocess):
            if self.calls == 5:
                raise KeyboardInterrupt
            return super().detect(batch, postprocess)

    predictor = DetectionPredictor(Stopped(SCENE.size_hw, stand_in(SCENE).network.widths))
    files = VideoFiles(tmp_path / "objects.csv", tmp_path / "overlay.webm")
    with pytest.raises(KeyboardInterrupt):
        find_in_video(predictor, drive, files, batch_size=2, progress=False)
    assert {int(row["frame"]) for row in rows(files.objects)} == set(range(10))
    assert len(list(VideoFrames(files.overlay).timed())) == 10


@pytest.mark.parametrize("turn", [90, 180])
def test_a_phone_s_video_is_shown_upright(tmp_path, turn):
    scene = Scene(size_hw=(128, 192), count=2, pillar=None)
    pictures = [np.rot90(scene.picture(number), turn // 90).copy() for number in range(6)]  # as the sensor stores it
    path = write_video(tmp_path / "phone.mp4", pictures, [40] * 6, turn)
    run(scene, source=str(path), output=str(tmp_path / "out"))
    first = [row for row in rows(tmp_path / "out/phone_objects.csv") if row["frame"] == "0"]
    assert len(first) == 2
    for row in first:
        box = np.array([float(row[side]) for side in ("left", "top", "right", "bottom")])
        assert np.abs(scene.boxes(0) - box).max(1).min() <= 6
    assert next(iter(VideoFrames(tmp_path / "out/phone_overlay.webm"))).shape == (128, 192, 3)


def test_times_of_a_variable_rate(tmp_path):
    durations = [20, 20, 400, 100, 33, 250]
    scene = Scene(size_hw=(128, 192), count=2, pillar=None)
    path = write_video(tmp_path / "v.mp4", [scene.picture(number) for number in range(6)], durations)
    run(scene, source=str(path), output=str(tmp_path / "out"), track=True)
    table = rows(tmp_path / "out/v_objects.csv")
    seconds = sorted({float(row["seconds"]) for row in table})
    np.testing.assert_allclose(seconds, np.cumsum([0, *durations])[:-1] / 1000, atol=1e-3)
    drawn = VideoFrames(tmp_path / "out/v_overlay.webm")
    assert len(list(drawn.timed())) / drawn.rate == pytest.approx(sum(durations) / 1000, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"track": True, "image": True}, "track follows objects .* no source is a video"),
        ({"tracking": Tracking(lost_seconds=3)}, "tracking says how .* track is false. Give --track true"),
        ({"track": True, "score_threshold": 0.05}, r"tracking.low_score is 0.1 and above"),
        ({"bands": (1, 2, 3)}, r"bands is for rasters, but '.*drive\.mp4' is a video"),
        ({"ids": "gt.json"}, r"ids is for images, but '.*drive\.mp4' is a video"),
        ({"source": ["0", "1"]}, "camera 0 is a stream, .* 1 more are given"),
        ({"source": "99"}, "cannot read camera 99: nothing answers"),
    ],
)
def test_bad_settings(drive, tmp_path, settings, message):
    given = {"source": str(drive), "output": str(tmp_path / "out")} | settings
    if given.pop("image", False):
        cv2.imwrite(str(tmp_path / "a.png"), SCENE.picture(0))
        given["source"] = str(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        run(**given)
