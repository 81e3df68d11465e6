"""Key figures, the table of classes, what is taken for what, calibration, and images with their classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from classification.data.batch import ClassificationBatch
from classification.data.classes import LabelClasses
from classification.scores.metric import WORDS, ClassificationScores
from classification.scores.records import Collected
from engine.analysis.calibration import reliability
from engine.reading.images import UInt8Array
from engine.reports.batches import MOST
from engine.reports.choosing import sample, worst
from engine.reports.contents import Cell, Chart, Column, Figure, Gallery, ImageCard, Matrix, Section, Series, Table
from engine.reports.encoding import encode_image

_SIDE = 256  # pixels of the longer side of a picture
_MOST_ROWS = 300


@dataclass(frozen=True, eq=False)
class FoundLabels:
    """An evaluation of labels.

    Attributes:
        classes: the class list.
        scores: of the whole set.
        collected: probabilities and labels of the images.
        names: what the images are called, by their places in the set.
        look: reads an image; None if it cannot be read any more.
        several_threshold: where images have several labels, classes of this probability or more are found.
    """

    classes: LabelClasses
    scores: ClassificationScores
    collected: Collected
    names: Sequence[str]
    look: Callable[[int], UInt8Array | None]
    several_threshold: float


def label_figures(scores: ClassificationScores) -> tuple[Figure, ...]:
    """The measures of the whole set; one that does not exist is None."""
    return tuple(
        Figure(
            WORDS[name],
            None if math.isnan(value) else value,
            better="min" if name == "calibration_error" else "max",
        )
        for name, value in scores.numbers.items()
    )


def label_sections(found: FoundLabels) -> tuple[Section, ...]:
    """The chapters on labels."""
    likelihoods = _of_truth(found)
    names = {int(place): found.names[int(place)] for place in found.collected.places}
    lowest = worst(likelihoods)
    galleries = (
        Gallery(
            "Images whose labels were least expected",
            _cards(found, lowest, likelihoods),
            len(names),
            "The worst first.",
        ),
        Gallery("A sample", _cards(found, sample(names), likelihoods), len(names), "The same in each run."),
    )
    confusion = () if found.classes.several else (confusion_matrix(found), confused_pairs(found))
    return (
        Section("Classes", (class_table(found.scores), *confusion)),
        Section("Calibration", (calibration_chart(found),)),
        Section("Images", galleries),
    )


def class_table(scores: ClassificationScores) -> Table:
    """The measures of each class."""
    names = list(next(iter(scores.classes.values())))
    heads = [Column("class", "class")]
    heads += [Column(name, "count" if name == "images" else "share", "", None if name == "images" else "max")
              for name in scores.classes]  # fmt: skip
    rows: list[tuple[Cell, ...]] = [(name, *(values[name] for values in scores.classes.values())) for name in names]
    return Table("Classes", tuple(heads), tuple(rows))


def confusion_matrix(found: FoundLabels) -> Matrix:
    """Images by true and found class."""
    names = found.classes.names
    return Matrix("Confusion", "truth", "found", names, names, found.scores.confusion.astype(np.float64))


def confused_pairs(found: FoundLabels) -> Table:
    """Which class was most often taken for which."""
    counts = found.scores.confusion.copy()
    true = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    rows: list[tuple[Cell, ...]] = []
    for place in np.argsort(-counts, axis=None, kind="stable")[:_MOST_ROWS].tolist():
        row, column = divmod(place, len(found.classes))
        if counts[row, column]:
            share = float(counts[row, column] / true[row])
            rows.append((found.classes.names[row], found.classes.names[column], int(counts[row, column]), share))
    columns = (
        Column("truth", "class"), Column("found", "class"), Column("images", "count"),
        Column("share", "share", "of the images of the true class"),
    )  # fmt: skip
    return Table("The most common confusions", columns, tuple(rows))


def calibration_chart(found: FoundLabels) -> Chart:
    """How often answers of a probability are right."""
    probabilities, targets = found.collected.probabilities.numpy(), found.collected.targets.numpy()
    if found.classes.several:
        scores, right = probabilities.ravel(), targets.ravel() > 0
    else:
        scores, right = probabilities.max(1), probabilities.argmax(1) == targets
    bins = reliability(scores, right)
    known = bins.counts > 0
    curve = Series("share that is right", bins.scores[known], bins.right[known])
    note = f"calibration error {found.scores.numbers['calibration_error']:.3f}"
    return Chart(
        "Reliability", "probability", "share that is right", (curve,), x_range=(0, 1), y_range=(0, 1), diagonal=True,
        note=note,
    )  # fmt: skip


def batch_cards(batch: ClassificationBatch, classes: LabelClasses) -> list[ImageCard]:
    """The first images of a training batch with their labels."""
    images = batch.images[:MOST].permute(0, 2, 3, 1).cpu().numpy()
    targets = batch.targets[:MOST].cpu().numpy()
    cards = []
    for image, target in zip(images, targets, strict=True):
        rows = np.flatnonzero(target > 0).tolist() if classes.several else [int(target)]
        names = [classes.names[row] for row in rows]
        encoded = encode_image(np.ascontiguousarray(image), _SIDE)
        cards.append(ImageCard(", ".join(names), image.shape[1], image.shape[0], encoded, class_names=tuple(names)))
    return cards


def _of_truth(found: FoundLabels) -> dict[int, float]:
    """The probability of each image's label, or of several the least share of right ones, by its place."""
    probabilities, targets = found.collected.probabilities.numpy(), found.collected.targets.numpy()
    if found.classes.several:
        values = np.where(targets > 0, probabilities, 1 - probabilities).min(axis=1)
    else:
        values = probabilities[np.arange(len(targets)), targets]
    return dict(zip(found.collected.places.tolist(), values.tolist(), strict=True))


def _cards(found: FoundLabels, places: Sequence[int], likelihoods: dict[int, float]) -> tuple[ImageCard, ...]:
    rows = {place: row for row, place in enumerate(found.collected.places.tolist())}
    cards = (_card(found, place, rows[place], likelihoods[place]) for place in places)
    return tuple(card for card in cards if card is not None)


def _card(found: FoundLabels, place: int, row: int, likelihood: float) -> ImageCard | None:
    image = found.look(place)
    if image is None:
        return None
    probabilities, target = found.collected.probabilities[row].numpy(), found.collected.targets[row].numpy()
    if found.classes.several:
        true = np.flatnonzero(target > 0).tolist()
        said = np.flatnonzero(probabilities >= found.several_threshold).tolist()
    else:
        true, said = [int(target)], [int(probabilities.argmax())]
    names = found.classes.names
    note = f"{_listed(names, true)} taken for {_listed(names, said)}" if true != said else _listed(names, true)
    return ImageCard(
        found.names[place],
        image.shape[1],
        image.shape[0],
        encode_image(image, _SIDE),
        score=likelihood,
        score_name="probability of the truth",
        class_names=tuple(names[each] for each in {*true, *said}),
        mistakes=("wrong class",) if true != said else (),
        note=note,
    )


def _listed(names: Sequence[str], rows: Sequence[int]) -> str:
    return ", ".join(names[row] for row in rows) or "none"
