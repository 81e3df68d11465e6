"""The settings of a network as one frozen object: stored as plain values, read back, and overridden one by one.

Beside a checkpoint, what is asked for on a command line is compared with what is stored.

A task writes each field of its architecture once, with its type, its default and its line of documentation; the class
of overrides is derived from it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from engine.checked import Checked
from engine.errors import InputError, check_choice


@dataclass(frozen=True)
class NetworkSettings(Checked):
    """Base class of the frozen dataclasses that describe a network; all values are plain, or tuples of these."""

    def to_dict(self) -> dict[str, object]:
        """The fields as plain values and lists, as a checkpoint stores them."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> Self:
        """The inverse of `to_dict`; a field that an older version did not store yet takes its default.

        Raises:
            InputError: a key is not known to this version.
        """
        cls.check_fields(stored)
        make: Callable[..., Self] = cls
        return make(**{key: tuples(value) for key, value in stored.items()})

    def to_settings(self) -> dict[str, object]:
        """The same as part of a network's settings: its name as `member`, all else below `architecture`."""
        values = self.to_dict()
        return {"member": values.pop("name"), "architecture": values}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The inverse of `to_settings`; other keys of the settings are left alone.

        Raises:
            InputError: as `from_dict`.
        """
        return cls.from_dict({"name": settings["member"], **settings["architecture"]})

    @classmethod
    def check_fields(cls, given: Collection[str]) -> None:
        """Do nothing if every key is a field.

        Raises:
            InputError: a key is no field; the message names the nearest one.
        """
        allowed = [field.name for field in dataclasses.fields(cls)]
        for key in given:
            check_choice("architecture value", key, allowed)


@dataclass(frozen=True)
class Overrides:
    """Values that replace those of a member; None leaves the value of the member.

    `class DetectorOverrides(Overrides, of=DetectorArchitecture)` becomes a frozen dataclass with the fields of the
    other class except `name`. Each has the other's type or None, None as its default, and the other's documentation.
    A field that the class itself annotates has that type. `but` names other fields that are left out.
    """

    if TYPE_CHECKING:

        def __init__(self, **given: object) -> None: ...

    def __init_subclass__(cls, of: type[NetworkSettings], but: Collection[str] = ("name",)) -> None:
        super().__init_subclass__()
        hints = get_type_hints(of, include_extras=True)
        own = inspect.get_annotations(cls)
        names = [field.name for field in dataclasses.fields(of) if field.name not in but]
        cls.__annotations__ = {name: own.get(name, hints[name] | None) for name in names}
        for name in names:
            setattr(cls, name, None)
        described = inspect.cleandoc(of.__doc__ or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nAttributes:\n{described}\n"
        dataclass(frozen=True)(cls)

    @classmethod
    def names(cls) -> list[str]:
        """The fields, in order."""
        return list(cls.__annotations__)

    def given(self) -> dict[str, Any]:
        """The fields that are not None."""
        values = {name: getattr(self, name) for name in self.names()}
        return {name: value for name, value in values.items() if value is not None}


def tuples(value: object) -> object:
    """The value with all lists, as JSON and checkpoints have them, turned into tuples, to any depth."""
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _plain(value: object) -> object:
    """The value with lists in place of tuples, to any depth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def refuse_conflicts(asked: object, stored: object, path: Path, where: str = "model") -> None:
    """Compare the settings that were given, and only those, with those of the checkpoint.

    Raises:
        InputError: one differs.
    """
    asked, stored = _plain(asked), _plain(stored)
    if isinstance(asked, dict) and isinstance(stored, dict):
        for name in asked.keys() & stored.keys():
            refuse_conflicts(asked[name], stored[name], path, f"{where}.{name}")
    elif asked is not None and asked != stored and not _stands_for(asked, stored):
        msg = (
            f"{where} is {asked!r}, but the checkpoint '{path}' has {stored!r}. "
            f"Leave {where} out, as the checkpoint decides it, or give another checkpoint."
        )
        raise InputError(msg)


def without(stored: Mapping[str, object], asked: object) -> dict[str, object]:
    """The stored settings that were not given, to any depth."""
    given = _plain(asked)
    given = given if isinstance(given, dict) else {}
    left: dict[str, object] = {}
    for name, value in stored.items():
        if isinstance(value, Mapping):
            left[name] = without(value, given.get(name))
        elif name not in given:
            left[name] = value
    return left


def _stands_for(asked: object, stored: object) -> bool:
    """Whether one number was given for a list of equal numbers, as the side of a square for its height and width."""
    return isinstance(stored, list) and bool(stored) and all(item == asked for item in stored)
