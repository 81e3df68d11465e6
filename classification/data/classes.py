"""The class list: which row of the network's output has which name, and whether an image has one label or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from engine.errors import InputError


class StoredLabelClasses(TypedDict):
    """A class list as a checkpoint stores it."""

    names: list[str]
    several: bool


@dataclass(frozen=True)
class LabelClasses:
    """Names by output row.

    Attributes:
        names: K names.
        several: whether an image may have any number of the classes; else it has exactly one.

    Raises:
        InputError: there are too few names, or a name is empty or occurs twice.

    >>> len(LabelClasses(("cat", "dog")))
    2
    """

    names: tuple[str, ...]
    several: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # a YAML file gives a list
        least = 1 if self.several else 2
        if len(self.names) < least:
            msg = f"the class list has {len(self.names)} names; needed are at least {least}. Add a class."
            raise InputError(msg)
        wrong = [name for name in self.names if not isinstance(name, str)]
        if wrong:
            # YAML reads an unquoted no, on or 1 as something other than text.
            msg = f"the class list has the name {wrong[0]!r}, which is not text. Put it in quotes."
            raise InputError(msg)
        if not all(name.strip() for name in self.names):
            msg = f"the class list has an empty name among {len(self.names)}. Give every class a name."
            raise InputError(msg)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            msg = f"the class list has the name '{twice}' more than once. Give every class its own."
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> StoredLabelClasses:
        """Plain values, as a checkpoint stores them."""
        return {"names": list(self.names), "several": self.several}

    @classmethod
    def from_dict(cls, stored: StoredLabelClasses) -> LabelClasses:
        """The inverse of `to_dict`."""
        return cls(tuple(stored["names"]), stored["several"])
