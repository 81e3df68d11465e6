"""How a network is applied to an image: whole or in tiles, at several scales, mirrored; the results are probabilities.

Tiles are blended as `engine.large.tiling` says. Tiled results equal those of the whole image for a network
whose receptive radius is at most the margin; one that looks at the whole picture, as image pooling and
squeeze-and-excite do, sees less in a tile, so its results differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.checked import Checked
from engine.errors import InputError
from engine.large.tiling import Tile, Tiling
from engine.numbers import PositiveInt, TenthToTen
from engine.prediction.predictor import check_numbers
from engine.reading.images import UInt8Array, resize
from engine.reading.pixels import pixels_of
from segmentation.inference.seams import Seams
from segmentation.network.model import Segmenter

LARGEST_WHOLE = 3840 * 2160  # pixels; Lite0 takes about 3 GB for these, and four times as much for four times as many
LARGE_WINDOW = 1024
MOST_SCORES = 2**25  # scores of classes at the pixels that are held at a time when only the classes are asked: 128 MiB


class Network(Protocol):
    """What a network must offer."""

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """RGB of pixels that show nothing."""
        ...

    @property
    def stride(self) -> int:
        """The origins of tiles are multiples of this."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB, 0 to 255, to (B, K, H, W) logits."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Its weights, from which the device is known; an exported file has none here."""
        ...

    def buffers(self) -> Iterator[Tensor]:
        """Its other tensors."""
        ...


@dataclass(frozen=True)
class Inference(Checked):
    """How an image is computed.

    Args:
        window: Side in pixels of the tiles in which an image is computed; null computes it whole, up to the size of
            a 4K picture, and beyond that in tiles of 1024.
        overlap: Pixels that neighbouring tiles share; null is a quarter of the window.
        margin: Pixels at a tile's inner ends that get no weight; null is a quarter of the overlap.
        scales: Sizes, relative to the image's own, at which it is computed; probabilities are averaged.
        flip: Average with the mirrored image.
        batch: Number of tiles that are computed together; a processor takes one at a time for classes alone.

    Raises:
        InputError: a value is out of range.
    """

    window: int | None = None
    overlap: int | None = None
    margin: int | None = None
    scales: tuple[TenthToTen, ...] = (1.0,)
    flip: bool = False
    batch: PositiveInt = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            msg = "scales is []; give at least one, each from 0.1 to 10."
            raise InputError(msg)
        if self.window is not None:
            self.tiling((1, 1), 1)  # checks the values
        elif self.overlap is not None or self.margin is not None:
            msg = "overlap and margin are those of tiles. Give window as well, or leave them out."
            raise InputError(msg)

    def tiling(self, size_hw: tuple[int, int], stride: int) -> Tiling | None:
        """The tiles of an image, None where it is computed whole.

        Args:
            size_hw: height and width in pixels.
            stride: the origins of tiles are multiples of it.

        Raises:
            InputError: window, overlap or margin do not fit one another, or the stride.
        """
        window = self.window
        if window is None:
            if size_hw[0] * size_hw[1] <= LARGEST_WHOLE:
                return None
            window = LARGE_WINDOW
        overlap = window // 4 if self.overlap is None else self.overlap
        margin = overlap // 4 if self.margin is None else self.margin
        return Tiling(size_hw, window, overlap, margin, stride)


@torch.no_grad()
def probabilities(network: Network, images: UInt8Array | Tensor, config: Inference | None = None) -> Tensor:
    """Probabilities of the classes at each pixel.

    An image scaled to less than the network takes is laid on its fill colour, at the top left.

    Args:
        network: in eval mode; this does not change its mode.
        images: (H, W, 3) uint8 RGB array, or (3, H, W) or (B, 3, H, W) uint8 RGB tensor.
        config: by default the whole image once.

    Returns:
        (K, H, W), or (B, K, H, W), float32 on the network's device; over the classes they sum to 1.

    Raises:
        InputError: the images are of another shape or type, the tiles do not fit the network, or the network gives no
            numbers.
    """
    config = config or Inference()
    batch = _as_batch(images)
    batch = batch.to(_device_of(network))
    size_hw = (batch.shape[2], batch.shape[3])
    passes = len(config.scales) * (2 if config.flip else 1)
    total: Tensor | None = None
    for scale in config.scales:
        scaled_hw = (max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale)))
        scaled = _resized(batch, scaled_hw)
        for mirrored in (False, True) if config.flip else (False,):
            found = _at_one_scale(network, scaled.flip(3) if mirrored else scaled, config)
            found = found.flip(3) if mirrored else found
            if scaled_hw != size_hw:
                found = F.interpolate(found, size_hw, mode="bilinear", align_corners=False, antialias=True)
            total = found if total is None else total.add_(found)
    assert total is not None
    check_numbers(total)
    total = total / passes if passes > 1 else total
    return total if images.ndim == 4 else total[0]


@torch.no_grad()
def class_rows(network: Network, images: UInt8Array | Tensor, config: Inference | None = None) -> Tensor:
    """The most probable class of each pixel, with few scores of classes in memory unless several passes are averaged.

    Args:
        network: as for `probabilities`.
        images: as for `probabilities`.
        config: by default the whole image once.

    Returns:
        (H, W), or (B, H, W), uint8 rows of the class list.

    Raises:
        InputError: as `probabilities`.
    """
    config, batch = config or Inference(), _as_batch(images)
    if isinstance(network, Segmenter) and network.gives_rows and _is_whole(config, batch, network.stride):
        rows = network.rows(batch)
        return rows if images.ndim == 4 else rows[0]
    if tuple(config.scales) != (1.0,) or config.flip:
        return probabilities(network, images, config).argmax(-3).to(torch.uint8)
    batch = batch.to(_device_of(network))
    tiling = config.tiling((batch.shape[2], batch.shape[3]), network.stride)
    if tiling is None or len(tiling) == 1:
        rows = torch.cat([_classes(strip) for strip in _strips(network, batch)], 1)
    else:
        rows = _rows_of_tiles(network, batch, tiling, config.batch)
    return rows if images.ndim == 4 else rows[0]


def _device_of(network: Network) -> torch.device:
    return next(chain(network.parameters(), network.buffers())).device


class Answer(NamedTuple):
    """The answer for a batch of images.

    Attributes:
        rows: (B, H, W) uint8 rows of the class list, the most probable class of each pixel.
        logits: (B, K, H, W) of any floating type, on the network's device; their softmax are the probabilities. None
            of a network that gives classes only.
    """

    rows: Tensor
    logits: Tensor | None


@torch.no_grad()
def answer(network: Network, images: Tensor, config: Inference | None = None) -> Answer:
    """As `class_rows`, with the logits that the rows come from.

    Where several passes or tiles are averaged, the logits are the logarithms of the averaged probabilities.

    Args:
        network: as for `probabilities`.
        images: (B, 3, H, W) uint8 RGB.
        config: by default the whole image once.

    Raises:
        InputError: as `probabilities`.
    """
    config = config or Inference()
    if isinstance(network, Segmenter) and network.gives_rows and _is_whole(config, images, network.stride):
        return Answer(network.rows(images), None)
    found, averaged = _best(network, images, config)
    rows = found.argmax(1).to(torch.uint8)  # of the probabilities, as logarithms may tie where they do not
    return Answer(rows, found.clamp_(min=torch.finfo(found.dtype).tiny).log_() if averaged else found)


def _best(network: Network, images: UInt8Array | Tensor, config: Inference) -> tuple[Tensor, bool]:
    """Logits, or averaged probabilities and True; both are largest at the most probable class."""
    batch = _as_batch(images)
    once = tuple(config.scales) == (1.0,) and not config.flip
    tiling = config.tiling((batch.shape[2], batch.shape[3]), network.stride) if once else None
    if not once or (tiling is not None and len(tiling) > 1):
        return probabilities(network, images, config), True
    found = _logits(network, batch.to(_device_of(network)))
    check_numbers(found)
    return found if images.ndim == 4 else found[0], False


def _is_whole(config: Inference, batch: Tensor, stride: int) -> bool:
    """Whether images are computed once, as they are."""
    tiling = config.tiling((batch.shape[2], batch.shape[3]), stride)
    return tuple(config.scales) == (1.0,) and not config.flip and (tiling is None or len(tiling) == 1)


def _classes(scores: Tensor) -> Tensor:
    """(B, h, W) uint8 rows of the largest of (B, K, h, W) scores."""
    check_numbers(scores)
    return scores.argmax(1).to(torch.uint8)


def _strips(network: Network, images: Tensor) -> Iterator[Tensor]:
    """(B, K, h, W) logits from top to bottom: all at once where they are few enough."""
    count, _, height, width = images.shape
    if not isinstance(network, Segmenter) or min(height, width) <= network.stride:
        yield _logits(network, images)
        return
    yield from network.strips(images, max(1, MOST_SCORES // (count * len(network.classes) * width)))


def _rows_of_tiles(network: Network, images: Tensor, tiling: Tiling, count: int) -> Tensor:
    """(B, H, W) classes by tiles, of whose probabilities only the seams are kept."""
    # A processor gains nothing from several tiles at a time, which only take memory.
    count = 1 if images.device.type == "cpu" else max(1, count // len(images))
    rows = images.new_empty(len(images), *images.shape[2:])
    seams: list[Seams] = []
    for tiles in _neighbours(tiling, count):
        found = _softmax(network, torch.cat([images[:, :, tile.rows, tile.columns] for tile in tiles]))
        check_numbers(found)
        seams = seams or [Seams(tiling, found.shape[1], found.device) for _ in images]
        for tile, part in zip(tiles, found.split(len(images)), strict=True):
            for number, one in enumerate(part):
                final, down, across = seams[number].add(tile, one)
                rows[number, down, across] = final.argmax(0).to(torch.uint8)
    return rows


def _neighbours(tiling: Tiling, count: int) -> Iterator[list[Tile]]:
    """The tiles in their order, in groups of one size with at most `count` tiles each."""
    for _, tiles in groupby(tiling, key=lambda tile: tile.size_hw):
        alike = list(tiles)
        yield from (alike[start : start + count] for start in range(0, len(alike), count))


def _as_batch(images: UInt8Array | Tensor) -> Tensor:
    if isinstance(images, np.ndarray):
        return torch.from_numpy(pixels_of(images)).permute(2, 0, 1)[None]
    if images.ndim not in (3, 4) or images.shape[-3] != 3 or images.dtype != torch.uint8 or not images.numel():
        shape = tuple(images.shape)
        msg = f"image tensors must be (3, H, W) or (B, 3, H, W) uint8 RGB; got {shape} {images.dtype}. Convert them."
        raise InputError(msg)
    return images if images.ndim == 4 else images[None]


def _resized(batch: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Images resized by the same resampler as in training."""
    if tuple(batch.shape[2:]) == size_hw:
        return batch
    arrays = (resize(image.permute(1, 2, 0).contiguous().cpu().numpy(), size_hw) for image in batch)
    return torch.stack([torch.from_numpy(array) for array in arrays]).permute(0, 3, 1, 2).to(batch.device)


