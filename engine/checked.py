"""Settings and arguments whose values are checked by their annotations, for callers from Python.

The command line checks the same annotations itself (`engine.numbers`). Here a value that does not fit raises an
`InputError` in the house's words, and a value that fits becomes plain: a restricted number becomes an `int` or
`float`, and a list, which YAML gives where a tuple is annotated, becomes a tuple.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import InputError, check_choice
from engine.numbers import WORDS

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Checked:
    """A frozen data class that checks its fields when it is made.

    A class may give in `group` the word that messages put before a field's name, as in `optimizer.lr`. Conditions
    on several fields at once stand in the class's own `__post_init__`, which calls this one first.

    Raises:
        InputError: a field has a value that its annotation does not allow.
    """

    group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        before = f"{self.group}." if self.group else ""
        hints = _hints(type(self))
        for field in fields(self):
            value = plain(before + field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function or constructor that checks the arguments it is given by their annotations.

    Raises:
        InputError: at a call, an argument has a value that its annotation does not allow.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        hints = _hints(function)
        for name, value in given.arguments.items():
            kind = signature.parameters[name].kind
            if name in hints and kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                given.arguments[name] = plain(name, value, hints[name])
        return function(*given.args, **given.kwargs)

    return call


def plain(name: str, value: object, hint: object) -> object:
    """A value in the type that its annotation asks for.

    Args:
        name: the name of the value in a message.
        value: the value that was given.
        hint: the annotation, resolved. Nothing but restricted numbers, choices, and tuples and unions of them is
            checked; all else is taken as it is.

    Raises:
        InputError: the value is out of range, or is none of the choices.
    """
    if not _restricts(hint):
        return value
    try:
        return _fitted(value, hint)
    except (TypeError, ValueError, OverflowError):
        choices = [str(choice) for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]
        if choices and not any(_restricts(part) and get_origin(part) is not Literal for part in _parts(hint)):
            check_choice(name, str(value), choices)
        shown = f"'{value}'" if isinstance(value, str) else list(value) if isinstance(value, tuple) else value
        msg = f"{name} is {shown}; allowed: {in_words(hint)}."
        raise InputError(msg) from None


def in_words(hint: object) -> str:
    """The values that an annotation allows, in words for a message."""
    if hint is None or hint is type(None):
        return "null"
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return ", or ".join(in_words(part) for part in args)
    if origin is tuple:
        inner = in_words(args[0])
        return f"a list, each {inner}" if args[-1] is Ellipsis else f"{_COUNTS.get(len(args), len(args))}, each {inner}"
    name = getattr(hint, "__name__", str(hint))
    return WORDS.get(name, name)


_COUNTS = {2: "two", 3: "three"}


def _hints(annotated: Callable[..., object]) -> Mapping[str, object]:
    return _resolved(annotated)


@functools.cache
def _resolved(annotated: Callable[..., object]) -> Mapping[str, object]:
    return get_type_hints(annotated)


def _parts(hint: object) -> tuple[object, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_number(hint: object) -> bool:
    return isinstance(hint, type) and hint.__name__ in WORDS and issubclass(hint, int | float)


@functools.cache
def _restricts(hint: object) -> bool:
    """Whether an annotation allows less than Python's own types say."""
    if get_origin(hint) is Literal or _is_number(hint):
        return True
    return get_origin(hint) in (Union, types.UnionType, tuple) and any(map(_restricts, get_args(hint)))


def _fitted(value: object, hint: object) -> object:
    """As `plain`, but a value that does not fit raises ValueError or TypeError."""
    if get_origin(hint) is Literal:
        return _choice(value, get_args(hint))
    if get_origin(hint) is tuple:
        return _tuple(value, get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            try:
                return _fitted(value, part)
            except (TypeError, ValueError):
                continue
        raise ValueError(value)
    if not _is_number(hint):
        kind = get_origin(hint) or hint
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        if isinstance(kind, type) and issubclass(kind, str) and isinstance(value, str):
            return kind(value)  # a restricted text, which raises where the text is not of its kind
        raise TypeError(value)
    assert isinstance(hint, type)
    if isinstance(value, str | bytes | bool):
        raise TypeError(value)
    number = (int if issubclass(hint, int) else float)(hint(value))
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _choice(value: object, allowed: tuple[object, ...]) -> object:
    if value not in allowed or isinstance(value, bool) != any(value is choice for choice in (True, False)):
        raise ValueError(value)
    return value


def _tuple(value: object, parts: tuple[object, ...]) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    return tuple(_fitted(item, part) for item, part in zip(value, parts, strict=True))
