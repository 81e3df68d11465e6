"""The answer of a classifier for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from classification.data.classes import LabelClasses
from engine.interop import labels as forms
from engine.prediction.pictures import draw_captions
from engine.reading.pixels import Source, pixels_of
from engine.reading.reader import PixelReader

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision
    from torch import Tensor


class Ranked(NamedTuple):
    """A class with its probability.

    Attributes:
        label: its name.
        probability: in [0, 1].
        class_id: its row of the class list.
    """

    label: str
    probability: float
    class_id: int


@dataclass(frozen=True, eq=False)
class Classified:
    """The classes of one image.

    Attributes:
        probabilities: (K,) float32; over the classes they sum to 1 where an image has one label.
        classes: the class list.
        threshold: where images have several labels, classes of this probability or more are found.
        read: how the image is read from a file.
    """

    probabilities: npt.NDArray[np.float32]
    classes: LabelClasses
    threshold: float = 0.5
    read: PixelReader = PixelReader()

    @property
    def label(self) -> str:
        """The name of the most likely class."""
        return self.top(1)[0].label

    @property
    def labels(self) -> list[str]:
        """The names of the classes that are found: the most likely one, or of several labels all likely ones."""
        if not self.classes.several:
            return [self.label]
        return [ranked.label for ranked in self.top(len(self.classes)) if ranked.probability >= self.threshold]

    def top(self, count: int = 5) -> list[Ranked]:
        """The most likely classes, the likeliest first; all where there are fewer."""
        rows = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return [Ranked(self.classes.names[row], float(self.probabilities[row]), row) for row in rows]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each class: see `engine.interop.labels.pandas_of`."""
        return forms.pandas_of(self.classes.names, self.probabilities, self.labels)

    def to_supervision(self) -> supervision.Classifications:
        """Supervision's `Classifications`: see `engine.interop.labels.supervision_of`."""
        return forms.supervision_of(self.probabilities)

    def to_fiftyone(self) -> fiftyone.Classification | fiftyone.Classifications:
        """FiftyOne's `Classification`, or `Classifications` where images have several labels."""
        return forms.fiftyone_of(self.classes.names, self.probabilities, self.labels, self.classes.several)

    def to_torchmetrics(self) -> Tensor:
        """(1, K), what torchmetrics' classification metrics take: see `engine.interop.labels.torchmetrics_of`."""
        return forms.torchmetrics_of(self.probabilities)

    def draw(self, image: Source, count: int = 3) -> Image.Image:
        """The image with its most likely classes written on it, in their colours.

        Args:
            image: the image that was classified: a path or an (H, W, 3) uint8 RGB array.
            count: classes that are written.

        Raises:
            InputError: the image cannot be read.
        """
        shown = self.top(count)
        texts = [f"{ranked.label} {ranked.probability:.2f}" for ranked in shown]
        return draw_captions(pixels_of(image, self.read), [ranked.class_id for ranked in shown], texts)
