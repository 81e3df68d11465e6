"""The listing of folders against a definition of its own: every file of the user once, in one order."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.reading.listing import find_images, walk

NAMES = ["a", "b", "A", ".hidden", "._a", "__MACOSX", "Thumbs.db", "é", "é", "x[1]"]
SUFFIXES = ["", ".jpg", ".JPG", ".png", ".txt"]

trees = st.recursive(
    st.none(),
    lambda inner: st.dictionaries(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(SUFFIXES)).map("".join), inner, max_size=5
    ),
    max_leaves=15,
).filter(lambda tree: tree is not None)


def write(folder, tree, order):
    folder.mkdir(exist_ok=True)
    entries = list(tree.items())
    order.shuffle(entries)
    for name, inner in entries:
        if inner is None:
            (folder / name).touch()
        else:
            write(folder / name, inner, order)


def expected(tree, at=""):
    """The paths of a tree, by recursion over what was written."""
    for name, inner in tree.items():
        if name[0] == "." or name in ("__MACOSX", "Thumbs.db"):
            continue
        if inner is None:
            yield at + name
        else:
            yield from expected(inner, f"{at}{name}/")


def listed(folder):
    return [path.relative_to(folder).as_posix() for path in walk(folder)]


@settings(max_examples=60, deadline=None)
@given(trees, st.randoms(use_true_random=False))
def test_every_file_once_in_one_order(tmp_path_factory, tree, order):
    folder = tmp_path_factory.mktemp("t")
    write(folder / "one", tree, order)
    write(folder / "other", tree, random.Random(3))
    assert sorted(listed(folder / "one")) == sorted(expected(tree))
    assert listed(folder / "one") == listed(folder / "other")


@settings(max_examples=60, deadline=None)
@given(trees, st.data())
def test_links_lead_to_each_folder_once(tmp_path_factory, tree, data):
    folder = tmp_path_factory.mktemp("t")
    write(folder / "in", tree, random.Random(1))
    write(folder / "out", tree, random.Random(1))
    places = [path for path in (folder / "in").rglob("*") if path.is_dir()] + [folder / "in"]
    goals = [*places, folder / "out", *(path for path in (folder / "out").rglob("*") if path.is_dir())]
    for number in range(data.draw(st.integers(0, 4))):
        link = data.draw(st.sampled_from(places)) / f"link{number}"
        link.symlink_to(data.draw(st.sampled_from(goals)))
    found = list(walk(folder / "in"))
    assert len({os.path.realpath(path) for path in found}) == len(found)
    inside = {path for path in found if path == Path(os.path.realpath(path))}
    # What lies there itself is listed at its own place, wherever links lead.
    assert {path.relative_to(folder / "in").as_posix() for path in inside} == set(expected(tree))


def test_a_circle_of_links_ends(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.jpg").touch()
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "first").symlink_to(tmp_path / "a")
    assert listed(tmp_path) == ["a/b/x.jpg"]
    assert listed(tmp_path / "first") == ["b/x.jpg"]


def test_what_is_left_out_is_counted(tmp_path, caplog):
    for name in ("a.jpg", "b.txt", "c.TXT", "d.xml", "e", ".f.txt", "sub/g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg"]
    assert f"5 files in '{tmp_path}' are left out: 3 .txt, 1 .xml, 1 without suffix" in caplog.messages
    assert f"1 links below '{tmp_path}' lead nowhere, such as '{tmp_path / 'gone.jpg'}'" in caplog.messages
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"holds no image, but 3 \.txt, 1 \.xml, 1 without suffix\. Give one with"):
        find_images(tmp_path)


def test_nothing_is_said_of_a_clean_folder(tmp_path, caplog):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "._a.jpg").touch()
    assert len(find_images(tmp_path)) == 1
    assert not caplog.messages


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"may not be read\. Change its rights"):
        list(walk(tmp_path))
