"""`python -m detection score`: COCO's numbers for a results file that comes from anywhere."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from detection.data.ground_truth import GroundTruth, check_known
from detection.scores.metric import Backend, BoxScores, evaluate_boxes
from detection.scores.records import DetectionTable
from engine.cli.commands import parse_function, program, run_command
from engine.outputs import make_folder, write_json


def score(
    annotations: str | Path,
    results: str | Path,
    per_class: bool = True,
    backend: Backend = "pycocotools",
    output: str | Path | None = None,
) -> BoxScores:
    """Score a COCO results file against a COCO annotation file over all its images.

    Args:
        annotations: COCO annotation file.
        results: list of entries with image_id, category_id, bbox [x, y, width, height] and score.
        per_class: whether to give the AP of each category beside the twelve numbers.
        backend: pycocotools, or faster for faster-coco-eval (the extra `fast`): the same numbers sooner.
        output: JSON file to write the numbers to; the AP of a category without objects is null.

    Raises:
        InputError: a file is missing, is not what it should be or cannot be written, or the two do not fit.
    """
    if output is not None:
        make_folder(Path(output).parent)  # before the minutes that a large set takes
    truth = GroundTruth.of(annotations)
    table = DetectionTable.read(results)
    check_known(table.image_ids, truth.image_ids, "image", f"the entries of '{results}'")
    check_known(table.category_ids, truth.category_names, "category", f"the entries of '{results}'")
    scores = evaluate_boxes(truth, table, backend=backend)
    if not per_class:
        scores = dataclasses.replace(scores, per_class={})
    if output is not None:
        numbers = scores.as_dict(prefix="")
        write_json(output, {**numbers, "per_class": dict(scores.per_class)} if per_class else numbers)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the table; returns 2 after one short line of error, else 0."""

    def act() -> None:
        scores = score(**parse_function(score, f"{program('detection')} score", argv, __doc__))
        sys.stdout.write(scores.table() + "\n")

    return run_command(act)
