"""What a report takes from a run's folder, and two reports in one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import InputError
from engine.reports.compare import compare_reports
from engine.reports.contents import Chart, Column, Gallery, Matrix, Provenance, Section, Series, Table
from engine.reports.runs import provenance, require_run, training_section
from engine.reports.write import render
from tests.engine.reports.sample import CLASSES, card, sample_report


def test_curves_of_a_run_that_was_resumed(tmp_path):
    (tmp_path / "metrics.1.csv").write_text(
        "epoch,step,train_loss,val_loss\n0,9,3.0,\n0,19,2.0,\n0,19,,2.5\n1,29,9.0,\n"
    )
    (tmp_path / "metrics.csv").write_text("epoch,lr-SGD,step,train_loss,val_ap\n1,,29,1.0,\n,0.1,29,,\n1,,29,,0.5\n")
    section = training_section(tmp_path)
    assert section is not None
    loss, scores, rate = section.parts
    found = {series.name: (series.x.tolist(), series.y.tolist()) for series in loss.series}
    assert found == {"train_loss": ([9, 19, 29], [3, 2, 1]), "val_loss": ([19], [2.5])}
    assert [(s.name, s.x.tolist(), s.y.tolist()) for s in scores.series] == [("val_ap", [29], [0.5])]
    assert [(s.name, s.y.tolist()) for s in rate.series] == [("lr-SGD", [0.1])]


def test_a_long_curve_is_binned(tmp_path):
    steps = "".join(f"0,{step},{step % 2}\n" for step in range(100_000))
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss\n" + steps)
    (series,) = training_section(tmp_path).parts[0].series
    assert len(series.x) == 400
    np.testing.assert_allclose(series.y, 0.5)
    assert series.x[0] == 124.5  # the mean of the first 250 steps


def test_a_run_without_numbers_has_no_curves(tmp_path):
    assert training_section(tmp_path) is None
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss\n0,0,abc\n")
    with pytest.raises(InputError, match=r"metrics.csv' cannot be read"):
        training_section(tmp_path)


def test_how_a_run_came_about(tmp_path):
    with pytest.raises(InputError, match="no folder of a run"):
        require_run(tmp_path)
    assert provenance(tmp_path) == Provenance()
    (tmp_path / "config.yaml").write_text("model: {member: d0}\n")
    stored = {"command": "python -m detection fit", "commit": "abc-dirty", "versions": {"torch": "2.15"}}
    (tmp_path / "versions.json").write_text(json.dumps(stored))
    assert require_run(tmp_path) == tmp_path / "config.yaml"
    found = provenance(tmp_path)
    assert found == Provenance(stored["command"], "model: {member: d0}\n", {"commit": "abc-dirty", "torch": "2.15"})
    (tmp_path / "versions.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        provenance(tmp_path)


def of_title(report, title):
    return [part for section in report.sections for part in section.parts if part.title.startswith(title)]


def test_two_reports_side_by_side():
    first = sample_report()
    chart, *rest = first.sections[0].parts
    table = rest[-1]
    higher = replace(table, rows=tuple((row[0], row[1] + 0.25, *row[2:]) for row in table.rows[:2]))
    second = replace(
        first,
        figures=(replace(first.figures[0], value=0.5), first.figures[1]),
        sections=(
            Section("Scores", (chart, *rest[:-1], higher)),
            Section("Images", (Gallery("Worst images", (replace(card(3), score=0.9), card(50)), 300),)),
        ),
        provenance=Provenance("python -m detection fit --x", "model: {member: d1, list: [1, 2]}", {"torch": "2.16"}),
    )
    first = replace(first, provenance=Provenance("", "model: {member: d0, list: [1, 2]}", {"torch": "2.15"}))
    both = compare_reports(first, second, ("one", "two"))

    (figures,) = of_title(both, "Key figures")
    assert [row[:3] for row in figures.rows] == [("AP", 0.4321, 0.5), ("AP50", None, None)]
    assert figures.rows[0][3] == pytest.approx(0.5 - 0.4321)
    assert figures.rows[1][3] is None
    assert [column.kind for column in figures.columns] == ["text", "share", "share", "share", "text"]
    (curves,) = of_title(both, "Precision and recall")
    assert isinstance(curves, Chart)
    assert [series.name for series in curves.series][:2] == [f"{CLASSES[0]}: one", f"{CLASSES[0]}: two"]
    assert [(series.color, series.dashed) for series in curves.series][2:4] == [(1, False), (1, True)]
    assert [part.title for part in of_title(both, "Scores")] == ["Scores: one", "Scores: two"]  # bars
    assert [part.title for part in of_title(both, "Confusion")] == ["Confusion: one", "Confusion: two"]
    (classes,) = of_title(both, "Classes")
    heads = [column.name for column in classes.columns]
    assert heads[:4] == ["class", "AP: one", "AP: two", "AP: difference"]
    assert heads[-2:] == ["worst mistake: one", "worst mistake: two"]
    assert [column.kind for column in classes.columns[1:7]] == ["score", "score", "share", "count", "count", "count"]
    assert len(classes.rows) == 2
    assert [row[3] for row in classes.rows] == pytest.approx([0.25, 0.25])
    (images,) = of_title(both, "Worst images")
    assert [shown.name for shown in images.cards] == ["image 3.png: one", "image 3.png: two"]
    (settings,) = of_title(both, "Settings")
    assert settings.rows == (("model.member", "d0", "d1"), ("torch", "2.15", "2.16"))
    assert render(both)


def test_tables_whose_rows_cannot_be_told_apart_stand_beside_each_other():
    twice = Table("t", (Column("class"), Column("n", "count")), (("a", 1), ("a", 2)))
    other = replace(twice, rows=(("a", 3),))
    reports = [replace(sample_report(), sections=(Section("s", (table,)),)) for table in (twice, other)]
    assert [table.rows for table in of_title(compare_reports(*reports, ("x", "y")), "t:")] == [twice.rows, other.rows]


def test_what_only_one_report_has_is_left_out():
    lone = Matrix("lone", "r", "c", ("a",), ("a",), np.eye(1))
    curve = Chart("curve", "x", "y", (Series("s", np.arange(3.0), np.arange(3.0)),))
    first = replace(sample_report(), sections=(Section("s", (lone, curve)), Section("only", (curve,))))
    both = compare_reports(first, replace(first, sections=(Section("s", (curve,)),)), ("x", "y"))
    assert [section.title for section in both.sections] == ["Key figures", "s", "Differences of the runs"]
    assert [part.title for part in both.sections[1].parts] == ["curve"]
