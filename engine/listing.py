"""Names of files as they are compared: one spelling for what looks the same."""

from __future__ import annotations

import unicodedata


def pairing_name(name: str) -> str:
    """A file's name in Unicode's form NFC, by which files of two folders are paired.

    A Mac writes the accent of `é` as a character of its own (NFD), others do not; the names look alike.
    """
    return unicodedata.normalize("NFC", name)
