"""Tables, charts and cards of an analysis hold the numbers that a reader could count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detection.analysis.analysis import LEAST_DRAWN, analyse_boxes
from detection.analysis.mistakes import MISTAKES
from detection.analysis.sections import analysis_figures, analysis_sections
from detection.scores.metric import evaluate_boxes
from engine.reports.contents import Chart, Gallery, Matrix, Table
from tests.detection.analysis.test_mistakes import table_of, truth_of
from tests.detection.analysis.tide_oracle import CLASSES, scattered_set


class Grey:
    """Images of one grey, of which one cannot be read."""

    def name(self, image_id):
        return f"{image_id}.png"

    def pixels(self, image_id):
        return None if image_id == 3 else np.full((230, 240, 3), 99, np.uint8)


@pytest.fixture(scope="module")
def analysed():
    truths, found = scattered_set(5)
    truth, table = truth_of(truths), table_of(found)
    analysis = analyse_boxes(truth, table)
    scores = evaluate_boxes(truth, table)
    parts = [part for section in analysis_sections(analysis, scores, Grey()) for part in section.parts]
    return analysis, scores, {part.title: part for part in parts}, truths, found


def test_the_mean_curve_is_the_ap50_of_the_table(analysed):
    _, scores, parts, _, _ = analysed
    mean, *classes = parts["Precision and recall"].series
    assert mean.y.mean() == pytest.approx(scores.ap50, abs=1e-12)
    rows = parts["AP by class"].rows
    assert [row[1] for row in rows] == [scores.per_class[row[0]] for row in rows]
    assert [series.y.mean() for series in classes] == pytest.approx([row[3] for row in rows])
    assert np.mean([row[1] for row in rows]) == pytest.approx(scores.ap)


def test_the_threshold_is_marked_where_the_mean_f1_is_largest(analysed):
    analysis, _, parts, _, _ = analysed
    mark, *marks = parts["F1 over the least score"].marks
    assert (mark.x, mark.y) == (analysis.threshold.score, analysis.threshold.f1)
    assert max(parts["F1 over the least score"].series[0].y) <= mark.y + 1e-12
    rows = {row[0]: row for row in parts["AP by class"].rows}
    assert {each.class_name: (each.y, each.x) for each in marks} == {name: row[4:6] for name, row in rows.items()}
    best = next(figure for figure in analysis_figures(analysis) if figure.name == "best F1")
    assert best.value == mark.y


def test_mistakes_agree_in_all_tables(analysed):
    analysis, _, parts, truths, found = analysed
    kinds = {row[0]: row[2] for row in parts["Kinds of mistakes"].rows}
    pairs = parts["The most common mistakes"].rows
    for kind in MISTAKES:
        assert kinds[kind] == sum(row[3] for row in pairs if row[0] == kind)
    assert [row[3] for row in pairs] == sorted((row[3] for row in pairs), reverse=True)
    images = parts["Images, the worst first"]
    names = [column.name for column in images.columns]
    for kind in MISTAKES:
        assert kinds[kind] == sum(row[names.index(kind)] for row in images.rows)
    assert [row[1] for row in images.rows] == sorted(row[1] for row in images.rows)
    least = analysis.threshold.score
    kept = [row for row in found if row[6] >= least]
    assert sum(row[2] for row in images.rows) == len(truths)
    right = sum(row[3] for row in images.rows)
    # Each detection that is shown is right or one kind of mistake.
    assert right + sum(kinds[kind] for kind in MISTAKES if kind != "missed") == len(kept)
    matrix = parts["Confusion of classes"]
    assert np.trace(matrix.counts[:CLASSES, :CLASSES]) == right
    assert matrix.counts[:, :CLASSES].sum() == len(kept)
    missed = [row for row in pairs if row[0] == "missed"]
    assert all(row[2] is None and row[1] is not None for row in missed)
    assert all(row[1] != row[2] for row in pairs if row[0] == "wrong class")


def test_cards_show_the_boxes_of_their_images(analysed):
    analysis, _, parts, truths, found = analysed
    worst, chosen = parts["The worst images"], parts["A sample"]
    assert [card.score for card in worst.cards] == sorted(card.score for card in worst.cards)
    assert chosen.total == 30
    assert "3.png" not in {card.name for card in (*worst.cards, *chosen.cards)}
    for card in worst.cards:
        image = int(card.name.removesuffix(".png"))
        true = [box for box in card.boxes if box.origin == "truth"]
        assert sorted(box.box_xyxy[0] for box in true) == pytest.approx(
            sorted(row[2] for row in truths if row[0] == image), abs=0.006
        )
        shown = [box for box in card.boxes if box.origin == "prediction"]
        mine = sorted((row[6] for row in found if row[0] == image and row[6] >= LEAST_DRAWN), reverse=True)
        assert [box.score for box in shown] == pytest.approx(mine, abs=1e-4)
        counted = [box.mistake for box in card.boxes if box.mistake and (box.score or 1) >= analysis.threshold.score]
        said = {kind: counted.count(kind) for kind in MISTAKES if kind in counted}
        assert card.note == ", ".join(f"{number} {kind}" for kind, number in said.items())


def test_reliability_counts_every_detection(analysed):
    analysis, _, parts, _, found = analysed
    assert parts["Detections by score"].series[0].y.sum() == len(found)
    bars = parts["Reliability of the scores"].series[0]
    in_bin = [row[6] for row in found if 0.3 <= row[6] < 0.4]
    right = analysis.compared.scores[analysis.matching.right]
    assert bars.y[3] == pytest.approx(((right >= 0.3) & (right < 0.4)).sum() / len(in_bin))


def test_nothing_found_and_nothing_annotated():
    truths, found = scattered_set(6)
    for kept, seen in ((truths, []), ([], found), ([], [])):
        truth, table = truth_of(kept), table_of(seen)
        analysis = analyse_boxes(truth, table)
        sections = analysis_sections(analysis, evaluate_boxes(truth, table), Grey())
        kinds = {type(part) for section in sections for part in section.parts}
        assert {Chart, Matrix, Table, Gallery} == kinds
        figures = {figure.name: figure.value for figure in analysis_figures(analysis)}
        assert "best F1" not in figures
        assert (figures["calibration error"] is None) == (not seen)
