"""Settings checked by their annotations: every range, every kind of annotation, and what the command line does."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from engine import numbers
from engine.checked import Checked, checked
from engine.errors import InputError
from engine.numbers import (
    AboveZeroToOne,
    AllOrCount,
    CanvasSide,
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    Port,
    PositiveFloat,
    PositiveInt,
    TenthToTen,
    ZeroToBelowOne,
    ZeroToHalf,
    ZeroToTen,
)


@dataclass(frozen=True)
class Values(Checked):
    """A field of every kind.

    Args:
        lr: a number.
        sides: one or two.
        rates: any number of them.
        kind: a choice.
        share: may be missing.
        free: anything.
    """

    lr: PositiveFloat = 0.5
    sides: PositiveInt | tuple[PositiveInt, PositiveInt] = 3
    rates: tuple[PositiveFloat, ...] = (1.0,)
    kind: Literal["hard", "soft"] = "hard"
    share: ClosedUnitInterval | None = None
    free: float = -1.0
    group: ClassVar[str] = "values"


# (type, inside, outside): the ends of every range from both sides.
RANGES = [
    (PositiveInt, [1, 9], [0, -1, 1.5]),
    (NonNegativeInt, [0, 9], [-1, 0.5]),
    (AllOrCount, [-1, 0, 5], [-2]),
    (CanvasSide, [32], [31]),
    (TenthToTen, [0.1, 10], [0.09, 10.1]),
    (PositiveFloat, [1e-9, 1e9], [0, -1.0]),
    (NonNegativeFloat, [0, 1e9], [-1e-9]),
    (ClosedUnitInterval, [0, 1, 0.5], [-1e-9, 1.0001]),
    (OpenUnitInterval, [1e-9, 0.999], [0, 1]),
    (ZeroToBelowOne, [0, 0.999], [-1e-9, 1]),
    (AboveZeroToOne, [1e-9, 1], [0, 1.0001]),
    (ZeroToHalf, [0, 0.5], [-1e-9, 0.51]),
    (ZeroToTen, [0, 10], [-1e-9, 10.1]),
    (Port, [0, 65535], [-1, 65536]),
]


def test_every_type_has_words_and_a_test():
    assert {kind.__name__ for kind, _, _ in RANGES} == set(numbers.WORDS) == set(numbers.__all__) - {"WORDS"}


@pytest.mark.parametrize(("kind", "inside", "outside"), RANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_ends_of_ranges(kind, inside, outside):
    @checked
    def take(value: kind) -> object:
        return value

    take.__wrapped__.__annotations__["value"] = kind
    plain = int if issubclass(kind, int) else float
    for value in inside:
        assert type(take(value)) is plain
        assert take(value) == value
    for value in [*outside, float("nan"), float("inf"), "1", True, None, [1]]:
        with pytest.raises(InputError, match=f"; allowed: {numbers.WORDS[kind.__name__]}"):
            take(value)


def test_values_become_plain():
    values = Values(lr=np.float32(0.5), sides=[4, 5], rates=[1, 2], share=1)
    assert values == Values(lr=0.5, sides=(4, 5), rates=(1.0, 2.0), share=1.0)
    assert type(values.lr) is type(values.share) is float
    assert pickle.loads(pickle.dumps(values)) == values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1}, "values.lr is -1; allowed: a number above 0."),
        ({"lr": "fast"}, "values.lr is 'fast'; allowed: a number above 0."),
        ({"sides": (3, 0)}, "values.sides is [3, 0]; allowed: a whole number, at least 1, or two, each a whole"),
        ({"sides": (3, 4, 5)}, "values.sides is [3, 4, 5]; allowed"),
        ({"rates": (1.0, 0.0)}, "values.rates is [1.0, 0.0]; allowed: a list, each a number above 0."),
        ({"kind": "hrad"}, "values.kind 'hrad' is unknown; allowed: hard, soft. Did you mean 'hard'?"),
        ({"share": 2}, "values.share is 2; allowed: 0 to 1, or null."),
    ],
)
def test_messages(given, message):
    with pytest.raises(InputError) as caught:
        Values(**given)
    assert str(caught.value).startswith(message)


def test_arguments_are_checked_and_the_signature_stays():
    class Thing:
        @checked
        def __init__(self, count: PositiveInt, name: str = "x", *rest: PositiveInt, **more: object) -> None:
            self.count = count

    assert Thing(np.int64(3)).count == 3
    with pytest.raises(InputError, match="count is 0; allowed: a whole number, at least 1"):
        Thing(count=0)
    with pytest.raises(TypeError, match="count"):
        Thing()


def test_the_command_line_checks_the_same_and_shows_it(capsys):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--given", type=Values, default=Values())
    parser.print_help()
    shown = capsys.readouterr().out
    assert "type: PositiveFloat" in shown
    assert "type: ClosedUnitInterval | null" in shown
    parsed = parser.instantiate(parser.parse_args(["--given.lr", "3", "--given.sides", "[4, 5]"]))
    assert parsed.given == Values(lr=3.0, sides=(4, 5))
    assert type(parsed.given.lr) is float
    with pytest.raises(Exception, match="does not conform"):
        parser.parse_args(["--given.lr", "0"])
