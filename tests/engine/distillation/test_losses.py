"""The distances of a student from a teacher, against NumPy's own words for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from engine.distillation.losses import channel_distance, map_distance, score_distance
from engine.distillation.teachers import Teachers, check_same_lessons, fingerprint
from engine.errors import InputError


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 3, 5, 7, generator=generator) * 3 + 1 for _ in range(2))


def test_distance_of_maps_is_one_less_the_correlation(pair):
    student, teacher = pair
    flat = [maps.permute(1, 0, 2, 3).flatten(1).numpy() for maps in pair]
    wanted = np.mean([1 - np.corrcoef(own, other)[0, 1] for own, other in zip(*flat, strict=True)])
    assert float(map_distance(student, teacher)) == pytest.approx(wanted, rel=1e-4)
    assert float(map_distance(teacher * 5 - 2, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(map_distance(-teacher, teacher)) == pytest.approx(2, rel=1e-4)


def test_constant_maps_have_a_finite_gradient():
    student = torch.zeros(1, 2, 1, 1, requires_grad=True)
    map_distance(student, torch.ones(1, 2, 1, 1)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distance_of_channels_is_the_divergence_over_places(pair, temperature):
    own, other = (maps.flatten(2).double().numpy() / temperature for maps in pair)

    def shares(values):
        return np.exp(values) / np.exp(values).sum(-1, keepdims=True)

    p, q = shares(other), shares(own)
    wanted = temperature**2 * (p * np.log(p / q)).sum() / 6
    assert float(channel_distance(*pair, temperature)) == pytest.approx(wanted, rel=1e-4)
    assert float(channel_distance(pair[0], pair[0], temperature)) == pytest.approx(0, abs=1e-6)


def test_distance_of_scores_is_weighted_cross_entropy(pair):
    logits, scores = pair[0], pair[1].sigmoid()
    p, y = logits.double().sigmoid().numpy(), scores.double().numpy()
    wanted = np.abs(y - p) ** 2 * -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(score_distance(logits, scores, 2.0).numpy(), wanted, rtol=1e-4, atol=1e-6)
    assert float(score_distance(logits, logits.sigmoid(), 1.0).sum()) == pytest.approx(0, abs=1e-5)


def test_teachers_are_not_copied_and_tell_weights_apart():
    teachers = Teachers(("a", "b"), lambda _: nn.Linear(2, 2), lambda network: network)
    assert copy.deepcopy(teachers) is teachers
    assert not any(p.requires_grad for network in teachers.networks for p in network.parameters())
    first, second = teachers.networks
    assert teachers.fingerprints == (fingerprint(first), fingerprint(second))
    assert fingerprint(first) != fingerprint(second)
    second.load_state_dict(first.state_dict())
    assert fingerprint(first) == fingerprint(second)


def test_other_lessons_are_refused():
    stored = {"teacher_fingerprints": ["1"], "distillation": {"teachers": ["a.ckpt"], "classes": 1.0}}
    check_same_lessons(stored, stored | {"distillation": {"teachers": ["moved.ckpt"], "classes": 1.0}}, "last.ckpt")
    for present, words in (
        ({}, "had 1 teachers, and is to go on with 0"),
        (stored | {"teacher_fingerprints": ["2"]}, "1, of which at least one has other weights"),
        (stored | {"distillation": {"teachers": ["a.ckpt"], "classes": 2.0}}, "distillation.classes is 2.0"),
    ):
        with pytest.raises(InputError, match=words):
            check_same_lessons(stored, present, "last.ckpt")
