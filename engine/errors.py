"""The one error that a user sees: what was given, what is allowed, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

MOST_LISTED = 20  # names in one message; more would be hard to read


class InputError(Exception):
    """Something the user gave cannot be used; the message is complete and is printed without a traceback."""


class SizeError(InputError):
    """An image has another size than its annotations.

    Args:
        message: what the user reads.
        upright_hw: height and width of the image.
    """

    def __init__(self, message: str, upright_hw: tuple[int, int]) -> None:
        super().__init__(message)
        self.upright_hw = upright_hw


class SampleError(InputError):
    """An `InputError` of a loader worker that stays one short message.

    The loader raises the error of a worker again, with the worker's whole traceback as the message; the last line of
    the traceback is the message for the user.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class UnreadableError(InputError):
    """One file cannot be read: it is missing, damaged, or of a kind that is not taken. Others may be in order."""


class PartlyReadError(UnreadableError):
    """Parts of a file cannot be read. What was found in the others is written.

    Args:
        values: what the journal says of those.
        message: what the user reads.
    """

    def __init__(self, values: Mapping[str, object], message: str) -> None:
        super().__init__(message)
        self.values = dict(values)


class OutputError(InputError):
    """A result cannot be written, because of a full disk or a folder that is closed: no further one could be either."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A hint with the nearest allowed name, or an empty string.

    >>> did_you_mean("sdg", ["sgd", "adamw"])
    " Did you mean 'sgd'?"
    """
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def check_choice(what: str, given: object, allowed: Iterable[str]) -> None:
    """Do nothing if `given` is one of `allowed`.

    Raises:
        InputError: `given` is another; the message lists the allowed names and offers the nearest.

    >>> check_choice("optimizer", "sdg", ["sgd", "adamw"])
    Traceback (most recent call last):
    engine.errors.InputError: optimizer 'sdg' is unknown; allowed: sgd, adamw. Did you mean 'sgd'?
    """
    names = list(allowed)
    if given not in names:
        listed = names if len(names) <= MOST_LISTED else [*names[:5], f"... ({len(names)} in all)"]
        msg = f"{what} '{given}' is unknown; allowed: {', '.join(listed)}.{did_you_mean(str(given), names)}"
        raise InputError(msg)
