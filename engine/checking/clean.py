"""What the cleaned copies of all tasks share: a folder that appears whole, and images as the predictor reads them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from PIL import Image

from engine.checking.image_files import ImageFacts
from engine.errors import OutputError
from engine.outputs import make_folder
from engine.reading.reader import PixelReader

NOTHING = "no image of the set can be used, so that the cleaned copy would be empty. Repair the files first."
_KEPT_FIRST = ("test", "val", "train")  # of copies in several splits the first of these stays


@contextmanager
def new_folder(target: str | Path, originals: Sequence[Path]) -> Iterator[Path]:
    """A folder to write into that gets its name when all is written; on an error nothing is left.

    Args:
        target: its name; there must be no such folder, or an empty one.
        originals: folders that are read, in none of which it may lie.

    Raises:
        OutputError: the folder holds something, lies in one that is read, or cannot be written.
    """
    folder = Path(target)
    if folder.exists():
        try:
            folder.rmdir()  # which only an empty folder allows
        except OSError as error:
            msg = f"'{folder}' holds something already, which is not overwritten. Give a folder that does not exist."
            raise OutputError(msg) from error
    around = next((one for one in originals if folder.resolve().is_relative_to(one.resolve())), None)
    if around is not None:
        msg = f"'{folder}' lies in '{around}', which is read and stays as it is. Give a folder outside of it."
        raise OutputError(msg)
    make_folder(folder.parent)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        yield part
        os.replace(part, folder)
    except OSError as error:
        msg = f"cannot write '{folder}': {error.strerror or error}. Give a folder that can be written."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def surplus_copies(splits: Sequence[str], facts: Sequence[ImageFacts], kinds: Sequence[str] | None = None) -> set[int]:
    """The places of images that are there already, byte by byte.

    Of copies in several splits that of test stays, else that of val: the scores stay comparable, and the training has
    other images. Within a split the first stays.

    Args:
        splits: the split of each image.
        facts: the facts of each.
        kinds: what each is labelled with, where that differs: an image may stand once with each kind in one split.
    """
    order = {split: rank for rank, split in enumerate(_KEPT_FIRST)}
    places = sorted(range(len(splits)), key=lambda place: (order.get(splits[place], len(order)), place))
    seen: dict[bytes, tuple[str, set[str]]] = {}
    found = set()
    for place in places:
        digest = facts[place].digest
        if digest is None:
            continue
        kind = "" if kinds is None else kinds[place]
        split, known = seen.setdefault(digest, (splits[place], set()))
        if split != splits[place] or kind in known:
            found.add(place)
        else:
            known.add(kind)
    return found


def needs_writing(fact: ImageFacts) -> bool:
    """Whether an image is written anew: its EXIF data turn it, or it has several frames."""
    return fact.turned or any(found.name == "image.frames" for found in fact.findings)


def clean_name(path: Path, fact: ImageFacts) -> str:
    """The file name of an image in a cleaned copy, with the suffix of its content."""
    if needs_writing(fact):
        return f"{path.stem}.png"
    return path.name if fact.suffix is None else f"{path.stem}{fact.suffix}"


def bring_image(
    path: Path, fact: ImageFacts, target: Path, frame_hw: tuple[int, int] | None, read: PixelReader = PixelReader()
) -> str | None:
    """Copy an image; one that EXIF data turn or that has several frames is written as the predictor reads it.

    Such an image becomes a PNG, which keeps its pixels as they are.

    Args:
        path: the image.
        fact: its facts.
        target: the file to write, named by `clean_name`.
        frame_hw: height and width that its labels state, upright or stored; None for upright.
        read: reads the image.

    Returns:
        What was done besides, in a few words; None if it was copied.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if needs_writing(fact):
        Image.fromarray(read(path, frame_hw)).save(target)
        return "images were turned upright" if fact.turned else "images keep their first frame only"
    shutil.copyfile(path, target)
    return None if fact.suffix is None else "images got the suffix of their content"


class Names:
    """File names of one folder, none of which another system takes for another's."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, name: str, folder: str) -> str:
        """The name, or where its stem is taken already the name with its folder or a number."""
        path = Path(name)
        wanted = chain((path.stem, f"{folder}_{path.stem}"), (f"{path.stem}_{number}" for number in count(2)))
        stem = next(one for one in wanted if one.casefold() not in self._taken)
        self._taken.add(stem.casefold())
        return f"{stem}{path.suffix}"


def told(folder: str | Path, kept: Mapping[str, tuple[int, int]], done: Counter[str]) -> list[str]:
    """What was done, a line each.

    Args:
        folder: the cleaned copy.
        kept: for each split how many images stayed, and of how many.
        done: what was done, with the number of times.
    """
    counts = ", ".join(f"{split} {stayed:,} of {before:,} images" for split, (stayed, before) in kept.items())
    return [f"cleaned copy in '{folder}': {counts}", *(f"  {times:,} {what}" for what, times in done.items())]
