"""What a user asks of a check, whatever the task: where its findings go, and how bad they may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.checking.findings import CheckReport, FailOn
from engine.checking.pictures import Draw, write_pictures
from engine.outputs import make_folder, write_json


@dataclass(frozen=True)
class Asked:
    """What is done with the findings of a check.

    Args:
        group: a regular expression; images whose names match it alike, in its first bracket or as a whole, belong
            together, such as the frames of a video, and should be in one split.
        output: JSON file to write the findings to.
        pictures: folder for pictures of each fault's first cases.
        fix: folder for a cleaned copy of the set; nothing of the set itself is changed.
        fail_on: the exit code is 1 if a finding is at least so bad; "never" leaves it 0.
    """

    group: str | None = None
    output: str | Path | None = None
    pictures: str | Path | None = None
    fix: str | Path | None = None
    fail_on: FailOn = "error"

    def prepare(self) -> None:
        """Make the folder of the JSON, before the long work that finds something.

        Raises:
            OutputError: it cannot be made.
        """
        if self.output is not None:
            make_folder(Path(self.output).parent)

    def finish(
        self, report: CheckReport, draw: Draw, fix: Callable[[str | Path], Sequence[str]] | None = None
    ) -> CheckReport:
        """Write what is asked for.

        Args:
            report: all that was found.
            draw: makes the picture of a finding; None where there is nothing to see.
            fix: writes the cleaned copy into a folder and says what was done; None where there is nothing to copy.

        Returns:
            The report, with what was done behind its measures.

        Raises:
            OutputError: a result cannot be written.
        """
        if self.output is not None:
            write_json(self.output, report.document())
        if self.pictures is not None:
            write_pictures(self.pictures, report, draw)
        if self.fix is not None and fix is not None:
            return replace(report, measures=(*report.measures, *fix(self.fix)))
        return report
