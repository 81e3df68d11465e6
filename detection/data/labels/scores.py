"""How certain each label of a COCO file is: the scores that pseudo-labels carry."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError


class _Image(msgspec.Struct, gc=False):
    id: int


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    score: float | None = None


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation] = []


def scores_of_labels(path: str | Path) -> NDArray[np.float32]:
    """(N,) the scores of a file's boxes in the order of its `BoxSource`: by image, and then as in the file.

    A box without a score was drawn by a person and has 1.

    Args:
        path: a COCO file that has been read as a `BoxSource`, which checks all else.

    Raises:
        InputError: the file cannot be read, no annotation has a score, or one is not from 0 to 1.
    """
    try:
        content = msgspec.json.decode(Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf"), type=_File)
    except (OSError, msgspec.MsgspecError) as error:
        msg = f"cannot read the scores of '{path}': {error}. Give a COCO file, or leave data.label_scores out."
        raise InputError(msg) from error
    given = [one.score for one in content.annotations]
    if all(score is None for score in given):
        msg = (
            f"data.label_scores is true, but no annotation of '{path}' has a 'score'. Give the file of "
            "python -m detection pseudo-labels, or leave it out."
        )
        raise InputError(msg)
    scores = np.array([1.0 if score is None else score for score in given], np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        wrong = scores[~((scores >= 0) & (scores <= 1))][0]
        msg = f"'{path}' has the score {wrong:g}; allowed are 0 to 1. Correct it."
        raise InputError(msg)
    place = {image.id: row for row, image in enumerate(content.images)}
    rows = np.array([place[one.image_id] for one in content.annotations], np.int64)
    found: NDArray[np.float32] = scores[np.argsort(rows, kind="stable")].astype(np.float32)
    return found
