"""The categories of annotations in the rows of a model: matched by name, because numbers differ between exporters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detection.data.boxes import BoxSource
from detection.data.classes import BoxClasses
from engine.errors import InputError, did_you_mean
from engine.names import respelled, shown_names, spelled_alike

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CategoryRows:
    """Where the categories of annotations lie among the rows of a model.

    Attributes:
        rows: (C,) row of the model for each class of the source; -1 for a class that the model lacks and no box has.
        category_ids: (K,) the source's category id for each row of the model; -1 for a row that the source lacks.
        note: one line for the user where numbers or spelling differ; empty where all agree.
    """

    rows: Rows
    category_ids: Rows
    note: str

    @classmethod
    def of(cls, source: BoxSource, classes: BoxClasses) -> CategoryRows:
        """Match the categories of a source with the rows of a model.

        A category is the row of the same name, whatever its number; capitals, spaces, hyphens and underscores do not
        count where no row has the very name. A model whose class names are not known is matched by number.

        Args:
            source: the annotations.
            classes: the rows of the model.

        Raises:
            InputError: boxes have a category that no row has, or whose name several rows have.
        """
        own = source.classes
        used = np.bincount(source.class_ids, minlength=len(own)) > 0
        if classes.named:
            rows = np.array([_row(own, place, classes) for place in range(len(own))], dtype=np.int64)
        else:
            known = classes.class_id_by_category
            rows = np.array([known.get(category_id, -1) for category_id in own.category_ids], dtype=np.int64)
        _check_found(source, classes, used & (rows < 0))
        _check_apart(source, classes, rows)
        found = rows >= 0
        category_ids = np.full(len(classes), -1, dtype=np.int64)
        category_ids[rows[found]] = np.array(own.category_ids, dtype=np.int64)[found]
        return cls(rows, category_ids, _note(source, classes, rows))


def _row(own: BoxClasses, place: int, classes: BoxClasses) -> int:
    """Row of one category: of its number and name, else of its name, else of a name that is spelled alike; or -1."""
    name, by_number = own.names[place], classes.class_id_by_category.get(own.category_ids[place])
    if not name:
        return -1 if by_number is None or classes.names[by_number] else by_number
    if by_number is not None and classes.names[by_number] == name:
        return by_number
    return spelled_alike(name, classes.names)


def _check_found(source: BoxSource, classes: BoxClasses, missing: npt.NDArray[np.bool_]) -> None:
    places = np.flatnonzero(missing)
    if not places.size:
        return
    own, first = source.classes, int(places[0])
    names = [name for name in classes.names if name]
    known = shown_names(names) if classes.named else f"{len(classes)} classes by number, {_span(classes)}"
    msg = (
        f"'{source.source}' has boxes of {places.size} categories that the model does not know, such as "
        f"'{own.names[first]}' (id {own.category_ids[first]}); the model knows {known}."
        f"{did_you_mean(own.names[first], names)} Rename the categories in the annotations as the model calls them, or "
        "train a model for these."
    )
    raise InputError(msg)


def _check_apart(source: BoxSource, classes: BoxClasses, rows: Rows) -> None:
    """Refuse two categories that would become one row."""
    found = np.flatnonzero(rows >= 0)
    order = found[np.argsort(rows[found], kind="stable")]
    same = np.flatnonzero(rows[order][1:] == rows[order][:-1])
    if same.size:
        one, other = (int(order[same[0] + step]) for step in (0, 1))
        own = source.classes
        msg = (
            f"'{source.source}' has two categories for the model's '{classes.names[rows[one]]}': '{own.names[one]}' "
            f"(id {own.category_ids[one]}) and '{own.names[other]}' (id {own.category_ids[other]}). Give each its own "
            "name, or merge them."
        )
        raise InputError(msg)


def _note(source: BoxSource, classes: BoxClasses, rows: Rows) -> str:
    own = source.classes
    places = [place for place in range(len(own)) if rows[place] >= 0 and own.names[place]]
    note = respelled(source.source, [(own.names[p], classes.names[rows[p]]) for p in places]) if classes.named else ""
    if note:
        return note
    renumbered = [p for p in places if own.category_ids[p] != classes.category_ids[rows[p]]]
    if renumbered:
        place = renumbered[0]
        return (
            f"'{source.source}' numbers its categories otherwise than the model, such as '{own.names[place]}' "
            f"{own.category_ids[place]} for {classes.category_ids[rows[place]]}; they are matched by name"
        )
    return ""


def _span(classes: BoxClasses) -> str:
    return f"ids {min(classes.category_ids)} to {max(classes.category_ids)}"
