"""Prediction with Ray Data: each image is done once even if workers die, and never again; faults are reported."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from PIL import Image

from engine.errors import InputError, OutputError
from joint.prediction import ray_predict
from joint.prediction.predictor import JointPredictor, load
from joint.prediction.ray_predict import Worker, main, predict_folder
from tests.joint.tiny_network import OBJECTS, SURFACES, tiny_network, write_checkpoint

THRESHOLD = 0.9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tiny_network(), tmp_path_factory.mktemp("ray") / "joint.ckpt")


def write_images(folder, count, size_hw=(24, 40)):
    """Pictures in many folders, all different."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 7}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        patches = Image.fromarray(rng.integers(0, 256, (3, 5, 3), dtype=np.uint8))
        patches.resize(size_hw[::-1], Image.Resampling.BICUBIC).save(path, compress_level=1)
    return folder


def manifest_sources(output):
    lines = (output / "finished.jsonl").read_text().splitlines()
    return [json.loads(line)["source"] for line in lines if line]


def assert_complete(output, images, count):
    """Every image stands once in the manifest, and all of its files exist."""
    paths = sorted(images.rglob("*.png"))
    sources = manifest_sources(output)
    assert len(sources) == len(set(sources)) == count
    assert set(sources) <= {str(path) for path in paths}
    for source in sources:
        name = output / source.removeprefix(f"{images}/").removesuffix(".png")
        with Image.open(f"{name}.png") as mask, Image.open(f"{name}_overlay.jpg") as overlay:
            assert set(np.unique(np.array(mask))) <= {7, 26, 21}
            assert overlay.width >= mask.width
    document = json.loads((output / "detections.json").read_text())
    assert len(document["images"]) == count
    assert {a["image_id"] for a in document["annotations"]} <= {image["id"] for image in document["images"]}
    assert len({a["id"] for a in document["annotations"]}) == len(document["annotations"])
    assert len((output / "areas.csv").read_text().splitlines()) == 1 + 3 * count
    left = [path.name for path in output.rglob("*") if path.name.startswith(".")]
    assert not left  # no temporary file


def test_a_worker_says_what_it_found_and_what_it_could_not_read(checkpoint, tmp_path):
    images = write_images(tmp_path / "in", 3)
    (images / "1/1.png").write_bytes(b"no picture")
    job = ray_predict.Job(
        str(checkpoint), str(tmp_path / "out"), ray_predict.JointResults(OBJECTS, SURFACES), (128, 256), "full",
        ray_predict.Postprocess(score_threshold=THRESHOLD), "cpu", 1,
    )  # fmt: skip
    paths = sorted(map(str, images.rglob("*.png")))
    outputs = [json.dumps([f"{number}.png", f"{number}_overlay.jpg"]) for number in range(3)]
    told = Worker(job)({"path": np.array(paths, dtype=object), "outputs": np.array(outputs, dtype=object)})
    entries = {entry["source"]: entry for entry in map(json.loads, told["line"])}
    assert sorted(entries) == paths
    assert "cannot read image" in entries[paths[1]]["error"]
    network = load(checkpoint)
    for number in (0, 2):
        entry, both = entries[paths[number]], network.predict(paths[number], score_threshold=THRESHOLD)
        np.testing.assert_allclose(entry["boxes_xyxy"], both.found.boxes_xyxy, atol=0.01)
        np.testing.assert_allclose(entry["scores"], both.found.scores, atol=1e-4)
        assert entry["size_hw"] == [24, 40]
        mask = np.array(Image.open(tmp_path / f"out/{number}.png"))
        assert (mask == both.segmented.label_ids).mean() > 0.99
        assert sum(entry["pixels"]) == 24 * 40
        assert entry["outputs"] == json.loads(outputs[number])
    assert not (tmp_path / "out/1.png").exists()


class Cluster:
    """The part of Ray that is used."""

    @staticmethod
    def cluster_resources():
        return {"CPU": 1.0}


