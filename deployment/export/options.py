"""What an exported file holds, as far as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import AboveZeroToOne, PositiveInt, ZeroToBelowOne

Format = Literal["onnx", "openvino", "litert", "executorch", "torch"]
SUFFIXES: Mapping[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "executorch": ".pte",
    "torch": ".pt2",
}
ONE_SIZE: frozenset[Format] = frozenset(("litert", "executorch", "torch"))  # whose files are for images of one size


@dataclass(frozen=True)
class Contents(Checked):
    """What a file holds besides the network, in any number type.

    Attributes:
        image_size: height and width in pixels, or the side of a square; null leaves both open, but for litert,
            executorch and torch, whose files are for one size: the network's own. With the letter-box inside, the
            canvas of boxes.
        batch_size: images at a time; null takes any number, but for litert, executorch and int8 of torch, whose files
            take one.
        nms: decoding and suppression of boxes inside the file, or outside, which gives class logits and box deltas;
            null puts them inside, but for executorch, which has no such operator, and for int8 of torch.
        argmax: give the class of each pixel rather than the logits of all classes; null gives the class.
        score_threshold: boxes at or below it are not given; null is the checkpoint's.
        iou_threshold: overlap above which a box is dropped; null is the checkpoint's.
        max_detections: most boxes of an image; null is the checkpoint's, or 20 for Frigate, which reads no more.
        letterbox: scaling and letter-boxing inside the file, which then takes pictures of any height and width and
            answers in their pixels, or outside; null leaves them outside.
    """

    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    batch_size: PositiveInt | None = None
    nms: Literal["inside", "outside"] | None = None
    argmax: bool | None = None
    score_threshold: ZeroToBelowOne | None = None
    iou_threshold: AboveZeroToOne | None = None
    max_detections: PositiveInt | None = None
    letterbox: Literal["inside", "outside"] | None = None

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def takes_pictures(self) -> bool:
        """Whether the letter-box is inside."""
        return self.letterbox == "inside"

    @property
    def suppression(self) -> dict[str, object]:
        """The settings of the suppression that are asked for."""
        names = ("score_threshold", "iou_threshold", "max_detections")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Options(Contents):
    """What a file is asked to be, besides its contents.

    Attributes:
        precision: number type of the weights and the computation; only files of LiteRT have another than float32.
        calibration: images like those that the file will see, for int8.
        layout: `frigate` gives boxes as Frigate's detectors `onnx` and `openvino` read them (`model_type: yolonas`).
    """

    precision: Literal["float32", "float16", "int8"] = "float32"
    calibration: tuple[Path, ...] = ()
    layout: Literal["own", "frigate"] = "own"


def check_suffix(path: Path, file_format: Format) -> None:
    """Do nothing if a file is named as those of its format are.

    Raises:
        InputError: it is not.
    """
    if path.suffix != SUFFIXES[file_format]:
        msg = f"a file of {file_format} ends in {SUFFIXES[file_format]}; '{path}' does not. Rename it."
        raise InputError(msg)
