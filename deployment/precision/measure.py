"""The accuracy of a file, by the command `validate` that users have for it."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.cli.commands import run_task
from engine.errors import InputError
from engine.tasks import find_task

# Where the scores of a task have the number that stands for all of them.
_METRICS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "detection": {"AP": ("ap",)},
    "segmentation": {"mIoU": ("miou",)},
    "joint": {"AP": ("boxes", "ap"), "mIoU": ("masks", "miou")},
    "classification": {"top-1": ("top1",), "mAP": ("map",)},  # mAP where images have several labels
}


def measured(path: Path, task: str, words: Sequence[str]) -> dict[str, float]:
    """The AP of a detector's file, the mIoU of a segmenter's, both of a joint network's; a classifier's top-1 or mAP.

    Args:
        path: the file.
        task: its task.
        words: options of `validate` that say which data it is.

    Raises:
        InputError: `validate` refuses the options, the data or the file, or the data has nothing to score.
    """
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder, "scores.json")
        said, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            status = run_task(
                find_task(task),
                ["validate", "--ckpt_path", str(path), *words, "--model.scores", str(scores)],
            )
        if status == 130:
            raise KeyboardInterrupt
        if status or not scores.is_file():
            lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
            msg = lines[-1].removeprefix("error: ") if lines else "validate gives no scores. Run it alone to see why."
            raise InputError(msg)
        content = json.loads(scores.read_text())
    found = {name: _number(content, place) for name, place in _METRICS[task].items()}
    numbers = {name: value for name, value in found.items() if value is not None}
    if not numbers:
        msg = "the validation data has no objects or labels, so that accuracy cannot be measured. Give other data."
        raise InputError(msg)
    return numbers


def _number(content: object, place: Sequence[str]) -> float | None:
    for name in place:
        content = content.get(name) if isinstance(content, dict) else None
    return float(content) if isinstance(content, int | float) else None
