"""`python -m detection score`: COCO's numbers for a results file that comes from anywhere."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detection.ground_truth import GroundTruth, check_known
from detection.metric import Backend, BoxScores, evaluate_boxes
from detection.records import DetectionTable
from engine.errors import InputError, did_you_mean
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
    try:
        scores = score(**_parse(argv))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(scores.table() + "\n")
    return 0


def _parse(argv: Sequence[str] | None) -> dict[str, Any]:
    from jsonargparse import ArgumentParser

    command = "python -m detection score"
    parser = ArgumentParser(prog=command, description=__doc__, exit_on_error=False, allow_abbrev=False)
    names = parser.add_function_arguments(score)
    try:
        return dict(vars(parser.parse_args(None if argv is None else list(argv))))
    except argparse.ArgumentError as error:
        text = " ".join(str(error).split())
        if match := re.match(r"unrecognized arguments: (?:--)?([^\s=]*)", text):
            options = "--" + ", --".join(names)
            text = f"unknown argument '{match[1]}'.{did_you_mean(match[1], names)} Allowed: {options}"
        elif match := re.fullmatch(r"the following arguments are required: (.*)", text):
            text = "give --" + match[1].replace(", ", " and --")
        elif match := re.fullmatch(r'Parser key "(\w+)": Expected an? (.*?)\. Got value: (.*)', text):
            allowed = re.sub(r"typing\.Literal\[(.*)\]", r"\1", match[2].replace("<class 'bool'>", "true, false"))
            text = f"--{match[1]} is '{match[3]}'; allowed: {allowed}"
        raise InputError(text) from error
