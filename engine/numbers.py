"""Numbers with a range, as annotations: the command line checks them and shows them in `--help`.

To a type checker each is a plain `int` or `float`. At run time it is a restricted type of jsonargparse, which converts
and checks; `engine.checked` does the same for callers from Python. Each range is written only once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

__all__ = [
    "WORDS",
    "AboveZeroToOne",
    "AllOrCount",
    "CanvasSide",
    "ClosedUnitInterval",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenUnitInterval",
    "Port",
    "PositiveFloat",
    "PositiveInt",
    "TenthToTen",
    "ZeroToBelowOne",
    "ZeroToHalf",
]

if TYPE_CHECKING:
    PositiveInt: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    AllOrCount: TypeAlias = int
    CanvasSide: TypeAlias = int
    Port: TypeAlias = int
    PositiveFloat: TypeAlias = float
    NonNegativeFloat: TypeAlias = float
    ClosedUnitInterval: TypeAlias = float
    OpenUnitInterval: TypeAlias = float
    ZeroToBelowOne: TypeAlias = float
    AboveZeroToOne: TypeAlias = float
    ZeroToHalf: TypeAlias = float
    TenthToTen: TypeAlias = float
else:
    from jsonargparse.typing import (
        ClosedUnitInterval,
        NonNegativeFloat,
        NonNegativeInt,
        OpenUnitInterval,
        PositiveFloat,
        PositiveInt,
        restricted_number_type,
    )

    AllOrCount = restricted_number_type("AllOrCount", int, (">=", -1))
    CanvasSide = restricted_number_type("CanvasSide", int, (">=", 32))
    Port = restricted_number_type("Port", int, [(">=", 0), ("<=", 65535)])
    ZeroToBelowOne = restricted_number_type("ZeroToBelowOne", float, [(">=", 0), ("<", 1)])
    AboveZeroToOne = restricted_number_type("AboveZeroToOne", float, [(">", 0), ("<=", 1)])
    ZeroToHalf = restricted_number_type("ZeroToHalf", float, [(">=", 0), ("<=", 0.5)])
    TenthToTen = restricted_number_type("TenthToTen", float, [(">=", 0.1), ("<=", 10)])

# The words for them in messages; floats must also be finite.
WORDS: dict[str, str] = {
    "PositiveInt": "a whole number, at least 1",
    "NonNegativeInt": "a whole number, at least 0",
    "AllOrCount": "a whole number of at least 0, or -1 for all",
    "CanvasSide": "a whole number, at least 32",
    "Port": "a whole number, 0 to 65535",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number, at least 0",
    "ClosedUnitInterval": "0 to 1",
    "OpenUnitInterval": "a number above 0 and below 1",
    "ZeroToBelowOne": "a number, at least 0 and below 1",
    "AboveZeroToOne": "a number above 0 and at most 1",
    "ZeroToHalf": "0 to 0.5",
    "TenthToTen": "a number from 0.1 to 10",
}
