"""Names of classes as people write them: which are the same, and how a message lists them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from engine.errors import InputError, did_you_mean

MOST_SHOWN = 8  # names in a message


def plain_name(name: str) -> str:
    """A name without what exporters change: capitals, spaces, hyphens, underscores, and the form of accents.

    >>> plain_name("Traffic_Light") == plain_name(" traffic light")
    True
    """
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def spelled_alike(name: str, names: Sequence[str]) -> int:
    """Place of a name among others: of the same name, else of the only one with the same `plain_name`, else -1.

    A name that occurs twice has no place. Empty names mean nothing and are never found.

    >>> spelled_alike("Traffic light", ["car", "traffic_light"])
    1
    >>> spelled_alike("van", ["car", "traffic_light"])
    -1
    """
    places = [place for place, other in enumerate(names) if other == name and name]
    if not places and plain_name(name):
        places = [place for place, other in enumerate(names) if plain_name(other) == plain_name(name)]
    return places[0] if len(places) == 1 else -1


def known_places(source: str, names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Places of the classes of data among those of a model, by `spelled_alike`.

    Args:
        source: what messages call the data.
        names: the classes of the data.
        known: those of the model.

    Raises:
        InputError: the model does not know one of them.
    """
    places = [spelled_alike(name, known) for name in names]
    missing = [name for name, place in zip(names, places, strict=True) if place < 0]
    if missing:
        msg = (
            f"the data in '{source}' have {len(missing)} classes that the model does not know, such as "
            f"'{missing[0]}'; it knows {shown_names(known)}.{did_you_mean(missing[0], known)} "
            "Correct the class list, or train a model for these classes."
        )
        raise InputError(msg)
    return places


def respelled(source: str, pairs: Sequence[tuple[str, str]]) -> str:
    """One line about data that spell classes otherwise than the model; empty where all agree.

    Args:
        source: what messages call the data.
        pairs: the name in the data and the model's, of each class that was matched.
    """
    others = [(own, model) for own, model in pairs if own != model]
    if not others:
        return ""
    (own, model), more = others[0], f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"'{source}' calls the model's '{model}' '{own}'{more}; they are taken for the same"


def shown_names(names: Sequence[str]) -> str:
    """Names as a message lists them; of many the first, and how many there are."""
    listed = ", ".join(f"'{name}'" for name in names[:MOST_SHOWN])
    return listed if len(names) <= MOST_SHOWN else f"{listed}, ... ({len(names)} in all)"


def pairing_name(name: str) -> str:
    """A file's name in Unicode's form NFC, by which files of two folders are paired.

    A Mac writes the accent of `é` as a character of its own (NFD), others do not; the names look alike.
    """
    return unicodedata.normalize("NFC", name)
