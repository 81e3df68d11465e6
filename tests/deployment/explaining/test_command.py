"""`python -m deployment explain`: pictures and a list for every task, and what it refuses."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from deployment.__main__ import main
from tests.deployment.networks import TASKS, checkpoint, picture

KINDS = {"detection": {"box"}, "segmentation": {"class"}, "joint": {"box", "class"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("explain")
    for task in TASKS:
        checkpoint(task, place / f"{task}.ckpt")
    (place / "in").mkdir()
    Image.fromarray(picture(100, 150)).save(place / "in/a.png")
    Image.fromarray(picture(90, 70, seed=1)).save(place / "in/b.png")
    return place


@pytest.mark.parametrize("task", TASKS)
def test_pictures_and_their_list(task, folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["explain", "--ckpt_path", str(folder / f"{task}.ckpt"), "--source", str(folder / "in"), "--most", "2"]
    assert main([*words, "--output", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "explained.jsonl").read_text().splitlines() if line]
    assert {line["kind"] for line in lines} == KINDS[task]
    sizes = {"a": (150, 100), "b": (70, 90)}
    for name, size in sizes.items():
        own = [line for line in lines if line["picture"].startswith(f"{name}/")]
        assert 1 <= len(own) <= 2 * len(KINDS[task])
        for line in own:
            with Image.open(out / line["picture"]) as drawn:
                assert drawn.size == size
            assert 0 <= line["heat_inside"] <= 1
            assert 0 < line["inside_of_image"] <= 1
    assert f"{len(lines)} pictures of 2 images" in capsys.readouterr().out

    assert main([*words, "--output", str(out)]) == 2
    assert "holds explanations already" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read(folder, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    Image.fromarray(picture(90, 70)).save(tmp_path / "in/good.png")
    words = ["explain", "--ckpt_path", str(folder / "segmentation.ckpt"), "--source", str(tmp_path / "in")]
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    assert "1 of 2 could not be done" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/failed.jsonl").read_text())["source"].endswith("bad.png")
    assert "good/" in (tmp_path / "out/explained.jsonl").read_text()


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("segmentation", ["--image_size", "256"], "--image_size is for boxes"),
        ("segmentation", ["--score_threshold", "0.5"], "--score_threshold is for boxes"),
        ("detection", ["--classes", "[dog]"], "Give --classes some of car, person"),
        ("joint", ["--classes", "[dog]"], "Give --classes some of"),
        ("detection", ["--method", "scorecam"], "layercam"),
        ("detection", ["--most", "0"], "most"),
    ],
)
def test_what_is_refused(task, words, said, folder, tmp_path, capsys):
    given = ["explain", "--ckpt_path", str(folder / f"{task}.ckpt"), "--source", str(folder / "in")]
    assert main([*given, "--output", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
