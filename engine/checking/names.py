"""What the names of images tell without reading them: copies of one picture, frames of one video, names that clash."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.checking.findings import Finding
from engine.errors import InputError

# What tools add to the name of a picture that they copy or change: Roboflow's hash, augmentations, copies of systems.
_COPY = re.compile(
    r"(?P<source>.+?)(?:\.rf\.[0-9A-Za-z]{16,}"
    r"|[ _-](?:aug|augmented|flip|flipped|hflip|vflip|rot|rotated|mirror|mirrored|noise|blur)[ _-]?\d*"
    r"|[ _-]+copy(?:[ _-]?\d+)?)",
    re.IGNORECASE,
)
# Frames of a video: names that say so, and names that number a video and in it a picture.
_FRAMES = (
    re.compile(r"(?P<video>(?:.*(?<![a-z]))?(?:frames?|frm))[ _-]?\d+", re.IGNORECASE),
    re.compile(
        r"(?P<video>(?:.*(?<![a-z]))?(?:video|vid|clip|seq|sequence|drive)[ _-]?[0-9a-z]*\d)[ _-]\d+", re.IGNORECASE
    ),
)


def name_findings(paths: Sequence[Path], splits: Sequence[str], group: str | None = None) -> Iterator[Finding]:
    """Pictures in two splits whose names say that they are of one source or video, and names that clash.

    Args:
        paths: files of the images.
        splits: split of each.
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video.

    Raises:
        InputError: `group` is no regular expression.
    """
    yield from _clashes(paths)
    yield from _leaks(paths, splits, "leak.source", [_source(path) for path in paths])
    if group is None:
        yield from _leaks(paths, splits, "leak.video", [_video(path) for path in paths], once=True)
    else:
        yield from _leaks(paths, splits, "leak.group", _groups(paths, group), once=True)


def _source(path: Path) -> str | None:
    found = _COPY.fullmatch(path.stem)
    return (found["source"] if found else path.stem).casefold()


def _video(path: Path) -> str | None:
    found = next((match for pattern in _FRAMES if (match := pattern.fullmatch(path.stem))), None)
    return found["video"].casefold() if found else None


def _groups(paths: Sequence[Path], group: str) -> list[str | None]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        msg = f"group is '{group}', which is no regular expression: {error}. Give one such as '(.*)_frame'."
        raise InputError(msg) from error
    found = [pattern.search(path.as_posix()) for path in paths]
    return [None if one is None else next((part for part in one.groups() if part is not None), one[0]) for one in found]


def _leaks(
    paths: Sequence[Path], splits: Sequence[str], name: str, keys: Sequence[str | None], once: bool = False
) -> Iterator[Finding]:
    """An image whose key stands earlier in another split; of a video only its first image there."""
    first: dict[str, int] = {}
    told: set[tuple[str, str]] = set()
    for place, key in enumerate(keys):
        if key is None:
            continue
        other = first.setdefault(key, place)
        if splits[other] == splits[place] or paths[place] == paths[other] or (key, splits[place]) in told:
            continue
        if name == "leak.source" and paths[place].stem.casefold() == paths[other].stem.casefold() == key:
            continue  # two cameras may number alike; the pictures themselves tell
        if once:
            told.add((key, splits[place]))
        detail = f"{splits[place]} and {splits[other]} have pictures of '{key}': {paths[other]}"
        yield Finding(name, "warning", str(paths[place]), detail, twin=str(paths[other]))


def _clashes(paths: Sequence[Path]) -> Iterator[Finding]:
    """Names in one folder that differ in capitals only, which other systems take for one file."""
    first: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        other = first.setdefault(str(path).casefold(), path)
        if other != path:
            detail = f"differs from {other.name} in capitals only, which Windows and macOS take for one file"
            yield Finding("image.case", "warning", str(path), detail, twin=str(other))
