"""`python -m deployment benchmark`: what is measured, kept, left out and refused."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deployment.__main__ import main
from deployment.benchmark import worker
from deployment.benchmark.accuracy import Data, scores_of
from deployment.benchmark.candidates import all_candidates
from deployment.benchmark.files import Wishes, file_of
from deployment.benchmark.members import build, cost_of, member_names, subjects_of
from deployment.benchmark.rounds import grouped
from deployment.benchmark.stages import Opened
from engine.cli.commands import run_task
from engine.tasks import find_task
from tests.deployment.networks import SURFACES, picture

HW = (160, 224)


def opened(path: Path, runtime: str = "torch", size_hw=HW, score_threshold: float = 0.01, batch: int = 1) -> Opened:
    (candidate,) = all_candidates(subjects_of([str(path)], []), [runtime], ["float32"], [size_hw], [batch], [1])
    wishes = Wishes("inside", score_threshold, ())
    return Opened(candidate, file_of(candidate, path.parent / "files", wishes), score_threshold)


def photograph(folder: Path, height: int = 120, width: int = 200, seed: int = 0) -> Path:
    path = folder / f"p{seed}.png"
    Image.fromarray(picture(height, width, seed)).save(path)
    return path


@pytest.mark.by_default("joint")
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_stages_hold_what_happens_in_them(ckpt, tmp_path, task, monkeypatch):
    one = opened(ckpt(task))
    path = photograph(tmp_path)
    one.run([path, path])
    clock = iter([0.0, 1.0, 11.0, 100.0, 105.0, 200.0])  # start, read, prepared, network from, to, answered
    from deployment.benchmark import stages

    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    assert one.run([path, path]) == (1.0, 10.0, 5.0, 184.0)


def test_answers_are_those_of_the_predictor(ckpt, tmp_path):
    from detection import load

    path = photograph(tmp_path)
    one = opened(ckpt("detection"))
    sample = one.canvas(one.reader(path))
    (found,) = one.answers(sample.image[None].permute(0, 3, 1, 2), [sample])
    expected = load(ckpt("detection")).predict(path, score_threshold=0.01, image_size=HW)
    assert len(expected) > 3
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.fixture
def labelled(ckpt, tmp_path: Path) -> Path:
    """Five pictures of several sizes with masks, and boxes near some that the detector finds."""
    from detection import load

    network = load(ckpt("detection"))
    random = np.random.default_rng(0)
    images, annotations = [], []
    for folder in ("pictures", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        height, width = 100 + 20 * number, 224 - 10 * number
        Image.fromarray(picture(height, width, number)).save(tmp_path / "pictures" / f"{number}.png")
        rows = random.integers(0, 3, (-(-height // 40), -(-width // 40))).repeat(40, 0).repeat(40, 1)[:height, :width]
        Image.fromarray(np.array(SURFACES.label_ids, np.uint8)[rows]).save(tmp_path / "masks" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        found = network.predict(tmp_path / "pictures" / f"{number}.png", score_threshold=0.01)
        for row in [row for row, each in enumerate(found.category_ids) if each != 8][:12:2]:
            left, top, right, bottom = (found.boxes_xyxy[row] + random.uniform(-4, 4, 4)).tolist()
            box = [left, top, max(1.0, right - left), max(1.0, bottom - top)]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "bbox": box, "area": box[2] * box[3],
                                "category_id": int(found.category_ids[row]), "iscrowd": 0})  # fmt: skip
    categories = [{"id": 7, "name": "car"}, {"id": 30, "name": "person"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.by_default("1")
@pytest.mark.parametrize("batch", [1, 2])
def test_ap_is_that_of_validate(ckpt, labelled, tmp_path, capsys, batch):
    one = opened(ckpt("detection"), score_threshold=0.01, batch=batch)  # as the checkpoint holds it
    found = scores_of(one, Data(labelled / "boxes.json", labelled / "pictures"))
    words = ["--data.val_annotations", "boxes.json", "--data.val_images", "pictures", "--data.num_workers", "0"]
    status = run_task(
        find_task("detection"),
        ["validate", "--ckpt_path", str(ckpt("detection")), "--data.root", str(labelled), *words,
         "--model.scores", str(tmp_path / "scores.json")],
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    expected = json.loads((tmp_path / "scores.json").read_text())["ap"]
    assert 0.1 < expected < 0.9
    assert found == {"AP": pytest.approx(expected, abs=1e-9)}


def test_miou_is_counted_at_the_pictures_own_size(ckpt, labelled):
    one = opened(ckpt("segmentation"))
    found = scores_of(one, Data(masks=labelled / "masks", mask_images=labelled / "pictures"))
    true, predicted = [], []
    for path in sorted((labelled / "pictures").iterdir()):
        pixels = np.array(Image.open(path))
        sample = one.canvas(pixels)
        (answer,) = one.answers(sample.image[None].permute(0, 3, 1, 2), [sample])
        height, width = pixels.shape[:2]
        # The canvas pixel in which the centre of each pixel lies.
        rows, columns = (
            np.minimum(((np.arange(side) + 0.5) * inside / side).astype(int), inside - 1)
            for side, inside in zip((height, width), sample.letterbox.scaled_hw, strict=True)
        )
        predicted.append(answer.class_ids[np.ix_(rows, columns)].ravel())
        labels = np.array(Image.open(labelled / "masks" / path.name))
        true.append(np.searchsorted(np.sort(SURFACES.label_ids), labels).ravel())
    ids = np.argsort(SURFACES.label_ids)  # label ids in rising order, as rows
    truth, guess = ids[np.concatenate(true)], np.concatenate(predicted)
    ious = [((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum() for k in range(3)]
    assert 0.05 < float(np.mean(ious)) < 0.95
    assert found == {"mIoU": pytest.approx(float(np.mean(ious)))}


@pytest.mark.slow
def test_a_joint_network_has_both(ckpt, labelled):
    data = Data(labelled / "boxes.json", labelled / "pictures", labelled / "masks", labelled / "pictures")
    assert scores_of(opened(ckpt("joint")), data).keys() == {"AP", "mIoU"}


def test_members_are_networks_of_the_published_size():
    assert {"d0", "lite0", "b0", "deeplab_b0", "joint_lite0"} <= set(member_names())
    subjects = {each.name: each for each in subjects_of([], ["d0", "b0", "deeplab_b0"])}
    assert [subjects[name].task for name in subjects] == ["detection", "classification", "segmentation"]
    b0, d0 = (cost_of(subjects[name], subjects[name].own_hw) for name in ("b0", "d0"))
    assert b0.parameters == 5_288_548  # timm's efficientnet_b0
    assert b0.macs == pytest.approx(0.39e9, rel=0.02)  # paper, table 2
    assert d0.parameters == pytest.approx(3.9e6, rel=0.01)  # paper, table 2
    network, task = build("joint_lite0")
    assert task == "joint"
    assert not network.training


@pytest.mark.slow
def test_an_efficientnet_alone_is_exported(tmp_path):
    (candidate,) = all_candidates(subjects_of([], ["b0"]), ["onnx"], ["float32"], [64], [2], [1])
    file = file_of(candidate, tmp_path, Wishes("inside", 0.3, ()))
    both = [Opened(candidate, each, 0.3) for each in (file, None)]
    sample = both[0].canvas(picture(50, 60))
    images = torch.stack([sample.image, sample.image.flip(0)]).permute(0, 3, 1, 2)
    found, expected = (torch.stack(list(one.answers(images, [sample, sample]))) for one in both)
    assert found.shape == (2, 1000)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


@pytest.fixture
def words(ckpt, tmp_path) -> list[str]:
    return [
        "benchmark", "--ckpt_paths", str(ckpt("detection")), "--image_sizes", "128", "--runtimes", "torch", "pt2",
        "--threads", "1", "--repeats", "2", "--output", str(tmp_path / "out"),
    ]  # fmt: skip


def lines(folder: Path) -> list[dict]:
    text = (folder / "out" / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line) for line in text if "seconds" in line]


@pytest.mark.slow
def test_an_interrupted_measurement_goes_on(words, tmp_path, monkeypatch, capsys, labelled):
    asked = worker.Worker.runs
    turns = []

    def runs(self, repeats):
        if len(turns) == 3:
            raise KeyboardInterrupt
        turns.append(self.label)
        return asked(self, repeats)

    data = ["--annotations", str(labelled / "boxes.json"), "--images", str(labelled / "pictures")]
    monkeypatch.setattr(worker.Worker, "runs", runs)
    assert main([*words, *data, "--rounds", "2"]) == 130
    assert len(lines(tmp_path)) == 3
    monkeypatch.setattr(worker.Worker, "runs", asked)
    assert main([*words, *data, "--rounds", "2"]) == 0
    found = lines(tmp_path)
    assert len(found) == 4
    assert len({(line["key"], line["round"]) for line in found}) == 4
    assert all(len(line["seconds"]) == 2 for line in found)
    rows = json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"]
    assert [(row["label"], row["runs"]) for row in rows] == [
        ("detection.ckpt torch 128x128", 4),
        ("detection.ckpt pt2 128x128", 4),
    ]
    assert rows[0]["ap"] == pytest.approx(rows[1]["ap"], abs=0.01)
    assert all(row["parameters"] > 1e6 and row["macs"] > 1e6 and row["peak_mib"] > row["own_mib"] > 0 for row in rows)
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("Take detection.ckpt ")

    # Nothing is missing any more; other settings are another measurement.
    assert main([*words, *data, "--rounds", "2"]) == 0
    assert len(lines(tmp_path)) == 4
    capsys.readouterr()
    assert main([*words, "--rounds", "2", "--nms", "outside"]) == 2
    assert "nms was inside, now outside" in capsys.readouterr().err


SIDE = 384


@pytest.fixture(scope="module")
def measured(ckpt, tmp_path_factory) -> tuple[list[dict], str]:
    """Rows and text of a measurement of two batches, the larger one first, in a number type that is had and another."""
    folder, said = tmp_path_factory.mktemp("measured"), io.StringIO()
    with redirect_stdout(said):
        status = main([
            "benchmark", "--ckpt_paths", str(ckpt("detection")), "--batch_sizes", "16", "1", "--image_sizes", str(SIDE),
            "--runtimes", "torch", "--precisions", "float32", "int8", "--threads", "1", "--rounds", "1",
            "--repeats", "1", "--output", str(folder),
        ])  # fmt: skip
    assert status == 0
    return json.loads((folder / "benchmark.json").read_text())["rows"], said.getvalue()


def test_what_cannot_be_measured_is_left_out_with_the_reason(measured):
    rows, said = measured
    why = "torch computes in float32 or bfloat16"
    assert f"left out: detection.ckpt torch int8 {SIDE}x{SIDE} threads 1: {why}" in said
    assert len(rows) == 2


def test_where_nothing_can_be_measured_the_first_reason_is_the_error(words, capsys):
    assert main([*words, "--precisions", "int8", "--runtimes", "torch", "--rounds", "1"]) == 2
    error = capsys.readouterr().err
    assert "none of 1 candidates could be measured. Change what the first lacks: torch computes in" in error


def test_each_memory_is_its_own(measured):
    """A candidate that comes after a large one is not charged for it."""
    large, small = (next(row for row in measured[0] if row["batch"] == batch) for batch in (16, 1))
    images_mib = 15 * SIDE * SIDE * 3 * 4 / 2**20  # as floats
    assert large["peak_mib"] - small["peak_mib"] > images_mib
    assert large["own_mib"] - small["own_mib"] > images_mib


def test_networks_stay_together_where_not_all_fit():
    subjects = subjects_of([], ["b0", "b1", "b2", "b3"])
    found = all_candidates(subjects, ["torch", "onnx", "openvino"], ["float32"], [], [1], [1])
    orders = [worker.Order(each, None, 0.3, Path("p.jpg"), Data()) for each in found]
    assert grouped(orders, 7) == [orders[:6], orders[6:]]
    assert grouped(orders, 2) == [orders[:3], orders[3:6], orders[6:9], orders[9:]]
    assert grouped(orders, 100) == [orders]


def test_a_process_that_ends_is_one_failure(ckpt, tmp_path):
    (candidate,) = all_candidates(subjects_of([str(ckpt("detection"))], []), ["torch"], ["float32"], [128], [1], [1])
    one = worker.Worker(worker.Order(candidate, None, 0.3, photograph(tmp_path), Data()))
    one._process.kill()
    with pytest.raises(worker.InputError, match="out of memory, or ended by another program"):
        one.runs(1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["pt2", "--runtimes", "onnx"], "runtimes is given, but there is no network that is exported here"),
        pytest.param(
            ["pt2", "--precisions", "float32"],
            "precisions is given, but there is no network that is exported here",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["pt2", "--image_sizes", "96"],
            "image_sizes is given, but there is no file of open size",
            marks=pytest.mark.slow,
        ),
        (["pt2", "--nms", "outside"], "nms is given, but there is no network with boxes that is exported"),
        (["pt2", "--masks", ".", "--mask_images", "."], "masks is given, but there is no trained network of pixels"),
        (["b0", "--nms", "outside"], "nms is given, but there is no network with boxes that is exported"),
        (["d0", "--runtimes", "torch", "--nms", "inside"], "nms is given, but there is no network with boxes that is"),
        (["b0", "--score_threshold", "0.1"], "score_threshold is given, but there is no network with boxes"),
        (["b0", "--calibration", "."], "calibration is given, but there is no file in int8 to export"),
        (["d0", "--annotations", "boxes.json"], "annotations is given, but there is no trained network with boxes"),
        (["b0", "--labels", "."], "labels is given, but there is no trained classifier; members have no top-1"),
        (["b0", "--label_separator", ";"], "label_separator is about a table of --labels, and none is given"),
        (["b0", "--mask_format", "index"], "mask_format is about the masks of --masks"),
        (["b0", "--mask_list", "some.txt"], "mask_list is about the masks of --masks"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_apply(exported, tmp_path, monkeypatch, capsys, given, expected):
    monkeypatch.chdir(tmp_path)
    Path("boxes.json").write_text("{}")
    network, *words = given
    which = ["--members", network]
    if network == "pt2":
        which = ["--ckpt_paths", str(exported("detection", "torch", image_size=(160, 224)))]
    assert main(["benchmark", *which, *words]) == 2
    assert expected in capsys.readouterr().err
    assert not Path("benchmark", "rounds.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--members", "d9"], "member 'd9' is unknown"),
        ([], "no network is given. Give --ckpt_paths, or --members"),
        (["--ckpt_paths", "gone.ckpt"], "gone.ckpt"),
        (["--ckpt_paths", "gone.onnx"], "there is no file 'gone.onnx'"),
        (["--ckpt_paths", "best"], "Give the path of the checkpoint"),
        (["--members", "d0", "--runtimes", "tensorrt"], "runtimes"),
        (["--members", "d0", "--image_sizes", "0"], "image_sizes"),
        (["--members", "d0", "--picture", "gone.jpg"], "there is no picture 'gone.jpg'"),
        (["--members", "d0", "--masks", "masks"], "Give both, or neither"),
        (["--members", "d0", "--images", "pictures"], "Give both, or neither"),
        (["--members", "d0", "--annotations", "gone.json"], "there is no file 'gone.json'"),
        (["--members", "d0", "--labels", "gone"], "there is no folder or CSV file 'gone'"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(given, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *given]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert expected in error
