"""Instance masks: COCO's polygons and run lengths as they stand in a file, as pixels, and as layers of labels.

Run lengths are those of pycocotools (`mask.py`): columns of a mask one after the other, compressed to text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection.data.boxes import Ints, ends_of
from engine.errors import InputError
from engine.reading.images import resize_labels

MOST = 254  # labels of a layer: 0 is nothing, 255 what lies beside the picture
Pixels = NDArray[np.uint8]


class Rle(TypedDict):
    """A mask as run lengths.

    Attributes:
        size: height and width in pixels.
        counts: the run lengths, compressed.
    """

    size: list[int]
    counts: str


class _Image(msgspec.Struct, gc=False):
    id: int


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation] = []


@dataclass(frozen=True, eq=False)
class MaskTable:
    """The masks of an annotation file in the order of a `BoxSource`'s boxes: by image, and then as in the file.

    Attributes:
        source: what messages call the file.
        text: the JSON of all masks, one after the other; it is read when an image is.
        ends: (N + 1,) where they begin and end.
    """

    source: str
    text: NDArray[np.uint8]
    ends: Ints

    @classmethod
    def read(cls, path: str | Path) -> MaskTable:
        """The masks of a COCO file that has been read as a `BoxSource`, which checks all else.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            content = msgspec.json.decode(Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_File)
        except (OSError, msgspec.MsgspecError) as error:
            msg = (
                f"cannot read the masks of '{path}': {error}. Give a COCO file with 'segmentation' in its annotations."
            )
            raise InputError(msg) from error
        place = {image.id: row for row, image in enumerate(content.images)}
        rows = np.array([place[one.image_id] for one in content.annotations], np.int64)
        order = np.argsort(rows, kind="stable")
        texts = [bytes(content.annotations[row].segmentation) for row in order.tolist()]
        text = np.frombuffer(bytearray().join(texts), np.uint8)
        return cls(str(path), text, ends_of(np.array([len(one) for one in texts], np.int64)))

    def pixels(self, rows: Ints, size_hw: tuple[int, int]) -> Pixels:
        """The masks of some boxes of an image, (H, W, N) uint8 of 0 and 1.

        Args:
            rows: (N,) of the boxes.
            size_hw: height and width of the image.

        Raises:
            InputError: one has no mask, or one that does not fit the image.
        """
        if not len(rows):
            return np.zeros((*size_hw, 0), np.uint8)
        return decoded([self._rle(row, size_hw) for row in rows.tolist()])

    def _rle(self, row: int, size_hw: tuple[int, int]) -> Rle:
        start, end = self.ends[row : row + 2].tolist()
        given = msgspec.json.decode(self.text[start:end].tobytes())
        if not given:
            msg = (
                f"'{self.source}' has an object without a 'segmentation', which head mask_rcnn learns. Leave the "
                "object out, or take another model.head."
            )
            raise InputError(msg)
        return run_lengths(given, size_hw, self.source)


def run_lengths(given: object, size_hw: tuple[int, int], source: str) -> Rle:
    """A `segmentation` of COCO, polygons or run lengths of either kind, as compressed run lengths.

    Args:
        given: as it stands in the file.
        size_hw: height and width of the image.
        source: what messages call the file.

    Raises:
        InputError: it is neither, or is of an image of another size.
    """
    from pycocotools import mask

    if (
        isinstance(given, Mapping)
        and isinstance(given.get("size"), list)
        and isinstance(given.get("counts"), list | str)
    ):
        size = given["size"]
        if size != list(size_hw):
            msg = f"'{source}' has a mask of {size} pixels for an image of {list(size_hw)}. Give masks of its size."
            raise InputError(msg)
        if isinstance(given["counts"], str):
            return {"size": size, "counts": given["counts"]}
        found = mask.frPyObjects({"size": size, "counts": given["counts"]}, *size_hw)
    elif isinstance(given, list) and all(isinstance(one, list) and len(one) >= 6 and not len(one) % 2 for one in given):
        found = mask.merge(mask.frPyObjects(given, *size_hw))
    else:
        msg = (
            f"'{source}' has a 'segmentation' that is neither polygons nor run lengths: {str(given)[:60]}. Correct it."
        )
        raise InputError(msg)
    return {"size": list(size_hw), "counts": found["counts"].decode("ascii")}


def encoded(masks: NDArray[np.bool_]) -> list[Rle]:
    """The run lengths of masks (N, H, W)."""
    from pycocotools import mask

    found = mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [{"size": list(one["size"]), "counts": one["counts"].decode("ascii")} for one in found]


def decoded(masks: Sequence[Rle]) -> Pixels:
    """Masks (H, W, N) of 0 and 1 from their run lengths; N is at least 1."""
    from pycocotools import mask

    pixels: Pixels = mask.decode(list(masks))
    return pixels


def resized(masks: Sequence[Rle], size_hw: tuple[int, int]) -> list[Rle]:
    """Masks of a larger or smaller copy of the picture, one after the other."""
    return [encoded(resize_labels(decoded([one])[..., 0], size_hw)[None] > 0)[0] for one in masks]


class Layers:
    """Masks as maps of labels, so that an augmentation changes a few maps rather than one for each object.

    Masks that overlap lie in different maps.

    Args:
        masks: (H, W, N) of 0 and 1.
    """

    def __init__(self, masks: Pixels) -> None:
        self.maps: list[Pixels] = [np.zeros(masks.shape[:2], np.uint8)]
        self.places: list[tuple[int, int]] = []
        used = [0]
        for one in np.moveaxis(masks, 2, 0):
            rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
            part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else np.s_[:0, :0]
            inside = one[part].astype(np.bool_)
            layer = 0
            while used[layer] >= MOST or (self.maps[layer][part][inside] > 0).any():
                layer += 1
                if layer == len(self.maps):
                    self.maps.append(np.zeros(masks.shape[:2], np.uint8))
                    used.append(0)
            used[layer] += 1
            self.maps[layer][part][inside] = used[layer]
            self.places.append((layer, used[layer]))

    @property
    def packed(self) -> Pixels:
        """The maps as one array (H, W) or (H, W, L)."""
        return self.maps[0] if len(self.maps) == 1 else np.stack(self.maps, 2)

    def unpacked(self, packed: Pixels, kept: Ints) -> Pixels:
        """The masks (n, H', W') of 0 and 1 of some objects, in maps that were changed together.

        Args:
            packed: `packed` of another height and width.
            kept: (n,) the objects, as the masks were numbered.
        """
        maps = packed[..., None] if packed.ndim == 2 else packed
        if not len(kept):
            return np.zeros((0, *maps.shape[:2]), np.uint8)
        places = np.array(self.places, np.int64)[kept]
        found: Pixels = (np.moveaxis(maps, 2, 0)[places[:, 0]] == places[:, 1, None, None]).astype(np.uint8)
        return found
