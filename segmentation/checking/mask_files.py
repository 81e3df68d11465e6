"""Facts of mask files, each read once by the reader that training has; what is wrong becomes findings by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.checking.findings import Finding
from engine.checking.image_files import in_threads, read_facts
from engine.errors import InputError
from engine.reading.images import UInt8Array, opened
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.data.masks import MaskError, MaskFault
from segmentation.data.pairs import MaskSource

BLURRED = 8  # so many different values of no class are those that resizing or a lossy format leaves between classes
MOSTLY = 0.5  # share of a mask's pixels that are not counted
_NAMES: dict[MaskFault, str] = {
    "jpeg": "mask.jpeg",
    "mode": "mask.mode",
    "transparent": "mask.transparent",
    "values": "mask.values",
    "meaning": "mask.two_meanings",
}


@dataclass(frozen=True)
class MaskFacts:
    """What one reading of a mask tells.

    Attributes:
        findings: faults of the file itself.
        size_hw: height and width; None where it cannot be read.
        counts: (256,) pixels of each row of the class list; the last is of those that are not counted.
        digest: hash of the rows, None where it cannot be read.
    """

    findings: tuple[Finding, ...] = ()
    size_hw: tuple[int, int] | None = None
    counts: npt.NDArray[np.int64] | None = None
    digest: bytes | None = None


def read_mask_facts(path: Path, files: MaskSource) -> MaskFacts:
    """Read one mask; faults become findings."""
    name = str(path)
    try:
        rows = files.read_mask(path)
    except MaskError as error:
        kind = "mask.blurred" if error.fault == "values" and error.wrong >= BLURRED else _NAMES[error.fault]
        return MaskFacts((Finding(kind, "error", name, _reason(error, name)),))
    except InputError as error:
        return MaskFacts((_broken(path, error),))
    counts = np.bincount(rows.ravel(), minlength=256).astype(np.int64)
    found = [*_of_the_file(path), *_of_the_values(name, counts, files.classes)]
    digest = hashlib.blake2b(rows.tobytes(), digest_size=16).digest()
    return MaskFacts(tuple(found), (rows.shape[0], rows.shape[1]), counts, digest)


def read_masks(files: MaskSource) -> list[MaskFacts]:
    """The facts of a split's masks, in the order of its pairs."""
    return in_threads(partial(read_mask_facts, files=files), [pair.mask for pair in files.pairs], "reading masks")


def _broken(path: Path, error: InputError) -> Finding:
    """Why a file cannot be read, under the names that images have."""
    for found in read_facts(path).findings if path.is_file() else ():  # no file has what is drawn of objects
        if found.severity == "error":
            return Finding(found.name.replace("image.", "mask."), "error", found.file, found.detail)
    return Finding("mask.unreadable", "error", str(path), _reason(error, str(path)))


def _reason(error: InputError, name: str) -> str:
    """The message without the file that it begins with, which a finding names itself."""
    text = str(error)
    for start in (f"mask '{name}' ", f"cannot read mask '{name}': "):
        text = text.removeprefix(start)
    return text


def _of_the_file(path: Path) -> list[Finding]:
    """What its header says; what is drawn of objects has none."""
    found: list[Finding] = []
    if not path.is_file():
        return found
    with opened(path, "mask") as image:
        if image.mode.startswith("I"):
            found.append(Finding("mask.deep", "warning", str(path), "has 16 bits or more, where 8 hold all classes"))
        kind = {".tif": "TIFF", ".jpg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".jp2": "JPEG2000"}.get(
            path.suffix.lower(), path.suffix[1:].upper()
        )
        if image.format != kind and not (image.format == "PPM" and kind == "PGM"):
            found.append(Finding("mask.suffix", "warning", str(path), f"is {image.format} inside"))
    return found


def _of_the_values(name: str, counts: npt.NDArray[np.int64], classes: MaskClasses) -> list[Finding]:
    total, ignored = int(counts.sum()), int(counts[IGNORED])
    if ignored == total:
        return [Finding("mask.all_ignored", "warning", name, "has no pixel that is counted")]
    found = []
    if ignored > MOSTLY * total:
        found.append(Finding("mask.mostly_ignored", "note", name, f"{ignored / total:.0%} of it is not counted"))
    used = np.flatnonzero(counts[: len(classes)])
    if len(used) == 1 and len(classes) > 1:
        found.append(Finding("mask.one_class", "note", name, f"has the class '{classes.names[int(used[0])]}' alone"))
    return found


def rows_of(files: MaskSource, path: Path) -> UInt8Array | None:
    """(H, W) rows of a mask, None where it cannot be read."""
    try:
        return files.read_mask(path)
    except InputError:
        return None


def class_pixels(facts: Sequence[MaskFacts], classes: MaskClasses) -> npt.NDArray[np.int64]:
    """(K,) pixels of each class in all masks that can be read."""
    counted = [fact.counts[: len(classes)] for fact in facts if fact.counts is not None]
    return np.sum(counted, axis=0, dtype=np.int64) if counted else np.zeros(len(classes), np.int64)
