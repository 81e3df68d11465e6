"""Packages that only some commands need, and how a user gets them."""

from __future__ import annotations

import importlib.util

from engine.errors import InputError


def needed(*packages: str, extra: str) -> None:
    """Do nothing if packages are installed.

    Args:
        packages: their import names.
        extra: the extra of this project that brings them.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"this needs the package {missing[0]}, which is not installed. Run: pip install 'effdense[{extra}]'"
        raise InputError(msg)


def importable(package: str) -> None:
    """Do nothing if a package is installed that no extra of this project brings, as it is another one's choice.

    Raises:
        InputError: it is missing.
    """
    if importlib.util.find_spec(package) is None:
        msg = f"this needs the package {package}, which is not installed. Run: pip install {package}"
        raise InputError(msg)
