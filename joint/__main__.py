"""python -m joint fit | validate | test | predict | boxes | ray."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import run_task

USAGE = """\
EfficientDet and DeepLabv3+ on one EfficientNet: train both, score both, find objects and classes of pixels.

  python -m joint fit --config configs/joint/demo.yaml
  python -m joint validate --config configs/joint/demo.yaml --ckpt_path best
  python -m joint predict --ckpt_path best --source IMAGE|FOLDER|GLOB --output predictions
  python -m joint boxes --root CITYSCAPES --split train --output instances_train.json

  fit        train, resume with --ckpt_path last
  validate   COCO's numbers and the benchmark's scores on the validation set; test: on the test set
  predict    masks, boxes drawn over the classes' colours, and tables of objects and areas
  boxes      COCO annotations of Cityscapes' instance ids, so that one folder trains both
  ray        predict over millions of images on many machines, by Ray Data

`python -m joint COMMAND --help` lists every option; --version tells the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 for a mistake in what was given."""
    return run_task(USAGE, {"boxes": "joint.data.instances", "ray": "joint.prediction.ray_predict"}, _build, argv)


def _build(arguments: list[str]) -> object:
    # The classes come with torch and Lightning, seconds of import that help and boxes do without.
    from engine.cli.effdense_cli import EffDenseCLI
    from joint.data.module import JointDataModule
    from joint.prediction.trainer import JointTrainer
    from joint.task import JointTask

    return EffDenseCLI(JointTask, JointDataModule, arguments, trainer_class=JointTrainer)


if __name__ == "__main__":
    sys.exit(main())
