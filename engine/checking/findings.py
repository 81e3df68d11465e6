"""Findings of a check: a name, how bad it is, and the files; as a table, for machines, and as an exit code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Severity = Literal["error", "warning", "note"]
Rows: TypeAlias = "list[dict[str, str | int | list[str]]]"
EXAMPLES = 3  # files of a fault in the table; all are in the JSON


@dataclass(frozen=True)
class Finding:
    """One fault in one place.

    Attributes:
        name: the fault, such as `box.outside`.
        severity: an error stops or spoils a training, a warning probably does, a note is good to know.
        file: the file, or the split.
        detail: what was seen there.
    """

    name: str
    severity: Severity
    file: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """All that a check found.

    Attributes:
        title: the set in one line.
        findings: in the order of finding.
    """

    title: str
    findings: tuple[Finding, ...]

    def by_name(self) -> Mapping[str, list[Finding]]:
        """The findings of each fault, the worst faults first."""
        groups: dict[str, list[Finding]] = defaultdict(list)
        order = get_args(Severity)
        for found in sorted(self.findings, key=lambda found: (order.index(found.severity), found.name)):
            groups[found.name].append(found)
        return groups

    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(any(found.severity == "error" for found in self.findings))

    def table(self) -> str:
        """The faults, a line each, with the first files below it."""
        lines = [self.title]
        for name, group in self.by_name().items():
            lines.append(f"{group[0].severity:8} {name:24} {len(group):>8,}")
            lines += [f"           {found.file}: {found.detail}" for found in group[:EXAMPLES]]
        return "\n".join(lines if self.findings else [*lines, "nothing found"])

    def document(self) -> dict[str, str | Rows]:
        """The report for machines: `title`, and `findings` with name, severity, file and detail."""
        rows: Rows = [
            {"name": found.name, "severity": found.severity, "file": found.file, "detail": found.detail}
            for group in self.by_name().values()
            for found in group
        ]
        return {"title": self.title, "findings": rows}
