"""Submissions to the Cityscapes test server: written from label maps, and checked before they are sent.

The rules: a PNG of one 8-bit channel per image, named after it, of the image's size, with the ids of the evaluated
labels as values. Source: the benchmark's submission page and cityscapesScripts 2.3.0 `getPrediction`.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from PIL import Image

from engine.cli.commands import parse_function, program, run_command
from engine.errors import MOST_LISTED, InputError
from engine.outputs import atomic_path
from engine.reading.images import image_size
from engine.reading.listing import find_images
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.scores.confusion import UInt8Array
from segmentation.scores.label_files import LabelFileError, LabelFiles, resembles_train_ids, scene_of, values_of

IMAGE_HW = (1024, 2048)
_ALLOWED = frozenset(CITYSCAPES.label_ids)
_REMEDIES = {
    "missing": "Predict all images of the split.",
    "double": "Keep one file for each image.",
    "unexpected": "Name each file after its image, such as CITY_SEQUENCE_FRAME_pred.png.",
    "unreadable": "Write them again.",
    "wrong format": "Save one 8-bit channel as PNG.",
    "wrong size": "Give label maps of the image's own size.",
    "training ids": "Write the ids of cityscapesScripts' labels.py: road is 7, not 0.",
    "unknown values": f"Allowed are the evaluated ids {', '.join(map(str, sorted(_ALLOWED)))}.",
}


class Fault(NamedTuple):
    """One thing that is wrong with a submission.

    Attributes:
        kind: a key of the remedies: missing, double, unexpected, unreadable, wrong format, wrong size, training ids
            or unknown values.
        name: the image without a file, or the file.
        what: what is wrong with it.
    """

    kind: str
    name: str
    what: str


def find_faults(
    submission: str | Path, expected: Iterable[str] | Mapping[str, tuple[int, int]], progress: bool = False
) -> list[Fault]:
    """Everything that is wrong with a submission; nothing if the server will accept it.

    Args:
        submission: the zip, or the folder that will be zipped.
        expected: the images, as paths or names that start with CITY_SEQUENCE_FRAME; a mapping gives the height and
            width of each, which otherwise are 1024 and 2048.
        progress: whether to show a bar.

    Raises:
        InputError: the submission is neither a folder nor a zip or holds no PNG, or an image is not named as those
            of Cityscapes.
    """
    from tqdm import tqdm

    sizes = _sizes(expected)
    files = LabelFiles.find(submission)
    scenes = files.by_scene()
    faults = [Fault("missing", scene, "has no file") for scene in sizes if scene not in scenes]
    for scene, names in sorted(scenes.items()):
        if scene not in sizes:
            faults += [Fault("unexpected", name, "is named after none of the images") for name in names]
        elif len(names) > 1:
            faults.append(Fault("double", scene, f"has {len(names)} files: {', '.join(names)}"))
    known = [(name, sizes[scene]) for scene in sorted(sizes) for name in scenes.get(scene, ())]
    for name, size_hw in tqdm(known, desc="check", unit="file", leave=False, disable=None if progress else True):
        faults += _faults_of_file(files, name, size_hw)
    return faults


def check_submission(
    submission: str | Path, expected: Iterable[str] | Mapping[str, tuple[int, int]], progress: bool = False
) -> int:
    """Count the files of a submission that the server will accept.

    Args:
        submission: as in `find_faults`.
        expected: as in `find_faults`.
        progress: as in `find_faults`.

    Returns:
        How many label maps it holds.

    Raises:
        InputError: the server would refuse it; the message has a line for each kind of fault, with the first file and
            the number of others.
    """
    sizes = _sizes(expected)
    faults = find_faults(submission, sizes, progress)
    if faults:
        lines = []
        for kind, remedy in _REMEDIES.items():
            alike = [fault for fault in faults if fault.kind == kind]
            if alike:
                others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
                lines.append(f"  {kind}: '{alike[0].name}' {_shortened(alike[0].what)}{others}. {remedy}")
        msg = "\n".join([f"the submission '{submission}' would be refused:", *lines])
        raise InputError(msg)
    return len(sizes)


def _shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _sizes(expected: Iterable[str] | Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    sizes = {}
    for name in expected:
        sizes[_scene(name)] = expected[name] if isinstance(expected, Mapping) else IMAGE_HW
    return sizes


def _scene(name: str) -> str:
    if scene := scene_of(name):
        return scene
    msg = f"'{name}' is not named as the images of Cityscapes are, CITY_SEQUENCE_FRAME such as berlin_000000_000019."
    raise InputError(msg)


def _faults_of_file(files: LabelFiles, name: str, size_hw: tuple[int, int]) -> list[Fault]:
    try:
        labels = files.read(name)
    except LabelFileError as error:
        unreadable = error.fault.startswith("cannot")
        return [Fault("unreadable" if unreadable else "wrong format", name, error.fault)]
    faults = []
    if labels.shape != size_hw:
        given, wanted = (f"{width}x{height}" for height, width in (labels.shape, size_hw))
        faults.append(Fault("wrong size", name, f"is {given} (width x height), its image {wanted}"))
    counts = values_of(labels)
    wrong = sorted(set(counts) - _ALLOWED)
    if wrong and resembles_train_ids(counts):
        faults.append(Fault("training ids", name, f"has values up to {max(set(counts) - {255})}, 1 to 6 among them"))
    elif wrong:
        listed = ", ".join(map(str, wrong[:MOST_LISTED]))
        pixels = sum(counts[value] for value in wrong)
        faults.append(Fault("unknown values", name, f"has {listed} in {pixels} pixels"))
    return faults


class SubmissionZip:
    """Writes a submission, one label map at a time; the zip appears when the block ends without an error.

    Use it as a context manager.

    Args:
        path: the zip to write.

    Raises:
        InputError: the path does not end in .zip or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".zip":
            msg = f"the submission '{path}' must be a zip. Give a path that ends in .zip."
            raise InputError(msg)
        self._names: set[str] = set()
        self._stack = ExitStack()
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> SubmissionZip:
        temporary = self._stack.enter_context(atomic_path(self.path))
        # Stored without compression: the files inside are compressed already.
        self._archive = self._stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._archive = None
        return self._stack.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, label_ids: UInt8Array) -> str:
        """Add the label map of one image.

        Args:
            name: the image's path or name, which starts with CITY_SEQUENCE_FRAME.
            label_ids: (H, W) Cityscapes ids.

        Returns:
            The file's name in the zip.

        Raises:
            InputError: the image's name is another or was added before, or the map holds values that are not ids of
                evaluated labels.
        """
        if self._archive is None:
            msg = "SubmissionZip.add outside its `with` block"
            raise RuntimeError(msg)
        scene = _scene(name)
        if scene in self._names:
            msg = f"the submission '{self.path}' has '{scene}' already. Give each image once."
            raise InputError(msg)
        wrong = sorted(set(values_of(label_ids)) - _ALLOWED)
        if wrong:
            msg = (
                f"the label map of '{name}' has the value {wrong[0]}, which is not the id of an evaluated label. "
                f"{_REMEDIES['unknown values']}"
            )
            raise InputError(msg)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(label_ids)).save(buffer, "PNG")
        self._archive.writestr(f"{scene}_pred.png", buffer.getvalue())
        self._names.add(scene)
        return f"{scene}_pred.png"


