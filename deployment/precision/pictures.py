"""Pictures like those that a file will see, as it will see them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classification.data.framing import Framing
from classification.network.model import Classifier
from deployment.networks import AnyNetwork
from engine.errors import InputError
from engine.exports.files import About
from engine.prediction.canvas import Canvas
from engine.prediction.sources import IMAGES, find_sources
from engine.reading.images import UInt8Array, pad_to_canvas
from engine.reading.reader import PixelReader


class Picture(NamedTuple):
    """What a file is given for one picture.

    Attributes:
        images: (1, 3, H, W) uint8 RGB.
        sizes_hw: (1, 2) float32 height and width of the picture on its canvas, in pixels.
    """

    images: npt.NDArray[np.uint8]
    sizes_hw: npt.NDArray[np.float32]

    def given(self, inputs: Sequence[str]) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by the names of a file's inputs."""
        return {name: getattr(self, name) for name in inputs}


@dataclass(frozen=True)
class Pictures:
    """Files that are read one at a time: hundreds of canvases are gigabytes.

    Attributes:
        paths: the files.
        read: reads one as (h, w, 3) RGB.
        fill_color: RGB in 0..255 beside a picture.
        canvas: lays it out; None leaves it in its own size, on a canvas of `multiple`.
        multiple: what the heights and widths are multiples of.
        batch: how often each picture is given at a time, for a file that takes one number of images only.
        framing: cuts out the square that a classifier sees; None for other networks.
    """

    paths: tuple[Path, ...]
    read: PixelReader
    fill_color: tuple[int, int, int]
    canvas: Canvas | None
    multiple: int = 1
    batch: int = 1
    framing: Framing | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Picture:
        """The picture of a place.

        Raises:
            InputError: it cannot be read.
        """
        image: UInt8Array = self.read(self.paths[place])
        if self.framing is not None:
            image = self.framing(image).numpy()
        height, width = image.shape[:2]
        if self.canvas is not None:
            laid = self.canvas(image)
            height, width = laid.letterbox.scaled_hw
            image = laid.image.numpy()
        elif self.multiple > 1:
            canvas_hw = (height + -height % self.multiple, width + -width % self.multiple)
            image = pad_to_canvas(image, canvas_hw, self.fill_color)
        images = np.ascontiguousarray(image.transpose(2, 0, 1)[None].repeat(self.batch, axis=0))
        return Picture(images, np.array([(height, width)] * self.batch, dtype=np.float32))


def pictures_for(network: AnyNetwork, about: About, paths: Sequence[Path]) -> Pictures:
    """The pictures for a file: on the canvas of its boxes or of its one size, or else each in its own size.

    A classifier's are squares cut out of them.

    Args:
        network: says how rasters are read, and the colour beside a picture.
        about: what the file says of itself.
        paths: the files.
    """
    read = PixelReader(network.reading, network.fill_color)
    size_hw = about.image_hw or about.canvas_hw
    if isinstance(network, Classifier):
        framing = network.framing if size_hw is None else replace(network.framing, image_size=size_hw[0])
        return Pictures(tuple(paths), read, network.fill_color, None, batch=about.batch or 1, framing=framing)
    canvas = None if size_hw is None else Canvas(size_hw, network.fill_color, network.stride)
    return Pictures(tuple(paths), read, network.fill_color, canvas, about.multiple, about.batch or 1)


def find_pictures(source: str, names: Path | None, most: int) -> tuple[Path, ...]:
    """The files of a folder or pattern, or those of them that a list names; of many, some that lie evenly among them.

    Args:
        source: image, folder or glob pattern.
        names: a text file with a name or path below the folder in each line, or a COCO JSON; None takes all.
        most: how many are enough.

    Raises:
        InputError: there are none, or the list cannot be read or names a file that is not there.
    """
    if names is None:
        found = [file.path for file in find_sources(source, IMAGES)]
    else:
        folder = Path(source)
        found = [folder / name for name in _listed(names)]
        missing = next((path for path in found if not path.is_file()), None)
        if missing is not None:
            msg = f"'{names}' lists '{missing}', which does not exist. Give --calibration the folder of its pictures."
            raise InputError(msg)
        if not found:
            msg = f"'{names}' lists no picture. Give a text file with a name in each line, or a COCO JSON."
            raise InputError(msg)
    if len(found) <= most:
        return tuple(found)
    return tuple(found[round(place * (len(found) - 1) / max(1, most - 1))] for place in range(most))


def _listed(names: Path) -> list[str]:
    try:
        text = names.read_text()
        if names.suffix.lower() != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        return [str(image["file_name"]) for image in json.loads(text)["images"]]
    except OSError as error:
        msg = f"cannot read '{names}': {error.strerror or error}. Give another list."
        raise InputError(msg) from error
    except (KeyError, TypeError, ValueError) as error:
        msg = f"'{names}' is no list of pictures. Give a text file with a name in each line, or a COCO JSON."
        raise InputError(msg) from error
