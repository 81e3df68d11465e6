"""`python -m TASK compare RUN RUN`: two reports side by side in one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError
from engine.outputs import make_folder
from engine.reports.contents import Report
from engine.tasks import TaskSpec

COMPARED = "compare.html"


def compare(first: Path, second: Path, output: Path = Path(COMPARED)) -> None:
    """Write two reports side by side.

    Args:
        first: a run's folder that has a report.html, or such a file.
        second: another one.
        output: the HTML file.

    Raises:
        InputError: a run has no report, or the output cannot be written.
    """
    from engine.reports.compare import compare_reports
    from engine.reports.encoding import within_budget
    from engine.reports.write import write_report

    make_folder(output.parent)
    reports = _read(first), _read(second)
    write_report(within_budget(compare_reports(*reports, _names(first, second))), output)


def _read(given: Path) -> Report:
    from engine.reports.document import read_report
    from engine.reports.runs import REPORT

    file = given / REPORT if given.is_dir() else given
    if not file.is_file():
        msg = f"there is no report '{file}'. Write it first, with the command `report {given}`."
        raise InputError(msg)
    return read_report(file)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What the runs are called: the last parts of their paths in which they differ."""
    one, two = ([*path.absolute().parent.parts, path.absolute().stem] for path in (first, second))
    while len(one) > 1 and len(two) > 1 and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    return (one[-1], two[-1]) if one[-1] != two[-1] else ("first", "second")


def main(spec: TaskSpec, argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the page; returns 2 after one short line of error, else 0."""

    def act() -> None:
        given = parse_function(compare, f"{program(spec.name)} compare", argv, __doc__, positional=True)
        compare(**given)
        size = given["output"].stat().st_size
        sys.stdout.write(f"Comparison: {given['output']} ({size / 1e6:.1f} MB)\n")

    return run_command(act)