def check(submission: str, images: str | None = None, ground_truth: str | None = None) -> int:
    """Check a submission against the images that it must cover; give one of the two folders.

    Args:
        submission: the zip, or the folder that will be zipped.
        images: folder of the images, such as leftImg8bit/test, searched to any depth.
        ground_truth: folder of the ground truth, such as gtFine/val, searched to any depth for _labelIds.png.

    Returns:
        How many label maps it holds.

    Raises:
        InputError: a path is missing, both folders or none are given, or the submission would be refused.
    """
    folder = ground_truth if images is None else images
    if folder is None or (images is not None and ground_truth is not None):
        msg = "nothing says which images it must cover. Give the folder: --images or --ground-truth."
        raise InputError(msg)
    paths = [path for path in find_images(folder) if images is not None or path.stem.endswith("_labelIds")]
    if not paths:
        msg = f"folder '{folder}' holds no _labelIds.png. Give a folder such as gtFine/val."
        raise InputError(msg)
    return check_submission(submission, {path.name: image_size(path) for path in paths}, progress=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and check; returns 2 after a short error that names what is wrong, else 0."""

    def act() -> None:
        arguments = parse_function(check, f"{program('segmentation')} check", argv, __doc__)
        sys.stdout.write(f"'{arguments['submission']}' is in order: {check(**arguments)} label maps\n")

    return run_command(act)