def _at_one_scale(network: Network, images: Tensor, config: Inference) -> Tensor:
    """(B, K, H, W) float32 probabilities of images as they are."""
    height, width = images.shape[2:]
    tiling = config.tiling((height, width), network.stride)
    if tiling is None or len(tiling) == 1:
        return _softmax(network, images)
    total: Tensor | None = None
    for tiles in _of_one_size(tiling, max(1, config.batch // len(images))):
        stacked = torch.cat([images[:, :, tile.rows, tile.columns] for tile in tiles])
        found = _softmax(network, stacked)
        if total is None:
            total = found.new_zeros(len(images), found.shape[1], height, width)
        for tile, part in zip(tiles, found.split(len(images)), strict=True):
            weights = torch.from_numpy(tiling.weights(tile)).to(part.device)
            total[:, :, tile.rows, tile.columns] += part.mul_(weights)
    assert total is not None
    return total


def _of_one_size(tiling: Tiling, count: int) -> Iterator[list[Tile]]:
    """The tiles in groups of one size, with at most `count` tiles each."""
    by_size: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiling:
        by_size.setdefault(tile.size_hw, []).append(tile)
    for tiles in by_size.values():
        yield from (tiles[start : start + count] for start in range(0, len(tiles), count))


def _softmax(network: Network, images: Tensor) -> Tensor:
    return _logits(network, images).float().softmax(1)


def _logits(network: Network, images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    least = network.stride + 1  # what leaves more than one cell of the coarsest map
    if min(height, width) < least:
        canvas = images.new_empty(len(images), 3, max(height, least), max(width, least))
        canvas[:] = torch.tensor(network.fill_color, dtype=images.dtype, device=images.device)[:, None, None]
        canvas[:, :, :height, :width] = images
        images = canvas
    return network(images)[:, :, :height, :width]
