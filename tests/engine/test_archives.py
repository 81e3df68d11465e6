"""Archives that unpack to far more than they are, whether they say so or lie, take no memory."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from engine.archives import check_size, read_member
from engine.errors import InputError

BOMB = 40_000_000


def archive(content, lie=None):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("a.png", content)
    opened = zipfile.ZipFile(held)
    if lie is not None:
        opened.getinfo("a.png").file_size = lie
    return opened


@pytest.mark.parametrize("lie", [None, 1000])
def test_a_bomb_takes_no_memory(lie):
    bomb = archive(bytes(BOMB), lie)
    tracemalloc.start()
    with pytest.raises((InputError, zipfile.BadZipFile)):
        read_member(bomb, "a.png")
    assert tracemalloc.get_traced_memory()[1] < BOMB / 10
    tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 5_000, 3_000_000])
def test_honest_members_come_back(size):
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert read_member(archive(content), "a.png") == content


def test_small_members_may_be_packed_well():
    assert read_member(archive(bytes(900_000)), "a.png") == bytes(900_000)


def test_no_file_is_larger_than_any_network():
    with pytest.raises(InputError, match="would unpack"):
        check_size(9 << 30, 9 << 30)
