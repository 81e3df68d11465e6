"""COCO results files: lists of detections, read into typed values, and the checks of boxes on the way to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias, TypedDict, TypeVar

import msgspec
import numpy as np

from detection.data.boxes import Floats
from engine.annotations.json_text import json_fault, utf8
from engine.errors import InputError

JsonId: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
JsonBox: TypeAlias = tuple[float, float, float, float]
Content = TypeVar("Content")
_WHAT = "a COCO results list of {image_id, category_id, bbox, score}"


class Result(msgspec.Struct, gc=False):
    """One detection of a COCO results file."""

    image_id: JsonId
    category_id: JsonId
    bbox: JsonBox
    score: float


class ResultEntry(TypedDict):
    """The same as a Python dictionary: pixels of the original image, `bbox` is [x, y, width, height]."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


def read_results(path: Path) -> list[Result]:
    """Read a results file; keys that `Result` does not name are skipped without being built.

    Raises:
        InputError: the file cannot be read, is not JSON, or is not such a list.
    """
    return decoded(read_bytes(path), list[Result], path, _WHAT)


def read_bytes(path: Path) -> bytes:
    """The JSON text of a file, in UTF-8 without a byte-order mark.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return bytes(utf8(path.read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        msg = f"cannot read '{path}': {reason}. Give {_WHAT}."
        raise InputError(msg) from error


def decoded(raw: bytes, kind: type[Content], path: Path, what: str) -> Content:
    """JSON as typed values; ids and numbers may be written as text.

    Args:
        raw: the text.
        kind: the type of the content.
        path: the file, for messages.
        what: the content, as a message names it.

    Raises:
        InputError: it is not JSON, or is not of this type.
    """
    try:
        try:
            return msgspec.json.decode(raw, type=kind, strict=False)
        except msgspec.DecodeError as error:
            if isinstance(error, msgspec.ValidationError) and "out of range" not in str(error):
                raise
            # NaN and Infinity are not JSON, but Python writes them: continue, so that a check can name the entry.
            return msgspec.convert(json.loads(raw), type=kind, strict=False)
    except msgspec.ValidationError as error:
        msg = f"'{path}' is not {what}: {json_fault(str(error))}."
        raise InputError(msg) from error
    except RecursionError as error:
        msg = f"'{path}' is not {what}: lists lie too deep in each other. Write it again."
        raise InputError(msg) from error
    except ValueError as error:
        broken = isinstance(error, json.JSONDecodeError)
        msg = f"'{path}' is not JSON ({str(error).lower() if broken else 'it is not text'}). Give {what}."
        raise InputError(msg) from error


def check_boxes(boxes_xywh: Floats, values: Floats, value_name: str, where: str) -> None:
    """Refuse boxes and values that are not finite, and negative sizes; `where` names their list.

    Raises:
        InputError: names the first such entry.
    """
    finite = np.asarray(np.isfinite(boxes_xywh).all(axis=1))
    faulty = ~finite | (boxes_xywh[:, 2:] < 0).any(axis=1)
    if faulty.any():
        index = int(faulty.argmax())
        fault = "a negative width or height" if finite[index] else "a number that is not finite"
        msg = (
            f"{where}[{index}] has {fault}: bbox {boxes_xywh[index].tolist()} ({int(faulty.sum())} such)."
            " Give boxes as [x, y, width, height], finite, and with sides of at least 0."
        )
        raise InputError(msg)
    if not np.isfinite(values).all():
        index = int((~np.isfinite(values)).argmax())
        msg = f"{where}[{index}] has the {value_name} {values[index]}. Give a finite number."
        raise InputError(msg)
