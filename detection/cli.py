"""The detector's command line: what it asks beyond the commands that every task shares."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from engine.averaging import EMA
from engine.cli import EffDenseCLI
from engine.parser import ShortErrorParser


class DetectionCLI(EffDenseCLI):
    """`fit`, `validate`, `test` and `predict` of the detector."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the weight averaging; `--ema.decay 0` turns it off."""
        parser.add_lightning_class_args(EMA, "ema")

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Leave Lightning's table of results out, as the task prints COCO's; `--verbose true` shows it."""
        super().setup_parser(*args, **kwargs)
        assert isinstance(self.parser, ShortErrorParser)
        assert self.parser.commands is not None
        for command in ("validate", "test"):
            self.parser.commands.choices[command].set_defaults(verbose=False)

    def needs_checkpoint(self, command: str, settings: Namespace) -> bool:
        """Published weights take the place of a checkpoint."""
        return super().needs_checkpoint(command, settings) and settings["model"].get("pretrained") is None
