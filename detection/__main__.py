"""python -m detection fit | validate | test | predict | score | convert."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import run_task

USAGE = """\
EfficientDet: train it, score it, find objects in images.

  python -m detection fit --config configs/detection/demo.yaml
  python -m detection validate --config configs/detection/demo.yaml --ckpt_path best
  python -m detection predict --ckpt_path best --source IMAGE|FOLDER|GLOB --output predictions
  python -m detection score --annotations gt.json --results detections.json
  python -m detection convert tf_efficientdet_d0.pth d0.safetensors

  fit        train, resume with --ckpt_path last
  validate   COCO numbers on the validation set; test: on the test set
  predict    pictures with boxes and a JSON in COCO's format
  score      COCO numbers of detections that come from anywhere
  convert    weights of effdet or zylo117 to a file that says itself what network it holds

`python -m detection COMMAND --help` lists every option; --version tells the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 for a mistake in what was given."""
    return run_task(USAGE, {"score": "detection.scores.score", "convert": "detection.weights.convert"}, _build, argv)


def _build(arguments: list[str]) -> object:
    # The classes come with torch and Lightning, seconds of import that help and score do without.
    from detection.data.module import CocoDataModule
    from detection.prediction.trainer import DetectionTrainer
    from detection.task import DetectionTask
    from engine.cli.effdense_cli import EffDenseCLI

    return EffDenseCLI(DetectionTask, CocoDataModule, arguments, trainer_class=DetectionTrainer)


if __name__ == "__main__":
    sys.exit(main())
