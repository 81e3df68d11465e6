"""The detector's command line: what it asks beyond the commands that every task shares."""

from __future__ import annotations

from jsonargparse import Namespace

from engine.cli import EffDenseCLI


class DetectionCLI(EffDenseCLI):
    """`fit`, `validate`, `test` and `predict` of the detector."""

    def needs_checkpoint(self, command: str, settings: Namespace) -> bool:
        """Published weights take the place of a checkpoint."""
        return super().needs_checkpoint(command, settings) and settings["model"].get("pretrained") is None