@pytest.fixture
def one_process(monkeypatch):
    """Workers in this process.

    Their report on the first piece comes twice, as after the death of a worker. An image with `deadly` in its name
    kills its worker, and the piece that it is part of is lost.
    """

    def lines(items, job, pool):
        worker, again, size = Worker(job), [], 1 if pool.alone else 2
        paths = list(items)
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            if any("deadly" in path for path in part):
                continue
            columns = {"path": part, "outputs": [items[path] for path in part]}
            told = worker({name: np.array(values, dtype=object) for name, values in columns.items()})["line"].tolist()
            again = again or told
            yield from told
        yield from again

    monkeypatch.setattr(ray_predict, "_start", lambda address: Cluster)
    monkeypatch.setattr(ray_predict, "_lines", lines)


def test_each_image_is_noted_once_and_a_rerun_does_nothing(checkpoint, tmp_path, one_process, monkeypatch):
    images, output = write_images(tmp_path / "in", 5), tmp_path / "out"
    settings = {"score_threshold": THRESHOLD, "progress": False}
    summary = predict_folder(str(checkpoint), str(images), str(output), **settings)
    assert (summary.images, summary.done, summary.failed) == (5, 5, {})
    assert_complete(output, images, 5)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    monkeypatch.setattr(ray_predict, "_start", None)  # is not even asked for
    assert predict_folder(str(checkpoint), str(images), str(output), **settings).done == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_what_a_crash_left_undone_is_done(checkpoint, tmp_path, one_process):
    images, output = write_images(tmp_path / "in", 5), tmp_path / "out"
    settings = {"score_threshold": THRESHOLD, "progress": False, "pictures": True}
    predict_folder(str(checkpoint), str(images), str(output), **settings)
    whole = (output / "detections.json").read_bytes()
    book = output / "finished.jsonl"
    book.write_bytes(book.read_bytes()[:-60])  # the last line is cut short
    assert predict_folder(str(checkpoint), str(images), str(output), **settings).done == 1
    assert (output / "detections.json").read_bytes() == whole
    (output / "3/3.png").unlink()
    assert predict_folder(str(checkpoint), str(images), str(output), **settings).done == 1
    with pytest.raises(InputError, match=r"other settings: postprocess was .*Give another --output"):
        predict_folder(str(checkpoint), str(images), str(output), score_threshold=0.5)
    settings["overwrite"] = True
    assert predict_folder(str(checkpoint), str(images), str(output), **settings).done == 5


def test_a_corrupt_image_is_reported(checkpoint, tmp_path, one_process, capsys):
    images, output = write_images(tmp_path / "in", 4), tmp_path / "out"
    (images / "2/2.png").write_bytes((images / "2/2.png").read_bytes()[:60])
    command = [
        "--ckpt_path", str(checkpoint), "--source", str(images), "--output", str(output), "--progress", "false",
        "--score-threshold", str(THRESHOLD),
    ]  # fmt: skip
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "1 of 4 could not be done: cannot read image" in error
    assert error.count("2.png") == 1
    assert "Traceback" not in error
    failed = [json.loads(line) for line in (output / "failed.jsonl").read_text().splitlines() if line]
    assert [entry["source"] for entry in failed] == [str(images / "2/2.png")]
    assert sorted(manifest_sources(output)) == sorted(str(images / f"{n}/{n}.png") for n in (0, 1, 3))
    # Once it is repaired, it is done, and no failure is left.
    shutil.copy(images / "1/1.png", images / "2/2.png")
    assert main(command) == 0
    assert not (output / "failed.jsonl").exists()
    assert_complete(output, images, 4)


def test_an_image_that_kills_its_worker_takes_no_other_with_it(checkpoint, tmp_path, one_process):
    images, output = write_images(tmp_path / "in", 6), tmp_path / "out"
    (images / "2/2.png").rename(images / "2/deadly.png")
    summary = predict_folder(str(checkpoint), str(images), str(output), score_threshold=THRESHOLD, progress=False)
    assert (summary.images, summary.done) == (6, 5)
    assert summary.failed == {str(images / "2/deadly.png"): "it killed its worker 3 times."}
    assert_complete(output, images, 5)


