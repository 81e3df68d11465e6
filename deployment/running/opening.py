"""What the opened files of all runtimes share: their faults as one line, and the arrays that go in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.errors import InputError
from engine.exports.files import About


@dataclass(frozen=True)
class Faults:
    """What a runtime raises about a file, as one line for the user.

    Attributes:
        path: the file.
        runtime: the runtime's name.
        kinds: the exceptions that it raises.
        last: whether the last line of their text says what is wrong, rather than the first.
    """

    path: Path
    runtime: str
    kinds: tuple[type[Exception], ...]
    last: bool = False

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open the file within.

        Raises:
            InputError: it cannot be read, or the runtime refuses it.
        """
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise unreadable(self.path, error) from error
        except self.kinds as error:
            msg = f"{self.runtime} refuses '{self.path}': {self._reason(error)}. Export it again."
            raise InputError(msg) from error

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute the file within.

        Raises:
            InputError: the runtime cannot.
        """
        try:
            yield
        except InputError:
            raise
        except self.kinds as error:
            msg = f"{self.runtime} could not compute '{self.path}': {self._reason(error)}. Export it again."
            raise InputError(msg) from error

    def _reason(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or ["no reason is given"]
        return lines[-1 if self.last else 0].strip().rstrip(".")


def unreadable(path: Path, error: OSError) -> InputError:
    """The error of a file that the system does not give."""
    return InputError(f"cannot read '{path}': {error.strerror or error}. Check its rights, or give another file.")


def arrays(names: Sequence[str], images: Tensor, sizes_hw: Tensor) -> dict[str, npt.NDArray[np.generic]]:
    """What goes into a file, by the names of its inputs.

    Args:
        names: `images`, and `sizes_hw` where the file asks for it.
        images: (B, 3, H, W) uint8 RGB.
        sizes_hw: (B, 2) float32 height and width of each image on its canvas.
    """
    given = {"images": np.ascontiguousarray(images.numpy()), "sizes_hw": sizes_hw.numpy()}
    return {name: given[name] for name in names}


def output_names(about: About) -> list[str]:
    """The outputs of a file of this project's own layout, in order."""
    boxes = ["boxes_xyxy", "scores", "class_ids"] if about.postprocess is not None else ["class_logits", "box_deltas"]
    if about.task == "detection" and about.model.get("head") == "mask_rcnn" and about.layout == "own":
        boxes.append("masks")
    pixels = ["class_rows"] if about.argmax else ["logits"]
    known = {"detection": boxes, "segmentation": pixels, "classification": ["probabilities", "embeddings"]}
    return known.get(about.task, boxes + pixels)
