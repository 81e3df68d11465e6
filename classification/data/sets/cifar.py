"""CIFAR-10 and CIFAR-100 in their own binary form, and their download.

Source of the form: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version": records of one label (CIFAR-100: a
coarse and a fine one) and 3 x 32 x 32 bytes, the red rows first. The Python version is pickles, which could run code,
and is not read.
"""

from __future__ import annotations

import dataclasses
import functools
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from classification.data.classes import LabelClasses
from classification.data.sources import Rows
from engine.archives import check_size
from engine.checked import Checked
from engine.data.contracts import SplitName
from engine.download import fetch_to
from engine.errors import InputError
from engine.numbers import ZeroToBelowOne
from engine.outputs import atomic_path, make_folder
from engine.reading.images import UInt8Array
from engine.reading.reader import PixelReader

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
Name = Literal["cifar10", "cifar100"]


@dataclass(frozen=True)
class CifarData(Checked):
    """How CIFAR is used.

    Args:
        coarse: the 20 coarse classes of CIFAR-100 in place of the 100 fine ones.
        val_share: share of the training images that are kept for validation; 0 validates on the test images, as papers
            often do, which makes the best checkpoint's score too good.
        download: the set to download into the root if it is not there.
    """

    coarse: bool = False
    val_share: ZeroToBelowOne = 0.1
    download: Name | None = None
    group: ClassVar[str] = "data.cifar"


@dataclass(frozen=True)
class _Form:
    folder: str
    archive: str
    sha256: str
    train: tuple[str, ...]
    test: str
    labels: int  # bytes before the pixels
    fine_names: str
    coarse_names: str | None = None


BASE_URL = "https://www.cs.toronto.edu/~kriz"
FORMS: Mapping[Name, _Form] = {
    "cifar10": _Form(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        "test_batch.bin",
        1,
        "batches.meta.txt",
    ),
    "cifar100": _Form(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ("train.bin",),
        "test.bin",
        2,
        "fine_label_names.txt",
        "coarse_label_names.txt",
    ),
}


