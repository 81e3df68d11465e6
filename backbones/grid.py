"""The places of a feature map's cells on the image, and reading a map at the cells of another grid.

A strided convolution with symmetric padding centres its cell i on pixel 2 i of its input. TensorFlow's SAME padding
does so at odd sizes, and at even sizes centres it on pixel 2 i + 1, because the one row that it adds lies below.
Through the strided layers of a network, cell i of a map so comes to lie at pixel `stride * i + offset`. Upsampling that
assumes anything else shifts the classes against the image: `align_corners=True` at even sizes by up to 12 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """The cells of a map on the image: cell (i, j) is centred on pixel (stride * i + offset_y, stride * j + offset_x).

    Attributes:
        stride: image pixels per cell.
        offset_yx: image pixels from pixel (0, 0) to cell (0, 0).
    """

    stride: int
    offset_yx: tuple[int, int]


def size_hw(maps: Tensor) -> tuple[int, int]:
    """Height and width of maps or images (..., H, W), as numbers that may be used as paddings.

    While `torch.jit.trace` runs a network, which older exporters to ONNX do, sizes are tensors, and a padding that is
    computed from tensors is no constant of the graph.
    """
    sides: Sequence[int | Tensor] = maps.shape[-2:]
    height, width = (int(side) if isinstance(side, Tensor) else side for side in sides)
    return height, width


def is_traced(images: Tensor) -> bool:
    """Whether `torch.jit.trace` runs the network."""
    sides: Sequence[int | Tensor] = images.shape
    return isinstance(sides[0], Tensor)


def feature_grid(image_hw: tuple[int, int], stride: int, *, same_padding: bool) -> Grid:
    """The grid of a map behind log2(stride) layers of stride 2 with odd kernels.

    Args:
        image_hw: height and width of the image, in pixels.
        stride: stride of the map, a power of two.
        same_padding: whether the padding is TensorFlow's rather than the symmetric one.
    """
    return Grid(stride, (_offset(image_hw[0], stride, same_padding), _offset(image_hw[1], stride, same_padding)))


def _offset(length: int, stride: int, same_padding: bool) -> int:
    # SAME padding keeps the odd rows of an even size and the even rows of an odd size, always with the last one.
    return (length - 1) % stride if same_padding else 0


def subsample(maps: Tensor, grid: Grid, onto: Grid) -> Tensor:
    """Read a map at the cells of a coarser grid, each of which is also a cell of the map.

    For a network whose strides became dilations this gives the map of the network that kept them: exactly without
    squeeze-and-excitation or with `EfficientNetFeatures(exact_gates=True)`, otherwise approximately.

    Args:
        maps: (B, C, h, w) on `grid`.
        grid: its grid.
        onto: the coarser grid of the same network and image.

    Returns:
        (B, C, ceil(h / step), ceil(w / step)) with step = onto.stride / grid.stride; a view.
    """
    step, (y, x) = cells_between(grid, onto)
    return maps[..., y::step, x::step]


def cells_between(grid: Grid, onto: Grid) -> tuple[int, tuple[int, int]]:
    """How a coarser grid lies on a finer: finer cells from one of its cells to the next, and the place of its first."""
    y, x = ((coarse - fine) // grid.stride for fine, coarse in zip(grid.offset_yx, onto.offset_yx, strict=True))
    return onto.stride // grid.stride, (y, x)


def resample(maps: Tensor, grid: Grid, onto: Grid, target_hw: tuple[int, int]) -> Tensor:
    """Read a map bilinearly at the cells of a finer grid; beyond its outermost cells their values are repeated.

    Args:
        maps: (B, C, h, w) on `grid`.
        grid: its grid.
        onto: the finer grid of the same network and image, or the image's own, `Grid(1, (0, 0))`.
        target_hw: number of rows and columns of the finer grid.

    Returns:
        (B, C, *target_hw), a view of a slightly larger tensor where that saves a copy.
    """
    padded, factor, (y, x) = _padded(maps, grid, onto, target_hw)
    fine_h, fine_w = ((cells - 1) * factor + 1 for cells in size_hw(padded))
    fine = F.interpolate(padded, size=(fine_h, fine_w), mode="bilinear", align_corners=True)
    height, width = target_hw
    return fine[..., y : y + height, x : x + width]


def resampled_strips(
    maps: Tensor, grid: Grid, onto: Grid, target_hw: tuple[int, int], rows: int
) -> Generator[Tensor, None, None]:
    """The same as `resample`, from top to bottom, with only some rows in memory at a time.

    Args:
        maps: as for `resample`.
        grid: as for `resample`.
        onto: as for `resample`.
        target_hw: as for `resample`.
        rows: rows of a strip, at least 1; the last may have fewer.

    Yields:
        (B, C, rows, W): the next rows.
    """
    padded, factor, (y, x) = _padded(maps, grid, onto, target_hw)
    height, width = target_hw
    fine_w = (size_hw(padded)[1] - 1) * factor + 1
    # A part keeps the whole's order of values, by which torch chooses its kernel; kernels round differently.
    last = padded.is_contiguous(memory_format=torch.channels_last) and not padded.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    for start in range(y, y + height, rows):
        stop = min(start + rows, y + height)
        # Cells lie exactly `factor` fine rows apart and the factor is a power of two, so that the places and weights
        # of a part that begins at a cell are, to the last bit, those of the whole.
        top, bottom = start // factor, -(-(stop - 1) // factor)
        part = padded[..., top : bottom + 1, :].contiguous(memory_format=order)
        fine = F.interpolate(part, size=((bottom - top) * factor + 1, fine_w), mode="bilinear", align_corners=True)
        yield fine[..., start - top * factor : stop - top * factor, x : x + width]


def _padded(maps: Tensor, grid: Grid, onto: Grid, target_hw: tuple[int, int]) -> tuple[Tensor, int, tuple[int, int]]:
    """Maps that reach over all cells of the finer grid, its cells per cell, and where its first one lies on them."""
    factor = grid.stride // onto.stride
    (top, bottom), (left, right) = margins(size_hw(maps), grid, onto, target_hw)
    if top or bottom or left or right:
        maps = F.pad(maps, (left, right, top, bottom), mode="replicate")
    y, x = (
        before * factor - (offset - target) // onto.stride
        for before, offset, target in zip((top, left), grid.offset_yx, onto.offset_yx, strict=True)
    )
    return maps, factor, (y, x)


def margins(
    cells_hw: tuple[int, int], grid: Grid, onto: Grid, target_hw: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many cells a map lacks above, below, left and right, so that it reaches over all cells of a finer grid.

    Args:
        cells_hw: height and width of the map in its own cells.
        grid: its grid.
        onto: the finer grid of the same network and image.
        target_hw: number of rows and columns of the finer grid.

    Returns:
        Above and below, then left and right; each is 0 or 1.
    """
    factor = grid.stride // onto.stride
    lacking = []
    for length, cells, offset, target in zip(target_hw, cells_hw, grid.offset_yx, onto.offset_yx, strict=True):
        # Fine cell k lies at coarse position (k - first) / factor; one more coarse cell on each side where needed.
        first = (offset - target) // onto.stride
        before = max(0, math.ceil(first / factor))
        lacking.append((before, max(0, math.ceil((length - 1 - first) / factor) - (cells - 1))))
    return lacking[0], lacking[1]


def resample_joined(maps: Tensor, grid: Grid, onto: Grid, target_hw: tuple[int, int]) -> Tensor:
    """As `resample`, for maps of a known size: rows and columns at the border are repeated by joining.

    Neither the Edge TPU nor XNNPACK has an operator that repeats a border.
    """
    (top, bottom), (left, right) = margins(size_hw(maps), grid, onto, target_hw)
    maps = repeated(repeated(maps, 2, top, bottom), 3, left, right)
    y, x = grid.offset_yx
    return resample(maps, Grid(grid.stride, (y - top * grid.stride, x - left * grid.stride)), onto, target_hw)


def repeated(maps: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Maps with their first cells along an axis put before them again, and their last behind them."""
    first, last = maps.narrow(axis, 0, 1), maps.narrow(axis, maps.shape[axis] - 1, 1)
    parts = [first] * before + [maps] + [last] * after
    return torch.cat(parts, dim=axis) if len(parts) > 1 else maps
