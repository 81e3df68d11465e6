"""Any user's folders of images and masks, paired by name."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.data.contracts import SplitName
from engine.errors import InputError, did_you_mean
from engine.names import pairing_name
from engine.reading.images import UInt8Array
from engine.reading.listing import find_images
from segmentation.data.classes import MaskClasses, Rgb
from segmentation.data.masks import MaskFormat, MaskReader
from segmentation.data.pairs import Pair, check_paired

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderData:
    """Where a user's own images and masks lie, and what the masks mean.

    Attributes:
        train_images: folder of the training images.
        train_masks: folder of their masks, which have the images' names.
        train_list: the images to take, if not all: a text file with one name per line, or a COCO JSON.
        val_images: folder of the validation images.
        val_masks: folder of their masks.
        val_list: the images to take.
        test_images: folder of the test images.
        test_masks: folder of their masks.
        test_list: the images to take.
        classes: names in the order of the rows; or a mapping with `names`, `label_ids` (the values in index masks)
            and `colors`; or a YAML file with either.
        mask_format: "index" for values that are label ids, "color" for RGB, "binary" for 0 and anything else.
        ignore_values: values of pixels that are not counted; by default 255 in index masks, unless a class has it.
        ignore_colors: the same for colour masks.
        image_suffix: what image names have before the file ending in addition to the pair's name, such as `_rgb`.
        mask_suffix: the same for masks, such as `_mask`.
    """

    train_images: str | None = None
    train_masks: str | None = None
    train_list: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    val_list: str | None = None
    test_images: str | None = None
    test_masks: str | None = None
    test_list: str | None = None
    classes: str | list[str] | dict[str, object] | None = None
    mask_format: MaskFormat = "index"
    ignore_values: tuple[int, ...] | None = None
    ignore_colors: tuple[Rgb, ...] = ()
    image_suffix: str = ""
    mask_suffix: str = ""

    def of(self, split: SplitName) -> tuple[str | None, str | None, str | None]:
        """Images, masks and list of a split."""
        splits: dict[SplitName, tuple[str | None, str | None, str | None]] = {
            "train": (self.train_images, self.train_masks, self.train_list),
            "val": (self.val_images, self.val_masks, self.val_list),
            "test": (self.test_images, self.test_masks, self.test_list),
        }
        return splits[split]


class MaskFolder:
    """Images with the masks of the same name, below their folders to any depth.

    Args:
        images: folder of the images.
        masks: folder of the masks; it may be the same one if their names differ by a suffix.
        reader: what the masks' values mean.
        image_suffix: what is added to the pair's name in an image's name, before the file ending: `_rgb` in
            `7_rgb.jpg`. Files without it are not images.
        mask_suffix: the same for masks: `_mask` in `7_mask.png`.
        list_file: the images to take: a text file with one name per line, with or without file ending, or a COCO
            JSON, whose `file_name` entries count. By default all images are taken.
        leave_out: whether images without a mask, and listed images that do not exist, are left out (`unpaired` names
            them; `unused` names masks without an image, which are always left out).

    Raises:
        InputError: a folder or list is missing or empty, an image has no mask, two have the same name, or the list
            names an image that does not exist.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        reader: MaskReader,
        *,
        image_suffix: str = "",
        mask_suffix: str = "",
        list_file: str | Path | None = None,
        leave_out: bool = False,
    ) -> None:
        self.source = str(images)
        self.reader = reader
        image_folder, mask_folder = Path(images), Path(masks)
        pictures = _by_name(image_folder, image_suffix, "image", _others(image_folder, mask_folder, mask_suffix))
        truths = _by_name(mask_folder, mask_suffix, "mask", _others(mask_folder, image_folder, image_suffix))
        chosen: list[str] = list(pictures)
        absent: list[str] = []
        if list_file is not None:
            chosen, absent = _chosen(Path(list_file), pictures, image_suffix, leave_out)
        missing = [name for name in chosen if name not in truths]
        wanted = mask_folder / f"{(missing or chosen)[0]}{mask_suffix}.png"
        remedy = f"Add '{wanted}', or correct image_suffix or mask_suffix."
        unpaired = [str(pictures[name]) for name in missing]
        check_paired(unpaired, len(chosen), remedy, leave_out=leave_out)
        self.unpaired = (*unpaired, *absent)
        self.pairs = tuple(Pair(pictures[name], truths[name]) for name in chosen if name in truths)
        self.unused = tuple(truths[name] for name in truths if name not in pictures)
        if self.unused:
            _log.info("%s: %d masks have no image and are left out", mask_folder, len(self.unused))

    @property
    def classes(self) -> MaskClasses:
        """The classes of the masks."""
        return self.reader.classes

    def read_mask(self, path: Path) -> UInt8Array:
        """(H, W) rows of the classes; `IGNORED` where nothing is counted.

        Raises:
            InputError: see `MaskReader`.
        """
        return self.reader(path)

    def read_leniently(self, path: Path) -> UInt8Array:
        """As `read_mask`, with pixels of no class as pixels that are not counted.

        Raises:
            InputError: see `MaskReader`.
        """
        return dataclasses.replace(self.reader, lenient=True)(path)


