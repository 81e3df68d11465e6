"""Findings of a check: a name, how bad it is, and the files; as a table, a line, an exit code, and for machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Severity = Literal["error", "warning", "note"]
FailOn = Literal["error", "warning", "note", "never"]
Rows: TypeAlias = "list[dict[str, object]]"
EXAMPLES = 3  # files of a fault in the table; all are in the JSON
_FAULTS_IN_LINE = 6


@dataclass(frozen=True)
class Finding:
    """One fault in one place.

    Attributes:
        name: the fault, such as `box.outside`.
        severity: an error stops or spoils a training, a warning probably does, a note is good to know.
        file: the file, or the split.
        detail: what was seen there.
        box_xyxy: left, top, right and bottom of the box that is meant, in pixels of the image as annotated.
        twin: the other file, where the fault is between two.
    """

    name: str
    severity: Severity
    file: str
    detail: str
    box_xyxy: tuple[float, float, float, float] | None = None
    twin: str | None = None


@dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    Attributes:
        title: the set in one line.
        findings: in the order of finding.
        measures: what the set is like, a line each, such as the sizes of its objects.
    """

    title: str
    findings: tuple[Finding, ...]
    measures: tuple[str, ...] = ()

    def by_name(self) -> Mapping[str, list[Finding]]:
        """The findings of each fault, the worst faults first."""
        groups: dict[str, list[Finding]] = defaultdict(list)
        order = get_args(Severity)
        for found in sorted(self.findings, key=lambda found: (order.index(found.severity), found.name)):
            groups[found.name].append(found)
        return groups

    def exit_code(self, fail_on: FailOn = "error") -> int:
        """1 if there is a finding at least as bad as `fail_on`, else 0."""
        if fail_on == "never":
            return 0
        order = get_args(Severity)
        worst = min((order.index(found.severity) for found in self.findings), default=len(order))
        return int(worst <= order.index(fail_on))

    def table(self) -> str:
        """The faults, a line each, with the first files below it."""
        lines = [self.title, *(f"  {measure}" for measure in self.measures)]
        for name, group in self.by_name().items():
            lines.append(f"{group[0].severity:8} {name:24} {len(group):>8,}")
            lines += [f"           {found.file}: {found.detail}" for found in group[:EXAMPLES]]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """How many findings of each severity there are, in words."""
        counts = [(kind, sum(found.severity == kind for found in self.findings)) for kind in get_args(Severity)]
        return ", ".join(_counted(count, kind) for kind, count in counts if count) or "nothing found"

    def line(self) -> str:
        """The findings in one line: the number of each severity, and the names of the worst faults."""
        named = [f"{name} {len(group):,}" for name, group in self.by_name().items() if group[0].severity != "note"]
        more = len(named) - _FAULTS_IN_LINE
        shown = [*named[:_FAULTS_IN_LINE], *([f"{more} more"] if more > 0 else [])]
        names = f" ({', '.join(shown)})" if shown else ""
        return f"{self.summary()}{names}"

    def first_look(self, command: str) -> str:
        """The line with what was looked at, and the command that tells more where something was found."""
        more = f"; `{command}` tells more" if self.findings else ""
        return f"quick check of the {self.title}: {self.line()}{more}"

    def document(self) -> dict[str, str | Sequence[str] | Rows]:
        """The report for machines.

        It has `title`, `measures`, and `findings` with name, severity, file and detail; `box_xyxy` and `twin` where
        there are any.
        """
        rows = [_row(found) for group in self.by_name().values() for found in group]
        return {"title": self.title, "measures": list(self.measures), "findings": rows}


def _row(found: Finding) -> dict[str, object]:
    row: dict[str, object] = {
        "name": found.name,
        "severity": found.severity,
        "file": found.file,
        "detail": found.detail,
    }
    if found.box_xyxy is not None:
        # JSON has no NaN, and a box may be one.
        row["box_xyxy"] = [edge if abs(edge) < float("inf") else None for edge in found.box_xyxy]
    if found.twin is not None:
        row["twin"] = found.twin
    return row


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {kind}{'s' * (count != 1)}"
