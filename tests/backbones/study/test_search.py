"""The grid search: the admissible triples, their cost, the place of the paper's triple, and the reader's own scores."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import torch

from backbones import networks
from backbones.scaling import PAPER, Coefficients, scaled_name
from backbones.study import search
from backbones.study.cost import count
from engine.errors import InputError


@pytest.mark.parametrize(("step", "tolerance"), [(0.05, 0.1), (0.1, 0.08), (0.025, 0.02)])
def test_admissible_is_the_constraint_on_a_grid(step, tolerance):
    found = {(each.alpha, each.beta, each.gamma) for each in search.admissible(step, tolerance)}
    values = np.round(np.arange(1, 2.5, step), 10)
    alpha, beta, gamma = np.meshgrid(values, values, values, indexing="ij")
    inside = np.abs(alpha * beta**2 * gamma**2 - 2) <= tolerance + 1e-9
    assert found == set(zip(alpha[inside], beta[inside], gamma[inside], strict=True))
    assert found


def test_evenness_is_the_entropy_of_the_shares():
    third = 2 ** (1 / 3)
    assert search.evenness(Coefficients(third, third**0.5, third**0.5)) == pytest.approx(1)
    assert search.evenness(Coefficients(2.0, 1.0, 1.0)) == 0
    assert search.evenness(Coefficients(1.0, 1.0, 1.0)) == 0
    shares = np.log([1.2, 1.1**2, 1.15**2]) / np.log(1.2 * 1.1**2 * 1.15**2)
    assert search.evenness(PAPER) == pytest.approx(-(shares * np.log(shares)).sum() / np.log(3))


@pytest.mark.parametrize("step", [0.05, 0.025, 0.01])
def test_the_papers_triple_is_in_the_leading_tenth(step):
    triples = search.admissible(step)
    assert PAPER in triples
    better = sum(search.evenness(each) > search.evenness(PAPER) for each in triples)
    assert better < len(triples) / 10


@pytest.fixture(scope="module")
def coarse():
    return search.grid(0.2, 0.1)


@pytest.mark.slow
def test_costs_are_those_of_the_networks(coarse):
    with torch.device("meta"):
        base = count(networks.create_classifier("tf_efficientnet_b0"), (224, 224))
    assert len(coarse) == len(search.admissible(0.2, 0.1))
    for each in coarse[::2]:
        with torch.device("meta"):
            network = networks.create_classifier(scaled_name(1, each.coefficients))
        assert each.cost == count(network, (each.image_size, each.image_size))
        assert each.growth == each.cost.macs / base.macs
        assert each.image_size == pytest.approx(224 * each.coefficients.gamma, abs=2)
    assert [each.score for each in coarse] == sorted((each.score for each in coarse), reverse=True)


@pytest.mark.slow
def test_the_whole_search_holds_the_papers_triple():
    candidates = search.grid()
    paper = candidates[search.find(candidates)]
    assert paper in search.leading(candidates)
    assert paper.growth == pytest.approx(PAPER.cost, rel=0.15)


def test_own_scores_take_the_place_of_evenness(monkeypatch):
    near = [Coefficients(*values) for values in itertools.product((1.2, 1.25), (1.1,), (1.15, 1.2))]
    monkeypatch.setattr(search, "admissible", lambda step, tolerance: near)
    accuracy = {near[0]: 76.0, near[1]: 75.5, near[3]: 77.0}
    found = search.grid(score=accuracy.get)
    assert [each.coefficients for each in found] == [near[3], near[0], near[1], near[2]]
    assert [each.score for each in found] == [77.0, 76.0, 75.5, None]
    assert search.leading(found) == found[:1]
    assert search.leading(found, 1.0) == found[:3]
    assert search.find(found) == 1
    assert search.find(found, Coefficients(1.9, 1.0, 1.0)) is None


def test_scores_go_through_a_file(coarse, tmp_path):
    path = tmp_path / "grid.csv"
    search.write_csv(path, coarse, scored=False)
    with pytest.raises(InputError, match="hold no score"):
        search.read_scores(path)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["growth"]) for line in lines] == pytest.approx([each.growth for each in coarse], abs=1e-4)
    lines[4]["score"] = "77.5"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    score = search.read_scores(path)
    assert [score(each.coefficients) for each in coarse] == [
        77.5 if index == 4 else None for index in range(len(coarse))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("", "lack the column alpha"),
        ("alpha,beta,gamma\n1,1,1\n", "lack the column score"),
        ("alpha,beta,gamma,score\n1.2,1.1,one,77\n", "line 2"),
        ("alpha,beta,gamma,score\n1.2,1.1,1.15,nan\n", "line 2"),
        (b"\xff\xfe\x00", "cannot read"),
    ],
)
def test_bad_score_files(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as error:
        search.read_scores(path)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("step", "tolerance"), [(0, 0.1), (0.6, 0.1), (float("nan"), 0.1), (0.05, 0), (0.05, 1)])
def test_values_out_of_range(step, tolerance):
    with pytest.raises(InputError, match="must"):
        search.grid(step, tolerance)


def test_a_grid_without_an_admissible_triple():
    with pytest.raises(InputError, match="smaller step"):
        search.grid(0.3, 0.001)
