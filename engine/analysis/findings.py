"""What an evaluation found, as a task hands it to whoever draws it or writes a report."""

from __future__ import annotations

from dataclasses import dataclass

from engine.reports.contents import Figure, Section


@dataclass(frozen=True)
class Findings:
    """The contents of a report about one evaluation.

    Attributes:
        classes: names in the order that chooses their colours.
        figures: the key numbers.
        sections: charts, matrices, tables and images.
    """

    classes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    sections: tuple[Section, ...] = ()
