"""The text of COCO's JSON files: its encoding, the numbers that only Python writes, and faults in words."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Iterator

_SIZES = {"images": ("height", "width"), "annotations": ("bbox", "area")}  # the numbers that need not be ids
_NEEDED = {
    "bbox": "Correct or remove it.",
    "area": "Give a finite number, or leave it out to use that of the box.",
    "height": "Give a finite number, or leave it out.",
    "width": "Give a finite number, or leave it out.",
}


class NotJsonError(ValueError):
    """The text is no JSON, not even as Python writes it; says where."""


class NotFiniteError(ValueError):
    """A number that is needed is NaN or infinite; names its entry and its field, and what helps."""


def utf8(raw: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """JSON in UTF-8 without a byte-order mark, which editors on Windows write; UTF-16 and UTF-32 are recoded.

    Text that is not of its encoding is left as it is, for the parser to say.
    """
    encoding = json.detect_encoding(raw[:4])
    if encoding == "utf-8":
        return raw
    try:
        return raw[:].decode(encoding).encode()
    except UnicodeDecodeError:
        return raw


def python_json(raw: bytes | mmap.mmap, fault: Exception) -> object:
    """The content of JSON in which NaN, Infinity or 1e999 may stand where nothing needs a number.

    Args:
        raw: the text in UTF-8.
        fault: what a strict parser says of it.

    Raises:
        NotJsonError: Python does not read it either.
        NotFiniteError: such a number is a box, an area or a size.
    """
    try:
        content: object = json.loads(raw[:])
    except (ValueError, RecursionError):
        raise NotJsonError(str(fault)) from fault
    for found in _not_finite(content):
        raise NotFiniteError(found) from fault
    return content


def _not_finite(content: object) -> Iterator[str]:
    if not isinstance(content, dict):
        return
    for part, fields in _SIZES.items():
        entries = content.get(part)
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            for field in fields if isinstance(entry, dict) else ():
                value = entry.get(field)
                numbers = value if isinstance(value, list) else [value]
                if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
                    called = f"{part[:-1]} {entry['id']}" if entry.get("id") is not None else f"{part}[{number}]"
                    yield f"{called} has the {field.replace('bbox', 'box')} {value}. {_NEEDED[field]}"


def json_fault(message: str) -> str:
    """Rephrase msgspec's finding about JSON as a short clause, e.g. `annotations[3] has no 'bbox'`."""
    text, _, path = message.partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    place = f"entry {place}" if place.startswith("[") else place or "it"
    if match := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f"{place} has no '{match[1]}'"
    return f"{place}: {text[0].lower()}{text[1:].replace('`', '')}"