@pytest.mark.slow
def test_a_fault_of_a_batch_is_tried_image_by_image(checkpoint, tmp_path, one_process, monkeypatch):
    images, output = write_images(tmp_path / "in", 4), tmp_path / "out"
    whole = JointPredictor.run

    def short_of_memory(predictor, samples):
        if len(samples) > 1:
            msg = "CUDA out of memory.\nTried to allocate"
            raise RuntimeError(msg)
        return whole(predictor, samples)

    monkeypatch.setattr(JointPredictor, "run", short_of_memory)
    settings = {"score_threshold": THRESHOLD, "progress": False}
    assert predict_folder(str(checkpoint), str(images), str(output), **settings).failed == {}
    assert_complete(output, images, 4)

    def broken(*_, **__):
        msg = "no kernel\nfor this"
        raise RuntimeError(msg)

    monkeypatch.setattr(JointPredictor, "run", broken)
    summary = predict_folder(str(checkpoint), str(images), str(output), overwrite=True, **settings)
    assert summary.done == 0
    assert set(summary.failed.values()) == {"RuntimeError: no kernel"}


def test_a_full_disk_stops_all(checkpoint, tmp_path, one_process, monkeypatch):
    images, output = write_images(tmp_path / "in", 4), tmp_path / "out"

    def full(*_):
        msg = "cannot write 'x.png': No space left on device."
        raise OutputError(msg)

    monkeypatch.setattr(ray_predict, "write_source", full)
    with pytest.raises(InputError, match="No space left"):
        predict_folder(str(checkpoint), str(images), str(output), progress=False)
    assert manifest_sources(output) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers is 0; allowed: .*at least 1"),
        ({"cpus": 0}, "cpus is 0; allowed: a number above 0"),
        ({"detect": False, "segment": False}, "neither objects nor classes"),
        ({"image_size": 8}, "image_size is 8; give at least 32"),
        ({"score_threshold": 2}, "score_threshold is 2"),
        ({"source": "none"}, "'none' does not exist"),
        ({"ckpt_path": "none.ckpt"}, "there is no checkpoint 'none.ckpt'"),
    ],
)
def test_wrong_input_gets_a_short_answer(checkpoint, tmp_path, given, message):
    images = write_images(tmp_path / "in", 1)
    settings = {"ckpt_path": str(checkpoint), "source": str(images), "output": str(tmp_path / "out")} | given
    with pytest.raises(InputError, match=message):
        predict_folder(**settings)


def test_without_ray_the_remedy_is_said(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    images = write_images(tmp_path / "in", 1)
    with pytest.raises(InputError, match=r"Ray is not installed\. Run: pip install 'effdense\[ray\]'"):
        predict_folder(str(checkpoint), str(images), str(tmp_path / "out"))


def kill_a_worker_at(output, count, killed):
    """Kill a Ray worker of this process, as the failure of a machine would, once this many images are recorded."""
    book = output / "finished.jsonl"
    deadline = time.monotonic() + 500
    while time.monotonic() < deadline:
        if book.exists() and book.read_bytes().count(b'"source"') >= count:
            children = psutil.Process().children(recursive=True)
            workers = [child for child in children if "MapBatches(Worker)" in " ".join(child.cmdline())]
            if workers:
                workers[0].kill()
                killed.append((workers[0].pid, len(manifest_sources(output))))
                return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_images_with_a_worker_killed_half_way(checkpoint, tmp_path):
    ray = pytest.importorskip("ray")
    images, output = write_images(tmp_path / "in", 2000), tmp_path / "out"
    corrupt = images / "3/1480.png"
    corrupt.write_bytes(b"no picture")
    settings = {
        "ckpt_path": str(checkpoint), "source": str(images), "output": str(output), "score_threshold": THRESHOLD,
        "workers": 2, "batch_size": 8, "progress": False,
    }  # fmt: skip
    killed = []
    killer = threading.Thread(target=kill_a_worker_at, args=(output, 1000, killed), daemon=True)
    killer.start()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    try:
        summary = predict_folder(**settings)
        killer.join(5)
        assert len(killed) == 1
        assert 1000 <= killed[0][1] < 1900
        assert list(summary.failed) == [str(corrupt)]
        assert (summary.images, summary.done) == (2000, 1999)
        assert_complete(output, images, 1999)
        corrupt.unlink()
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        assert predict_folder(**settings).done == 0
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    finally:
        ray.shutdown()
    assert Counter(manifest_sources(output)).most_common(1)[0][1] == 1


def test_the_former_name_of_an_option(capsys):
    assert ray_predict.main(["--overlay", "perhaps"]) == 2
    said = capsys.readouterr().err
    assert "overlay is now called pictures" in said
    assert "--pictures is 'perhaps'" in said
