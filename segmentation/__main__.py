"""python -m segmentation fit | validate | test | predict | score | check."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import run_task

USAGE = """\
DeepLabv3+ on EfficientNet: train it, score it, segment images of any size.

  python -m segmentation fit --config configs/segmentation/demo.yaml
  python -m segmentation validate --config configs/segmentation/demo.yaml --ckpt_path best
  python -m segmentation predict --ckpt_path best --source IMAGE|FOLDER|GLOB|VIDEO|RASTER --output predictions
  python -m segmentation score --ground-truth DIR --predictions DIR|ZIP

  fit        train, resume with --ckpt_path last
  validate   the benchmark's scores on the validation set; test: on the test set
  predict    index masks, overlays with a legend, and the area of each class
  score      the benchmark's scores of masks that come from anywhere
  check      what is wrong with a submission to the Cityscapes server

`python -m segmentation COMMAND --help` lists every option; --version tells the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 for a mistake in what was given."""
    plain = {"score": "segmentation.scores.score", "check": "segmentation.scores.submission"}
    return run_task(USAGE, plain, _build, argv)


def _build(arguments: list[str]) -> object:
    # The classes come with torch and Lightning, seconds of import that help and score do without.
    from engine.cli.effdense_cli import EffDenseCLI
    from segmentation.data.module import SegmentationDataModule
    from segmentation.prediction.trainer import SegmentationTrainer
    from segmentation.task import SegmentationTask

    return EffDenseCLI(SegmentationTask, SegmentationDataModule, arguments, trainer_class=SegmentationTrainer)


if __name__ == "__main__":
    sys.exit(main())
