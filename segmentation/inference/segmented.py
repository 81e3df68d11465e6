"""Segmentation of images in Python: load a network, hand it a picture, read the class of each of its pixels.

    segmenter = load("runs/segmentation/demo/best.ckpt")
    found = predict(segmenter, "street.jpg")
    found.draw("street.jpg").save("overlay.jpg")

A network's own `predict` and `predict_many` are these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from engine.data.images import UInt8Array
from engine.data.pixels import Source as Source
from engine.data.pixels import pixels_of
from engine.errors import InputError
from engine.outputs import atomic_path
from engine.training.checkpoints import read_checkpoint
from segmentation.data.classes import MaskClasses
from segmentation.inference.inference import Inference, class_rows, probabilities
from segmentation.inference.pictures import class_pixels, index_image, overlay

if TYPE_CHECKING:
    from segmentation.network.model import Segmenter


@dataclass(frozen=True, eq=False)
class Segmented:
    """The classes of one image's pixels.

    Attributes:
        class_ids: (H, W) rows of the class list, at the size of the original image.
        classes: names, label ids and colours by row.
        probabilities: (K, H, W) float16, where they were asked for; over the classes they sum to 1.
    """

    class_ids: UInt8Array
    classes: MaskClasses
    probabilities: npt.NDArray[np.float16] | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the original image in pixels."""
        return self.class_ids.shape[0], self.class_ids.shape[1]

    @property
    def label_ids(self) -> UInt8Array:
        """(H, W) values as in the masks that the network was trained on."""
        return self.classes.label_by_class[self.class_ids]

    def areas(self) -> dict[str, int]:
        """Pixels of each class by name, 0 where it is absent."""
        return dict(zip(self.classes.names, class_pixels(self.class_ids, self.classes).tolist(), strict=True))

    def draw(self, image: Source, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image tinted with the classes' colours.

        Args:
            image: the image that was segmented: a path or an (H, W, 3) uint8 RGB array.
            opacity: of the colours, 0 to 1.
            legend: whether to name, below the image, the classes that are there.

        Raises:
            InputError: the image cannot be read or is of another size.
        """
        return overlay(pixels_of(image), self.class_ids, self.classes, opacity, legend)

    def save(self, path: str | Path) -> None:
        """Write a mask: a PNG whose values are the label ids and whose palette shows the classes' colours.

        Raises:
            InputError: the file cannot be written, or its name ends in something else than .png.
        """
        if Path(path).suffix.lower() != ".png":
            msg = f"a mask is written as PNG, which keeps its values; '{path}' does not end in .png. Rename it."
            raise InputError(msg)
        with atomic_path(path) as temporary:
            index_image(self.class_ids, self.classes).save(temporary)


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> Segmenter:
    """A network ready to predict.

    Args:
        source: a checkpoint written by `python -m segmentation fit`.
        device: where it computes.
        fold: fold its batch norms, which is faster; not if it is to be trained further.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    from segmentation.network.model import Segmenter

    checkpoint = read_checkpoint(source, "segmentation")
    segmenter = Segmenter.from_settings(checkpoint.model)
    state = {key.removeprefix("segmenter."): value for key, value in checkpoint.state_dict.items()}
    segmenter.load_state_dict(state)
    segmenter = segmenter.eval().to(device).to(memory_format=torch.channels_last)
    return segmenter.fold() if fold else segmenter


def predict(segmenter: Segmenter, image: Source, **settings: Any) -> Segmented:
    """The classes of one image's pixels.

    Args:
        segmenter: the network; it is put into eval mode.
        image: a path or an (H, W, 3) uint8 RGB array of any size.
        settings: those of `predict_many`.

    Raises:
        InputError: the image is missing or cannot be read, or is no (H, W, 3) uint8 array.
    """
    return predict_many(segmenter, [image], **settings)[0]


def predict_many(
    segmenter: Segmenter,
    images: Sequence[Source],
    *,
    window: int | None = None,
    overlap: int | None = None,
    margin: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    probabilities: bool = False,
    batch_size: int = 4,
) -> list[Segmented]:
    """The classes of each of several images' pixels.

    Args:
        segmenter: the network; it is put into eval mode.
        images: paths or (H, W, 3) uint8 RGB arrays of any sizes.
        window: side in pixels of the tiles in which an image is computed; None computes it whole.
        overlap: pixels that neighbouring tiles share; None is a quarter of the window.
        margin: pixels at a tile's inner ends that count nothing; None is a quarter of the overlap.
        scales: sizes, relative to the image's own, at which it is computed; probabilities are averaged.
        flip: average with the mirrored image.
        probabilities: keep those of all classes.
        batch_size: images of one size, or tiles, that are computed together.

    Raises:
        InputError: an image is missing or cannot be read, or is no (H, W, 3) uint8 array; or a setting is out of
            range.
    """
    if isinstance(images, str | Path | np.ndarray):
        msg = "predict_many takes a list of images; give [image], or call predict for one"
        raise InputError(msg)
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1"
        raise InputError(msg)
    config = Inference(window, overlap, margin, tuple(scales), flip, batch_size)
    segmenter.eval()
    found: list[Segmented] = []
    for start in range(0, len(images), batch_size):
        pixels = [pixels_of(image) for image in images[start : start + batch_size]]
        found += segment_images(segmenter, pixels, config, keep=probabilities)
    return found


def segment_images(
    segmenter: Segmenter, images: Sequence[UInt8Array], config: Inference, *, keep: bool = False
) -> list[Segmented]:
    """The classes of images in memory, those of one size computed together.

    Args:
        segmenter: the network, in eval mode.
        images: (H, W, 3) uint8 RGB.
        config: how each image is computed.
        keep: whether to keep the probabilities.
    """
    results: dict[int, Segmented] = {}
    for shape in dict.fromkeys(image.shape for image in images):
        members = [index for index, image in enumerate(images) if image.shape == shape]
        batch = torch.stack([torch.from_numpy(images[index]) for index in members]).permute(0, 3, 1, 2)
        if keep:
            for index, one in zip(members, probabilities(segmenter, batch, config), strict=True):
                rows = one.argmax(0).to(torch.uint8).cpu().numpy()
                results[index] = Segmented(rows, segmenter.classes, one.half().cpu().numpy())
            continue
        for index, rows in zip(members, class_rows(segmenter, batch, config).cpu().numpy(), strict=True):
            results[index] = Segmented(rows, segmenter.classes, None)
    return [results[index] for index in range(len(images))]
