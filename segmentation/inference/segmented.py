"""The answer of a segmenter for one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.errors import InputError, check_choice
from engine.interop import pixels
from engine.interop.outlines import Polygon, polygons_of
from engine.outputs import atomic_path
from engine.reading.images import UInt8Array
from engine.reading.pixels import Source, pixels_of
from engine.reading.reader import PixelReader
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels, index_image, overlay

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segmented:
    """The classes of one image's pixels.

    Attributes:
        class_ids: (H, W) rows of the class list, at the size of the original image.
        classes: names, label ids and colours by row.
        probabilities: (K, H, W) float16, if they were asked for; over the classes they sum to 1.
        read: how the image is read from a file.
    """

    class_ids: UInt8Array
    classes: MaskClasses
    probabilities: npt.NDArray[np.float16] | None = None
    read: PixelReader = PixelReader()

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

    def mask_of(self, name: str) -> npt.NDArray[np.bool_]:
        """(H, W) the pixels of a class.

        Raises:
            InputError: there is no such class.
        """
        check_choice("class", name, self.classes.names)
        found: npt.NDArray[np.bool_] = self.class_ids == self.classes.names.index(name)
        return found

    def polygons(self, name: str) -> list[Polygon]:
        """The regions of a class: their outlines along the edges of pixels, with their holes.

        Raises:
            InputError: there is no such class.
        """
        return polygons_of(self.mask_of(name))

    def to_coco(self, image_id: int = 0) -> list[dict[str, object]]:
        """COCO's results of stuff (cocodataset.org, format-results): the run lengths of each class that occurs.

        Args:
            image_id: of the image in the annotations; a category id is the class's value in masks.
        """
        from pycocotools import mask

        present = [row for row in np.unique(self.class_ids).tolist() if row < len(self.classes.names)]
        found = []
        for row in present:
            lengths = mask.encode(np.asfortranarray(self.class_ids == row, dtype=np.uint8))
            rle = {"size": list(lengths["size"]), "counts": lengths["counts"].decode("ascii")}
            found.append({"image_id": image_id, "category_id": self.classes.label_ids[row], "segmentation": rle})
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """See `engine.interop.pixels.pandas_of`."""
        counts = list(self.areas().values())
        return pixels.pandas_of(self.classes.names, self.classes.label_ids, counts)

    def to_supervision(self) -> supervision.Detections:
        """See `engine.interop.pixels.supervision_of`."""
        return pixels.supervision_of(self.class_ids, self.classes.names)

    def to_fiftyone(self) -> fiftyone.Segmentation:
        """See `engine.interop.pixels.fiftyone_of`."""
        return pixels.fiftyone_of(self.label_ids)

    def to_torchmetrics(self) -> Tensor:
        """See `engine.interop.pixels.torchmetrics_of`."""
        return pixels.torchmetrics_of(self.class_ids)

    def draw(self, image: Source, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image tinted with the classes' colours.

        Args:
            image: the image that was segmented: a path or an (H, W, 3) uint8 RGB array.
            opacity: of the colours, 0 to 1.
            legend: whether to name, below the image, the classes that occur.

        Raises:
            InputError: the image cannot be read or has another size.
        """
        return overlay(pixels_of(image, self.read), self.class_ids, self.classes, opacity, legend)

    def save(self, path: str | Path) -> None:
        """Write a mask: a PNG whose values are the label ids and whose palette shows the classes' colours.

        Raises:
            InputError: the file cannot be written, or its name does not end in .png.
        """
        if Path(path).suffix.lower() != ".png":
            msg = f"a mask is written as PNG, which keeps its values; '{path}' does not end in .png. Rename it."
            raise InputError(msg)
        with atomic_path(path) as temporary:
            index_image(self.class_ids, self.classes).save(temporary)
