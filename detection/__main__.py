"""python -m detection fit | validate | test | predict | score."""

from __future__ import annotations

import sys
from collections.abc import Sequence

USAGE = """\
EfficientDet: train it, score it, find objects in images.

  python -m detection fit --config configs/detection/demo.yaml
  python -m detection validate --config configs/detection/demo.yaml --ckpt_path best
  python -m detection predict --ckpt_path best --source IMAGE|FOLDER|GLOB --output predictions
  python -m detection score --annotations gt.json --results detections.json

  fit        train, resume with --ckpt_path last
  validate   COCO numbers on the validation set; test: on the test set
  predict    pictures with boxes and a JSON in COCO's format
  score      COCO numbers of detections that come from anywhere

`python -m detection COMMAND --help` lists every option; --version tells the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 for a mistake in what was given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(_version())
        return 0
    if arguments[0] == "score":
        from detection.score import main as score_main

        return score_main(arguments[1:])
    from engine.cli import run_cli

    return run_cli(_build, arguments)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("effdense")
    except PackageNotFoundError:
        return "unknown: effdense runs from its source folder and is not installed (make setup does that)"


def _build(arguments: list[str]) -> object:
    # The classes come with torch and Lightning, seconds of import that help and score do without.
    from detection.cli import DetectionCLI
    from detection.data import CocoDataModule
    from detection.task import DetectionTask
    from detection.trainer import DetectionTrainer

    return DetectionCLI(DetectionTask, CocoDataModule, arguments, trainer_class=DetectionTrainer)


if __name__ == "__main__":
    sys.exit(main())
