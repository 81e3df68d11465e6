"""Images with their boxes in flat arrays: what training, validation and scores ask of a format, and a table of them.

A list of Python dictionaries costs gigabytes for COCO, and once more in every worker, because reading an object
changes its reference count and so copies its memory page. Flat arrays are never written to: forked workers share
their pages, and for a spawned worker `BoxTable` moves them to shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detection.data.classes import BoxClasses

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Rows: TypeAlias = NDArray[np.int32]
Flags: TypeAlias = NDArray[np.bool_]


class BoxSource(Protocol):
    """A set of I images with N annotated boxes, from any format; `BoxTable` and `CocoAnnotations` are examples.

    The boxes lie one after the other in the order of their images. Training uses exactly these boxes,
    and scores compare with them.
    """

    @property
    def source(self) -> str:
        """What messages call the set, such as the path of its file."""
        ...

    @property
    def classes(self) -> BoxClasses:
        """Its categories, in ascending order of id."""
        ...

    @property
    def image_ids(self) -> Ints:
        """(I,) ids of the images, all different."""
        ...

    @property
    def sizes_hw(self) -> Rows:
        """(I, 2) height and width as annotated; 0 where the format does not state them."""
        ...

    @property
    def box_ends(self) -> Ints:
        """(I + 1,); the boxes of image i lie between ends i and i + 1."""
        ...

    @property
    def boxes_xywh(self) -> Floats:
        """(N, 4) left, top, width and height in pixels of the original images, as annotated, not clipped."""
        ...

    @property
    def class_ids(self) -> Rows:
        """(N,) rows of `classes`."""
        ...

    @property
    def areas(self) -> Floats:
        """(N,) square pixels, of the object's mask where the format gives it; decides small, medium and large."""
        ...

    @property
    def crowd(self) -> Flags:
        """(N,) regions in which any number of detections is neither right nor wrong."""
        ...

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        ...


class ImageBoxes(NamedTuple):
    """The annotations of one image, crowds and boxes without area included.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the original image as annotated, not clipped.
        class_ids: (N,) int32 rows of the source's `classes`.
        iscrowd: (N,) bool.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids: Rows
    iscrowd: Flags


@dataclass(frozen=True, eq=False)
class BoxTable:
    """A `BoxSource` as columns: I images in the order of their format, N boxes ordered by image.

    Attributes:
        source: what messages call it.
        image_folder: where the file names start from.
        classes: the categories in ascending order of id.
        image_ids: (I,) int64.
        sizes_hw: (I, 2) int32; 0 where not known.
        name_bytes: the file names, UTF-8, one after the other.
        name_ends: (I + 1,) int64; name i lies between ends i and i + 1.
        box_ends: (I + 1,) int64; the boxes of image i lie between ends i and i + 1.
        boxes_xywh: (N, 4) float64 pixels of the original images, as annotated.
        class_ids: (N,) int32 rows of `classes`.
        areas: (N,) float64 square pixels.
        crowd: (N,) bool.
    """

    source: str
    image_folder: Path
    classes: BoxClasses
    image_ids: Ints
    sizes_hw: Rows
    name_bytes: NDArray[np.uint8]
    name_ends: Ints
    box_ends: Ints
    boxes_xywh: Floats
    class_ids: Rows
    areas: Floats
    crowd: Flags

    def __len__(self) -> int:
        return len(self.image_ids)

    def file_name(self, index: int) -> str:
        """File name of an image, as the annotations state it."""
        start, end = self.name_ends[index : index + 2].tolist()
        return self.name_bytes[start:end].tobytes().decode()

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return self.image_folder / self.file_name(index)

    def size_hw(self, index: int) -> tuple[int, int] | None:
        """Height and width of an image, if the annotations state them."""
        return size_of(self, index)

    def boxes_of(self, index: int) -> ImageBoxes:
        """The annotations of an image."""
        return boxes_of(self, index)

    def __getstate__(self) -> dict[str, object]:
        """Columns as tensors in shared memory, which torch sends to a spawned worker as a name instead of a copy."""
        import torch

        state: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                sent: object = value.base  # the shared tensor, if it was sent to an earlier worker
                if isinstance(sent, torch.Tensor) and sent.is_shared() and sent.shape == value.shape:
                    value = sent
                else:
                    value = torch.from_numpy(value).share_memory_()
                    object.__setattr__(self, field.name, value.numpy())  # otherwise this process would hold both copies
            state[field.name] = value
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        from torch import Tensor

        for name, value in state.items():
            object.__setattr__(self, name, value.numpy() if isinstance(value, Tensor) else value)


def box_table(
    source: str,
    classes: BoxClasses,
    image_paths: Sequence[Path],
    boxes_xywh: Floats,
    image_rows: Ints,
    class_ids: Ints,
    *,
    sizes_hw: Rows | None = None,
    areas: Floats | None = None,
    crowd: Flags | None = None,
) -> BoxTable:
    """A table for your own format; images are numbered from 1, and boxes may come in any order.

    Args:
        source: what messages call the set.
        classes: its categories, in ascending order of id.
        image_paths: I files, those without a box included.
        boxes_xywh: (N, 4) left, top, width and height in pixels of the original images.
        image_rows: (N,) index of each box's image in `image_paths`.
        class_ids: (N,) rows of `classes`.
        sizes_hw: (I, 2) height and width of the images; by default those of the files.
        areas: (N,) square pixels of the objects; by default those of the boxes.
        crowd: (N,) whether a box is a crowd; by default none is.
    """
    order = np.argsort(image_rows, kind="stable")
    count = len(image_paths)
    names = [str(path).encode() for path in image_paths]
    boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)[order]
    return BoxTable(
        source=source,
        image_folder=Path(),
        classes=classes,
        image_ids=np.arange(1, count + 1),
        sizes_hw=np.zeros((count, 2), np.int32) if sizes_hw is None else sizes_hw,
        name_bytes=np.frombuffer(bytearray().join(names), np.uint8),
        name_ends=ends_of(np.array([len(name) for name in names], np.int64)),
        box_ends=ends_of(np.bincount(image_rows, minlength=count)),
        boxes_xywh=boxes,
        class_ids=np.asarray(class_ids, np.int32)[order],
        areas=boxes[:, 2] * boxes[:, 3] if areas is None else np.asarray(areas, np.float64)[order],
        crowd=np.zeros(len(boxes), np.bool_) if crowd is None else np.asarray(crowd, np.bool_)[order],
    )


def ends_of(counts: NDArray[np.integer]) -> Ints:
    """(I + 1,) the positions at which I runs begin and end, from their lengths."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def size_of(source: BoxSource, index: int) -> tuple[int, int] | None:
    """Height and width of an image, if the source states them."""
    height, width = source.sizes_hw[index].tolist()
    return (height, width) if height > 0 and width > 0 else None


def boxes_of(source: BoxSource, index: int) -> ImageBoxes:
    """The annotations of an image, boxes as their corners in the precision of training."""
    start, end = source.box_ends[index : index + 2].tolist()
    corners = corners_of(source.boxes_xywh[start:end])
    return ImageBoxes(corners, source.class_ids[start:end], source.crowd[start:end])


def corners_of(boxes_xywh: Floats) -> NDArray[np.float32]:
    """(N, 4) left, top, right and bottom, added exactly and then rounded to float32."""
    corners = boxes_xywh.copy()
    corners[:, 2:] += corners[:, :2]
    return corners.astype(np.float32)
