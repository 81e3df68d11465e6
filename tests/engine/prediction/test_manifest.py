"""Each entry is a whole line, after a crash and with several writers too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.prediction.manifest import Manifest

ROOT = Path(__file__).parents[3]


def test_entries_come_back_in_order(tmp_path):
    manifest = Manifest(tmp_path / "done.jsonl")
    assert list(manifest.entries()) == []
    entries = [{"source": "ü/b.png", "values": [1.5, None]}, {"source": "a\n.png"}, {"other": {}}]
    for entry in entries:
        manifest.add(entry)
    assert list(manifest.entries()) == entries
    # The lines that any reader of JSON lines sees.
    lines = (tmp_path / "done.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines if line] == entries


def test_the_last_entry_of_each_key_counts(tmp_path):
    manifest = Manifest(tmp_path / "done.jsonl")
    assert list(manifest.latest("source")) == []
    for source, number in (("b", 1), ("ä", 2), ("b", 3), ("a", 4)):
        manifest.add({"source": source, "number": number})
    manifest.add({"number": 5})
    assert [entry["number"] for entry in manifest.latest("source")] == [4, 3, 2]


@pytest.mark.parametrize("cut", [1, 7, 22])
def test_a_line_cut_short_costs_only_itself(tmp_path, cut):
    path = tmp_path / "done.jsonl"
    manifest = Manifest(path)
    manifest.add({"source": "a"})
    whole = path.read_bytes()
    manifest.add({"source": "b", "more": 1})
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    manifest.add({"source": "c"})
    assert [entry["source"] for entry in manifest.entries()] == ["a", "c"]
    assert [entry["source"] for entry in manifest.latest("source")] == ["a", "c"]


def test_what_is_no_entry_is_passed_over(tmp_path):
    path = tmp_path / "done.jsonl"
    path.write_bytes(b'[1]\n7\n\n\xff\xfe\n{"source": "a"}\n"source"')
    assert list(Manifest(path).entries()) == [{"source": "a"}]


WRITE = """
import sys
from engine.prediction.manifest import Manifest
manifest, name = Manifest(sys.argv[1]), sys.argv[2]
for number in range(100):
    manifest.add({"source": f"{name}-{number}", "filler": name * 30_000})
"""


def test_processes_that_write_at_a_time_do_not_mix(tmp_path):
    path = tmp_path / "done.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), name], cwd=ROOT) for name in "xyz"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    entries = list(Manifest(path).entries())
    assert len(entries) == 300
    assert {entry["source"] for entry in entries} == {f"{name}-{number}" for name in "xyz" for number in range(100)}
    assert all(entry["filler"] == entry["source"][0] * 30_000 for entry in entries)


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*No such file or directory.*Give a folder"):
        Manifest(tmp_path / "none/done.jsonl").add({})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Manifest(tmp_path / "done.jsonl").add({"score": float("nan")})
    assert not (tmp_path / "done.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said():
    with pytest.raises(InputError, match="No space left"):
        Manifest("/dev/full").add({"source": "a"})
