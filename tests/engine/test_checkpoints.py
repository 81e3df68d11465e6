"""The comparison of checkpoints on which the tests of resumed trainings stand: no bit escapes it."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel

from tests.engine.checkpoints import STATE, assert_same_training, differences

Put = Callable[[Any], None]


def checkpoint() -> dict[str, Any]:
    """As a training of two steps stores it."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    average = AveragedModel(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    for _ in range(2):
        network(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
        scheduler.step()
        average.update_parameters(network)
    content = {
        "state_dict": average.module.state_dict(),
        "current_model_state": network.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "global_step": 2,
        "epoch": 1,
        "loops": {"fit_loop": 3},
    }
    return copy.deepcopy(content)


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any, Put]]:
    """Every tensor and number below a value, its name, and a way to replace it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        place = f"{name}.{key}" if isinstance(value, dict) else f"{name}[{key}]"
        if isinstance(inner, dict | list):
            yield from leaves(inner, place)
        elif isinstance(inner, torch.Tensor | int | float):
            yield place, inner, lambda new, key=key: value.__setitem__(key, new)


def all_leaves(content: dict[str, Any]) -> list[tuple[str, Any, Put]]:
    return [(name[1:], leaf, put) for name, leaf, put in leaves({part: content[part] for part in STATE[:4]}, "")]


COUNT = len(all_leaves(checkpoint()))


def changed(leaf: Any, bit: int) -> Any:
    """A tensor with one bit turned, or the number next to one."""
    if isinstance(leaf, torch.Tensor):
        turned = leaf.clone().contiguous()
        flat = turned.reshape(-1).view(torch.uint8)
        flat[bit % (8 * len(flat)) // 8] ^= 1 << bit % 8
        return turned
    if isinstance(leaf, float):
        return math.nextafter(leaf, math.inf)
    return not leaf if isinstance(leaf, bool) else leaf + 1


def test_a_checkpoint_is_the_same_as_itself():
    assert COUNT > 40
    assert_same_training(checkpoint(), checkpoint() | {"loops": {"fit_loop": 4}})


@pytest.mark.parametrize("number", range(COUNT))
def test_one_changed_bit_is_found_anywhere_and_named(number):
    one, other = checkpoint(), checkpoint()
    name, leaf, put = all_leaves(other)[number]
    put(changed(leaf, random.Random(number).randrange(10**6)))
    with pytest.raises(AssertionError) as error:
        assert_same_training(one, other)
    assert str(error.value).partition(":")[0] == name


@pytest.mark.parametrize("part", ["global_step", "epoch"])
def test_the_place_in_the_training_counts(part):
    with pytest.raises(AssertionError, match=f"^{part}: "):
        assert_same_training(checkpoint(), checkpoint() | {part: 7})


@pytest.mark.parametrize("part", STATE)
def test_what_is_in_neither_is_not_the_same(part):
    without = checkpoint()
    del without[part]
    with pytest.raises(AssertionError, match=f"no {part}"):
        assert_same_training(without, without)


@pytest.mark.parametrize("empty", [{}, []])
def test_what_is_empty_in_both_shows_nothing(empty):
    nothing = checkpoint() | {"optimizer_states": empty}
    with pytest.raises(AssertionError, match="optimizer_states of a checkpoint is empty"):
        assert_same_training(nothing, nothing)


def test_files_are_compared_too(tmp_path):
    paths = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for path, epoch in zip(paths, (1, 2), strict=True):
        torch.save(checkpoint() | {"epoch": epoch}, path)
    assert_same_training(paths[0], paths[0])
    with pytest.raises(AssertionError, match="epoch: 1 and 2"):
        assert_same_training(*paths)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (torch.tensor([0.0, 1]), torch.tensor([-0.0, 1]), "w: 1 of 2 values"),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), "w: torch.float32 (2,) and torch.float64 (2,)"),
        (torch.ones(2), torch.ones(1, 2), "w: torch.float32 (2,) and torch.float32 (1, 2)"),
        (0.0, -0.0, "w: 0.0 and -0.0"),
        (1, True, "w: int and bool"),
        ([1, 2], [1], "w: 2 and 1 items"),
        ({"a": 1}, {"b": 1}, "w.a: only in one"),
    ],
)
def test_differences_are_told(one, other, said):
    assert said in differences(one, other, "w")
    assert differences(other, one, "w")


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_value_is_the_same_as_its_copy(value):
    """Those that are not numbers too."""
    assert differences(value, copy.deepcopy(value)) == []
    assert differences(torch.tensor([math.nan]), torch.tensor([math.nan])) == []
