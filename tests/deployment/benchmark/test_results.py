"""Figures from runs, the Pareto front, the sentence at the end, and the forms of the report."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment.benchmark.candidates import Candidate, Subject, all_candidates
from deployment.benchmark.report import write_report
from deployment.benchmark.results import Row, advice, front, row_of
from deployment.benchmark.rounds import Measured
from deployment.benchmark.stages import Stages
from engine.errors import InputError
from engine.hardware.machine import machine

SUBJECT = Subject("member", "d0", "d0", "detection", "", (512, 512))


def candidate(name: str = "d0", **changes: object) -> Candidate:
    subject = replace(SUBJECT, name=name, task=changes.pop("task", "detection"))
    return replace(Candidate(subject, "onnx", "float32", (512, 512), 1, 1), **changes)


def row(name: str, milliseconds: float, scores: dict[str, float] | None = None, macs: int | None = 1, **changes) -> Row:
    runs = [Stages(0.0, 0.0, milliseconds / 1000, 0.0)]
    return row_of(
        candidate(name, **changes), Measured(runs, {0}), parameters=1, macs=macs, file_bytes=None, scores=scores or {}
    )


def test_figures_are_those_of_the_runs():
    runs = [Stages(0.001, 0.002, 0.01 * (number + 1), 0.003) for number in range(100)]
    found = row_of(
        candidate(batch=4), Measured(runs, {0}, 0.5, 0.2, 900.0, 700.0), parameters=1, macs=1, file_bytes=2, scores={}
    )
    assert found.stages_ms == pytest.approx((1, 2, 505, 3))
    assert found.median_ms == pytest.approx(511)
    assert found.p95_ms == pytest.approx(6 + 10 * 95.05)  # between the 95th and the 96th of 100
    assert found.minimum_ms == pytest.approx(16)
    assert found.network_minimum_ms == pytest.approx(10)
    assert found.images_per_second == pytest.approx(4 / 0.511)
    assert found.own_mib == 200
    assert (found.load_ms, found.first_ms, found.runs) == (500, 200, 100)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_else_beats(points):
    rows = [row(f"n{place}", float(time), {"AP": worth / 10}) for place, (time, worth) in enumerate(points)]
    expected = {
        (time, worth)
        for time, worth in points
        if not any(a <= time and b >= worth and (a, b) != (time, worth) for a, b in points)
    }
    found = [(round(each.ms_per_image), round(10 * each.scores["AP"])) for each in front(rows)]
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found == sorted(found)


def test_without_accuracy_macs_are_weighed_and_unknown_ones_left_out():
    rows = [row("a", 10, macs=5), row("b", 20, macs=5), row("c", 30, macs=9), row("d", 1, macs=None)]
    assert [each.candidate.subject.name for each in front(rows)] == ["a", "c"]


def test_a_score_that_does_not_exist_is_no_accuracy():
    assert row("a", 1, {"AP": -1.0}).accuracy is None
    assert row("a", 1, {"AP": 0.4, "mIoU": math.nan}).accuracy == 0.4
    assert row("a", 1, {"AP": 0.4, "mIoU": 0.6}).accuracy == pytest.approx(0.5)


def test_advice_takes_the_fastest_of_what_is_about_as_accurate():
    rows = [
        row("large", 100, {"AP": 0.500}),
        row("small", 20, {"AP": 0.493}),
        row("smaller", 10, {"AP": 0.470}),
    ]
    said = advice(rows)
    assert said.startswith(
        "Take small onnx 512x512 on 1 thread, because with 20 ms an image and AP 0.493 it lacks 0.007"
    )
    assert said.endswith("the most accurate, large onnx 512x512 on 1 thread, and takes 0.20 of its time.")
    assert "what is faster, such as smaller" in advice([rows[0], rows[2]])
    assert "both the most accurate and the fastest" in advice([rows[1], row("slow", 30, {"AP": 0.2})])


def test_advice_without_accuracy_says_so_and_changes_no_answers():
    rows = [row("d0", 10), row("d0", 5, runtime="openvino"), row("d0", 1, precision="int8")]
    said = advice(rows)
    assert said.startswith("Take d0 openvino 512x512")
    assert "d0 onnx 512x512 on 1 thread takes 2.00 of its time" in said
    assert "no accuracy was measured" in said
    more = [*rows, row("d1", 30), row("d1", 40, runtime="openvino"), row("d2", 9), row("d2", 10, runtime="openvino")]
    assert advice(more).startswith("Take onnx, because it is the fastest for 2 of 3 networks")
    each = advice([row("d0", 10, {"AP": 0.3}), row("b0", 5, {"mIoU": 0.3}, task="segmentation")])
    assert [line.partition(": Take ")[0] for line in each.splitlines()] == ["detection", "segmentation"]


def test_every_combination_is_a_candidate_once():
    member, file = SUBJECT, replace(SUBJECT, kind="file", source="a.onnx", name="a.onnx", fixed_hw=(320, 320))
    found = all_candidates([member, file], ["torch", "onnx"], ["float32"], [512, (256, 384)], [1, 8], [1, 2])
    assert len(found) == 2 * 2 * 2 * 2 + 2 * 2  # a file has one runtime, and this one has one size
    assert {each.size_hw for each in found if each.subject.kind == "file"} == {(320, 320)}
    assert len({each.key for each in found}) == len(found)
    assert [each.size_hw for each in all_candidates([member], ["onnx"], ["float32"], [], [1], [1])] == [(512, 512)]
    with pytest.raises(InputError, match="asked for twice"):
        all_candidates([member], ["onnx"], ["float32"], [512, (512, 512)], [1], [1])
    with pytest.raises(InputError, match="no network is given"):
        all_candidates([], ["onnx"], ["float32"], [], [1], [1])


def test_a_report_in_all_forms(tmp_path):
    rows = [row("large", 100, {"AP": 0.5}), row("small", 20, {"AP": 0.45}), row("bad", 200, {"AP": 0.1})]
    about = {"machine": machine(), "nms": "inside"}
    text = write_report(tmp_path, rows, about, {"d7 onnx": "too large"}, ["3 rounds"])
    assert text == (tmp_path / "benchmark.txt").read_text().rstrip("\n")
    assert "left out: d7 onnx: too large" in text
    with (tmp_path / "benchmark.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [(each["label"], each["ap"], each["front"]) for each in read] == [
        ("large onnx 512x512", "0.5", "True"),
        ("small onnx 512x512", "0.45", "True"),
        ("bad onnx 512x512", "0.1", "False"),
    ]
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert [each["median_ms"] for each in content["rows"]] == pytest.approx([100, 20, 200])
    assert content["advice"] == text.splitlines()[-1]
    page = (tmp_path / "benchmark.md").read_text()
    assert page.count("| large onnx 512x512 |") == 1
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_the_processor_is_read_from_linux(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: A Processor\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n")
    about = machine(cpuinfo)
    assert about["processor"] == "A Processor"
    assert about["flags"] == ["avx2", "avx512_vnni", "amx_int8"]