def _others(folder: Path, other: Path, other_suffix: str) -> tuple[Path | None, str]:
    """The files below `folder` of the other kind: those below another folder in it, or those with the suffix."""
    if folder == other:
        return None, other_suffix
    return (other if folder in other.parents else None), ""


def _by_name(folder: Path, suffix: str, what: str, leave_out: tuple[Path | None, str]) -> dict[str, Path]:
    """Files by their path below the folder without suffix and file ending, in sorted order."""
    if not folder.is_dir():
        msg = f"{what} folder '{folder}' does not exist. Check the path."
        raise InputError(msg)
    other_folder, other_suffix = leave_out
    found: dict[str, Path] = {}
    for path in find_images(folder):
        if not pairing_name(path.stem).endswith(pairing_name(suffix)) or (
            other_folder is not None and other_folder in path.parents
        ):
            continue
        if len(other_suffix) > len(suffix) and pairing_name(path.stem).endswith(pairing_name(other_suffix)):
            continue
        name = _name(path.relative_to(folder), suffix)
        if name in found:
            msg = (
                f"{what}s '{found[name]}' and '{path}' have the same name. Take one out, or tell images from masks by "
                "image_suffix and mask_suffix."
            )
            raise InputError(msg)
        found[name] = path
    if not found:
        msg = f"{what} folder '{folder}' holds no file that ends in '{suffix}'. Correct {what}_suffix."
        raise InputError(msg)
    return found


def _name(path: Path, suffix: str) -> str:
    path = Path(pairing_name(str(path)))
    return path.with_name(path.stem.removesuffix(pairing_name(suffix))).as_posix()


class _CocoImage(msgspec.Struct):
    file_name: str


class _CocoImages(msgspec.Struct):
    images: list[_CocoImage]


def _chosen(file: Path, pictures: dict[str, Path], suffix: str, leave_out: bool) -> tuple[list[str], list[str]]:
    """The names that a list file gives, in its order, and its lines that no picture has, where they may be left out."""
    listed = _read_list(file)
    if not listed:
        msg = f"list '{file}' names no image. Give one name a line, or a COCO JSON with images."
        raise InputError(msg)
    # A name in a list may be that of the pair, of the image with its suffix, or of its file.
    names = [next((n for n in _spellings(line, suffix) if n in pictures), None) for line in listed]
    missing = [line for line, name in zip(listed, names, strict=True) if name is None]
    if missing and not (leave_out and len(missing) < len(listed)):
        msg = (
            f"list '{file}' names {len(missing)} images that are not in the folder, the first is "
            f"'{missing[0]}'.{did_you_mean(missing[0], pictures)} Correct the list or the folder."
        )
        raise InputError(msg)
    chosen = [name for name in names if name is not None]
    if len(set(chosen)) < len(chosen):
        twice = next(name for place, name in enumerate(chosen) if name in chosen[:place])
        msg = f"list '{file}' names '{twice}' more than once. Leave one of the lines out."
        raise InputError(msg)
    return chosen, missing


def _spellings(line: str, suffix: str) -> list[str]:
    path = Path(pairing_name(line))
    return [path.as_posix(), path.as_posix().removesuffix(suffix), _name(path, suffix)]


def _read_list(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
        if file.suffix.lower() == ".json":
            return [image.file_name for image in msgspec.json.decode(content, type=_CocoImages).images]
        return [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError as error:
        msg = f"list '{file}' does not exist. Check the path."
        raise InputError(msg) from error
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        msg = f"cannot read list '{file}': {error}. Give a text file with one name a line, or a COCO JSON."
        raise InputError(msg) from error