@dataclass(frozen=True, eq=False)
class CifarRecords:
    """Some records of CIFAR.

    Attributes:
        source: what messages call the set.
        classes: the classes.
        files: the files that hold the records.
        labels: bytes of labels before the pixels of a record.
        lengths: records of each file.
        places: (M,) the records that are meant, counted over all files.
        targets: (M,) int64 rows.
    """

    source: str
    classes: LabelClasses
    files: tuple[Path, ...]
    labels: int
    lengths: tuple[int, ...]
    places: Rows
    targets: Rows

    def __len__(self) -> int:
        return len(self.places)

    def image_path(self, index: int) -> Path:
        """The file that holds a record."""
        return self.files[self._where(index)[0]]

    def image_name(self, index: int) -> str:
        """The file and the number of the record in it."""
        which, row = self._where(index)
        return f"{self.files[which].name}/{row}"

    def read_image(self, index: int, read: PixelReader) -> UInt8Array:
        """An image, (32, 32, 3) RGB."""
        which, row = self._where(index)
        record = _mapped(self.files[which], self.labels)[row]
        planes = record[self.labels :].reshape(3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def _where(self, index: int) -> tuple[int, int]:
        place = int(self.places[index])
        for which, length in enumerate(self.lengths):
            if place < length:
                return which, place
            place -= length
        raise IndexError(index)


def read_cifar(root: Path, data: CifarData) -> Mapping[SplitName, CifarRecords]:
    """Training, validation and test images.

    Args:
        root: holds the files of the binary version, or the folder that its archive unpacks to.
        data: which part is for validation, and which classes are meant.

    Raises:
        InputError: the files are not there, are those of the Python version, or are damaged.
    """
    found = _found(root)
    if found is None and data.download is not None:
        with FileLock(make_folder(root) / ".download.lock"):  # of the processes of a training one fetches it
            if _found(root) is None:
                download(root, data.download)
        found = _found(root)
    if found is None:
        raise InputError(_absent(root))
    form, folder = found
    if data.coarse and form.coarse_names is None:
        msg = "data.cifar.coarse is true, but CIFAR-10 has no coarse classes. Leave it out."
        raise InputError(msg)
    names = form.coarse_names if data.coarse and form.coarse_names else form.fine_names
    classes = _names(folder / names)
    column = 0 if data.coarse else form.labels - 1
    train = _records(folder, form.train, form.labels, column, classes)
    test = _records(folder, (form.test,), form.labels, column, classes)
    if not data.val_share:
        return {"train": train, "val": test, "test": test}
    kept = round(len(train) * data.val_share)
    order = np.random.default_rng(0).permutation(len(train))  # the same for every seed of a training
    parts: Mapping[SplitName, Rows] = {"train": np.sort(order[kept:]), "val": np.sort(order[:kept])}
    return {**{name: _some(train, places) for name, places in parts.items()}, "test": test}


def download(root: Path, name: Name, base_url: str = BASE_URL) -> Path:
    """Download a set's archive, compare its checksum, and unpack its files below a folder.

    Args:
        root: the folder.
        name: the set.
        base_url: where the archive lies.

    Returns:
        The folder of the files.

    Raises:
        InputError: the server does not answer, the archive has another checksum, or it cannot be unpacked.
    """
    form = FORMS[name]
    archive = fetch_to(make_folder(root) / form.archive, base_url, form.sha256)
    wanted = {*form.train, form.test, form.fine_names, *([form.coarse_names] if form.coarse_names else [])}
    target = make_folder(root / form.folder)
    packed = archive.stat().st_size
    with tarfile.open(archive) as content:
        for entry in content:
            last = entry.name.rpartition("/")[2]
            file = content.extractfile(entry) if entry.isfile() and last in wanted else None
            if file is None:
                continue
            check_size(entry.size, packed)
            with atomic_path(target / last) as temporary:
                temporary.write_bytes(file.read())
            wanted.discard(last)
    if wanted:
        msg = f"'{archive}' lacks {', '.join(sorted(wanted))}. Delete it, and download it again."
        raise InputError(msg)
    archive.unlink()
    return target


def _found(root: Path) -> tuple[_Form, Path] | None:
    for form in FORMS.values():
        for folder in (root, root / form.folder):
            if (folder / form.test).is_file():
                return form, folder
    return None


def _absent(root: Path) -> str:
    for folder in (root, root / "cifar-10-batches-py", root / "cifar-100-python"):
        if (folder / "test_batch").is_file() or (folder / "test").is_file():
            return (
                f"'{folder}' is CIFAR's Python version: pickles, which could run code and are not read. Download the "
                "binary version: --data.cifar.download cifar10, or cifar100."
            )
    return (
        f"'{root}' holds neither test_batch.bin of CIFAR-10 nor test.bin of CIFAR-100. Give their folder, or download "
        "them: --data.cifar.download cifar10, or cifar100."
    )


def _names(path: Path) -> LabelClasses:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read '{path}', the names of CIFAR's classes: {error}. Take it from the same archive."
        raise InputError(msg) from error
    return LabelClasses(tuple(lines))


def _records(folder: Path, files: tuple[str, ...], labels: int, column: int, classes: LabelClasses) -> CifarRecords:
    paths = tuple(folder / name for name in files)
    targets = []
    for path in paths:
        if not path.is_file():
            msg = f"'{path}' is missing beside the other files of CIFAR. Unpack the archive again."
            raise InputError(msg)
        size = path.stat().st_size
        if not size or size % (labels + _PIXELS):
            msg = (
                f"'{path}' has {size:,} bytes, which are no whole records of {labels + _PIXELS:,}: it is damaged or "
                "cut short. Unpack the archive again."
            )
            raise InputError(msg)
        targets.append(_mapped(path, labels)[:, column].astype(np.int64))
    rows = np.concatenate(targets)
    if rows.max() >= len(classes):
        msg = f"'{folder}' has the label {rows.max()}, but {len(classes)} names. Take both from the same archive."
        raise InputError(msg)
    lengths = tuple(len(part) for part in targets)
    return CifarRecords(str(folder), classes, paths, labels, lengths, np.arange(len(rows)), rows)


@functools.lru_cache(maxsize=16)  # the files of a set, opened once in each process
def _mapped(path: Path, labels: int) -> npt.NDArray[np.uint8]:
    """The records of a file, (N, labels + 3072)."""
    return np.memmap(path, np.uint8, "r").reshape(-1, labels + _PIXELS)


def _some(records: CifarRecords, places: Rows) -> CifarRecords:
    return dataclasses.replace(records, places=records.places[places], targets=records.targets[places])
