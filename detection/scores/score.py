"""`python -m detection score`: COCO's numbers for a results file that comes from anywhere."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from detection.data.coco import CocoAnnotations
from detection.scores.backends import Backend
from detection.scores.documents import read_predictions
from detection.scores.metric import BoxScores, evaluate_boxes
from detection.scores.truth import GroundTruth, check_known
from detection.spec import SPEC
from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.outputs import make_folder, write_json


def score(
    ground_truth: str | Path,
    predictions: str | Path,
    per_class: bool = True,
    backend: Backend = "pycocotools",
    output: str | Path | None = None,
    iou_type: Literal["bbox", "segm"] = "bbox",
) -> BoxScores:
    """Score a COCO results file against a COCO annotation file over all its images.

    Args:
        ground_truth: COCO annotation file.
        predictions: list of entries with image_id, category_id, bbox [x, y, width, height] and score; or the
            `detections.json` that `predict` wrote, whose images are matched by their file names.
        per_class: whether to give the AP of each category beside the twelve numbers.
        backend: pycocotools, or faster for faster-coco-eval (extra `fast`), with the same numbers in less time.
        output: JSON file to write the numbers to; the AP of a category without objects is null.
        iou_type: bbox scores boxes; segm the masks of entries with a segmentation, by pycocotools.

    Raises:
        InputError: a file is missing, is not what it should be or cannot be written, or the two do not fit.
    """
    if output is not None:
        make_folder(Path(output).parent)  # before the minutes that a large set takes
    if iou_type == "segm":
        return _finished(_masks(ground_truth, predictions, backend), per_class, output)
    source = CocoAnnotations.to_score(ground_truth)
    truth = GroundTruth.of(source)
    table = read_predictions(predictions, source)
    check_known(table.image_ids, truth.image_ids, "image", f"the entries of '{predictions}'")
    check_known(table.category_ids, truth.category_names, "category", f"the entries of '{predictions}'")
    return _finished(evaluate_boxes(truth, table, backend=backend), per_class, output)


def _masks(ground_truth: str | Path, predictions: str | Path, backend: Backend) -> BoxScores:
    if backend != "pycocotools":
        msg = f"backend is {backend}; masks are scored by pycocotools. Leave --backend out."
        raise InputError(msg)
    from detection.scores.masks import evaluate_masks, read_masks

    return evaluate_masks(ground_truth, read_masks(predictions))


def _finished(scores: BoxScores, per_class: bool, output: str | Path | None) -> BoxScores:
    if not per_class:
        scores = dataclasses.replace(scores, per_class={})
    if output is not None:
        numbers = scores.twelve
        write_json(output, {**numbers, "per_class": dict(scores.per_class)} if per_class else numbers)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the table; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program('detection')} score"
        scores = score(**parse_function(score, command, argv, __doc__, renamed=SPEC.renamed))
        sys.stdout.write(scores.table() + "\n")

    return run_command(act)
