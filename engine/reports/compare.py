"""Two reports in one: curves over each other, tables joined, images and matrices side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import yaml

from engine.archives import parse_yaml
from engine.reports.contents import (
    Cell,
    Chart,
    Column,
    ColumnKind,
    Gallery,
    ImageCard,
    Matrix,
    Part,
    Provenance,
    Report,
    Section,
    Series,
    Table,
)
from engine.reports.document import kind_of

_TEXTS = ("text", "class", "mistake")


def compare_reports(first: Report, second: Report, names: tuple[str, str]) -> Report:
    """What two reports have in common, side by side, and in what their runs differ.

    Chapters and their parts belong together by title; what only one report has is left out.

    Args:
        first: a report.
        second: another one, over the same images.
        names: what the two are called.
    """
    sections = [Section("Key figures", (_figures(first, second, names),))]
    others = {section.title: section for section in second.sections}
    for section in first.sections:
        other = others.get(section.title)
        parts = () if other is None else tuple(_parts(section, other, names))
        if parts:
            sections.append(replace(section, parts=parts))
    sections.append(Section("Differences of the runs", (_settings(first, second, names),)))
    own, its = first.provenance, second.provenance
    return Report(
        title=f"{names[0]} beside {names[1]}",
        subtitle=f"{names[0]}: {first.subtitle}; {names[1]}: {second.subtitle}",
        classes=tuple(dict.fromkeys((*first.classes, *second.classes))),
        class_colors=first.class_colors if first.classes == second.classes else (),
        sections=tuple(sections),
        provenance=Provenance(command=f"{names[0]}: {own.command}\n{names[1]}: {its.command}"),
        score_threshold=first.score_threshold,
    )


def _figures(first: Report, second: Report, names: tuple[str, str]) -> Table:
    values = {figure.name: figure.value for figure in second.figures}
    rows = tuple(
        (figure.name, figure.value, values[figure.name], _less(values[figure.name], figure.value), figure.detail)
        for figure in first.figures
        if figure.name in values
    )
    shares = all(abs(cell) <= 1 for row in rows for cell in row[1:3] if isinstance(cell, float))
    kind: ColumnKind = "share" if shares else "number"
    columns = (Column("figure"), *(Column(name, kind) for name in (*names, "difference")), Column("meaning"))
    return Table("Key figures", columns, rows, f"The difference is {names[1]} less {names[0]}.")


def _parts(section: Section, other: Section, names: tuple[str, str]) -> Iterator[Part]:
    known = {(kind_of(part), part.title): part for part in other.parts}
    for part in section.parts:
        beside = known.get((kind_of(part), part.title))
        if isinstance(part, Chart) and isinstance(beside, Chart) and part.kind == "line":
            yield _over_each_other(part, beside, names)
        elif isinstance(part, Table) and isinstance(beside, Table):
            yield from _joined(part, beside, names)
        elif isinstance(part, Gallery) and isinstance(beside, Gallery):
            yield from _paired(part, beside, names)
        elif isinstance(part, Chart | Matrix) and isinstance(beside, Chart | Matrix):
            yield _named(part, names[0])
            yield _named(beside, names[1])


def _named(part: Chart | Matrix | Table, name: str) -> Part:
    return replace(part, title=f"{part.title}: {name}")


def _over_each_other(first: Chart, second: Chart, names: tuple[str, str]) -> Chart:
    order = list(dict.fromkeys(series.name for series in (*first.series, *second.series)))
    series: list[Series] = []
    for chart, name, dashed in ((first, names[0], False), (second, names[1], True)):
        series += [
            replace(one, name=f"{one.name}: {name}", color=order.index(one.name), dashed=dashed) for one in chart.series
        ]
    series.sort(key=lambda one: (one.color or 0, one.dashed))
    marks = tuple(
        replace(mark, text=f"{mark.text} ({name})")
        for chart, name in ((first, names[0]), (second, names[1]))
        for mark in chart.marks
    )
    ranges = [
        None if one is None or two is None else (min(one[0], two[0]), max(one[1], two[1]))
        for one, two in ((first.x_range, second.x_range), (first.y_range, second.y_range))
    ]
    return replace(first, series=tuple(series), marks=marks, x_range=ranges[0], y_range=ranges[1])


def _joined(first: Table, second: Table, names: tuple[str, str]) -> Iterator[Part]:
    """One table by the first column; two where that does not tell rows apart or the columns differ."""
    keys = [[row[0] for row in table.rows] for table in (first, second)]
    alike = [column.name for column in first.columns] == [column.name for column in second.columns]
    if not alike or any(len(set(found)) < len(found) for found in keys):
        yield _named(first, names[0])
        yield _named(second, names[1])
        return
    columns, others = [first.columns[0]], {row[0]: row for row in second.rows}
    for column in first.columns[1:]:
        columns += [replace(column, name=f"{column.name}: {name}") for name in names]
        if column.kind not in _TEXTS:
            # A difference of scores is no score, which the slider would cut.
            columns.append(Column(f"{column.name}: difference", "share" if column.kind == "score" else column.kind))
    rows = []
    for row in first.rows:
        if row[0] not in others:
            continue
        cells: list[Cell] = [row[0]]
        for place, column in enumerate(first.columns[1:], start=1):
            one, two = row[place], others[row[0]][place]
            cells += [one, two]
            cells += [] if column.kind in _TEXTS else [_less(two, one)]
        rows.append(tuple(cells))
    yield replace(first, columns=tuple(columns), rows=tuple(rows))


def _paired(first: Gallery, second: Gallery, names: tuple[str, str]) -> Iterator[Part]:
    """The images that both show, each run's beside the other's; those that differ most in their score come first."""
    others = {card.name: card for card in second.cards}
    pairs = [(card, others[card.name]) for card in first.cards if card.name in others]
    if not pairs:
        return
    pairs.sort(key=lambda pair: -abs(_less(pair[1].score, pair[0].score) or 0))
    cards: list[ImageCard] = []
    for pair in pairs:
        cards += [replace(card, name=f"{card.name}: {name}") for card, name in zip(pair, names, strict=True)]
    note = "Images that both reports show."
    yield replace(first, cards=tuple(cards), total=len(cards), note=note)


def _settings(first: Report, second: Report, names: tuple[str, str]) -> Table:
    one, two = ({**_flat(report.provenance.config), **report.provenance.versions} for report in (first, second))
    rows = tuple(
        (key, one.get(key), two.get(key)) for key in dict.fromkeys((*one, *two)) if one.get(key) != two.get(key)
    )
    note = "" if rows else "The configurations and versions are the same."
    return Table("Settings and versions that differ", (Column("setting"), *map(Column, names)), rows, note)


def _flat(config: str) -> dict[str, str]:
    """The settings of a YAML text by dotted names; a text that is none is one setting."""
    try:
        content = parse_yaml(config)
    except yaml.YAMLError:
        return {"configuration": config}
    return dict(_leaves(content, ""))


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield (
            name,
            ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value),
        )


def _less(value: Cell, other: Cell) -> float | None:
    """The difference of two numbers; None unless both exist."""
    if isinstance(value, str) or isinstance(other, str) or value is None or other is None:
        return None
    return value - other
