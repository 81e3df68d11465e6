"""A command that names a former config runs as the present one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.former import with_present_configs
from engine.tasks import FormerConfig

TABLE = {"coco_d4": FormerConfig("coco", "--model.member d4 --data.batch_size 8")}
OPTIONS = ["--model.member", "d4", "--data.batch_size", "8"]


def present(*argv):
    return with_present_configs(argv, "detection", TABLE)


@pytest.mark.parametrize("place", ["", "configs/detection/", "detection/", "../configs/detection/", "/data/detection/"])
@pytest.mark.parametrize("end", ["", ".yaml"])
def test_a_former_file_becomes_the_present_one_and_its_options(place, end):
    words, notes = present("fit", "--config", f"{place}coco_d4{end}", "--data.root", "COCO")
    assert words == ["fit", "--config", f"{place}coco{end}", *OPTIONS, "--data.root", "COCO"]
    assert notes == [f"{place}coco_d4{end} is now --config {place}coco{end} --model.member d4 --data.batch_size 8"]


def test_the_short_option_is_taken_too():
    assert present("fit", "-c", "coco_d4")[0] == ["fit", "-c", "coco", *OPTIONS]


def test_one_word_with_an_equals_sign_is_taken_too():
    words, notes = present("fit", "--config=detection/coco_d4.yaml")
    assert words == ["fit", "--config=detection/coco.yaml", *OPTIONS]
    assert len(notes) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["fit", "--config", "detection/coco.yaml"],
        ["fit", "--config", "segmentation/coco_d4.yaml"],  # of another task
        ["fit", "--config", "mine/coco_d4.yaml"],
        ["fit", "--config", "detection/coco_d4.json"],
        ["predict", "--source", "detection/coco_d4"],  # a folder of pictures
        ["fit", "--config"],
        [],
    ],
)
def test_everything_else_stays(argv):
    assert present(*argv) == (argv, [])


def test_a_file_that_exists_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("detection/coco_d4.yaml")
    own.parent.mkdir()
    own.touch()
    argv = ["fit", "--config", str(own)]
    assert present(*argv) == (argv, [])


def test_two_former_files_are_both_exchanged():
    words, notes = present("fit", "--config", "detection/coco_d4", "--config", "detection/coco_d4")
    assert words == ["fit", *["--config", "detection/coco", *OPTIONS] * 2]
    assert len(notes) == 2
