"""Missing files are counted as looking for each one would, and a list that many processes write stays whole."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.bad_images import BadImage, BadImages, ReadableImages, check_present, missing_files
from engine.errors import InputError, SampleError

NAMES = st.text("ab.é 1", min_size=1, max_size=6).filter(lambda name: name.strip(".") == name and name.strip() == name)
TREES = st.lists(st.tuples(st.sampled_from(["", "x", "x/y", "z"]), NAMES, st.booleans()), max_size=60)


class Numbers:
    """Its images are numbers; some cannot be read."""

    name = "numbers"

    def __init__(self, count: int, bad: set[int], folder: Path = Path("in")) -> None:
        self.count, self.bad, self.folder = count, bad, folder

    def image_path(self, index: int) -> Path:
        return self.folder / f"{index}.png"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        if index in self.bad:
            msg = f"cannot read image '{index}.png'. Repair the file."
            raise SampleError(msg)
        return index


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_files_are_missing_exactly_where_they_do_not_exist(tree):
    with TemporaryDirectory() as folder:
        paths = []
        for parent, name, exists in tree:
            path = Path(folder, parent, name)
            paths.append(path)
            if exists and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        assert missing_files(paths) == [path for path in dict.fromkeys(paths) if not path.exists()]


def test_a_large_folder_is_listed_once_and_no_file_looked_up(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(300)]
    for path in paths:
        path.touch()
    with (
        mock.patch.object(Path, "exists", side_effect=AssertionError),
        mock.patch("os.scandir", wraps=os.scandir) as seen,
    ):
        assert missing_files(paths) == []
    assert seen.call_count == 1


def test_what_is_said_of_missing_files(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
    assert check_present(Numbers(4, set(), tmp_path), "stop") is None
    first = tmp_path / "4.png"
    found = f"1,196 of 1,200 images of 'numbers' are missing, the first is '{first}'."
    with pytest.raises(InputError) as error:
        check_present(Numbers(1200, set(), tmp_path), "stop")
    assert str(error.value).startswith(found)
    assert "--data.on_bad_image skip" in str(error.value)
    assert check_present(Numbers(1200, set(), tmp_path), "skip") == f"{found} They are left out."
    for folder, wording in ((tmp_path / "no" / "where", "no' does not exist"), (tmp_path, "2 of 2 images")):
        if folder == tmp_path:
            for path in tmp_path.iterdir():
                path.unlink()
        with pytest.raises(InputError, match=f"{wording}.* Give the folder"):
            check_present(Numbers(2, set(), folder), "skip")


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 12), data=st.data())
def test_the_next_readable_image_stands_in(count, data):
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    with TemporaryDirectory() as folder:
        listed = BadImages(Path(folder))
        images = ReadableImages(Numbers(count, bad), "train", listed)
        for index in range(count):
            assert images[index] == next(place % count for place in range(index, 2 * count) if place % count not in bad)
        assert {entry.image for entry in listed.read()} == {f"in/{number}.png" for number in bad}
        text = Path(folder, "bad_images.jsonl").read_text() if bad else ""
        lines = [line for line in text.splitlines() if line]
        assert len(lines) == len(bad)  # each once, however often it was met
        assert all(json.loads(line).keys() == {"split", "image", "error"} for line in lines)
        with pytest.raises(IndexError):
            images[count]


def test_without_a_list_the_first_one_is_the_end():
    images = ReadableImages(Numbers(3, {1}), "val", None)
    assert images[0] == 0
    with pytest.raises(
        SampleError, match=r"^cannot read image '1.png'. Repair the file, or go on without it: --data.on_b"
    ):
        images[1]


def _write(listed, start):
    for number in range(start, start + 200):
        listed.add(BadImage("train", f"{number}{'x' * 200}.png", "torn"))


def test_many_processes_write_one_list(tmp_path):
    listed = BadImages(tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(listed, start)) for start in (0, 100, 200, 300)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = listed.read()
    assert len(found) == 500
    line = listed.report(found, {})
    assert line.startswith("500 images could not be used: 500 of train; listed in ")
    assert len(listed.file.read_text().splitlines()) == 500
    again = BadImages(tmp_path)
    assert again.read() == []  # of the next part of the training
    again.add(found[7])
    again.add(BadImage("val", "new.png", "torn"))
    assert again.report(again.read(), {"val": 3}).startswith("2 images could not be used: 1 of train; 1 of val, whose")
    assert len(listed.file.read_text().splitlines()) == 501


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path):
    listed = BadImages(tmp_path)
    for name in "ab":
        listed.add(BadImage("val", f"{name}.png", "torn"))
    listed.file.write_bytes(listed.file.read_bytes()[:-9])
    listed.add(BadImage("val", "c.png", "torn"))
    assert [bad.image for bad in listed.read()] == ["a.png", "c.png"]


def test_a_list_without_a_run_is_gone_when_closed():
    listed = BadImages(None)
    listed.add(BadImage("val", "a.png", "torn"))
    assert listed.report(listed.read(), {"val": 5}) == (
        "1 image could not be used: 1 of val, whose scores are those of the other 4; a.png"
    )
    listed.close()
    assert not listed.file.parent.exists()


def test_a_list_that_cannot_be_written_is_one_short_error(tmp_path):
    (tmp_path / "bad_images.jsonl").mkdir()
    with pytest.raises(SampleError, match=r"cannot write '.*': Is a directory. Make room"):
        BadImages(tmp_path).add(BadImage("val", "a.png", "torn"))
