"""`python -m segmentation score`: the scores of label maps that come from anywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError, check_choice
from engine.hardware.processes import in_processes
from engine.names import pairing_name
from engine.outputs import make_folder, write_json
from engine.reading.listing import find_images
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.class_files import read_class_list
from segmentation.data.classes import Rgb
from segmentation.data.masks import MaskFormat, MaskReader
from segmentation.scores.cityscapes_scores import ID_COUNT
from segmentation.scores.confusion import UInt8Array
from segmentation.scores.label_files import (
    LabelFiles,
    read_instances,
    read_labels,
    resembles_train_ids,
    scene_of,
    values_of,
)
from segmentation.scores.metric import SegmentationScores
from segmentation.scores.records import ImageCounter, ImageCounts, SegmentationRecords

Dataset = Literal["cityscapes", "folder"]
_IMAGES_PER_PROCESS = 20  # for fewer it does not pay to start a process


def score(
    ground_truth: str | Path,
    predictions: str | Path,
    dataset: Dataset = "cityscapes",
    classes: str | Path | None = None,
    mask_format: MaskFormat = "index",
    ignore_values: list[int] | None = None,
    ignore_colors: list[Rgb] | None = None,
    mask_suffix: str = "",
    instances: bool = True,
    boundary: float | None = None,
    per_class: bool = True,
    output: str | Path | None = None,
    workers: int | None = None,
) -> SegmentationScores:
    """Score label maps against the ground truth over all its images.

    Args:
        ground_truth: folder searched to any depth; for Cityscapes, such as gtFine/val, for _labelIds.png.
        predictions: folder with a PNG of label ids for each image; for Cityscapes also a zip, whose names start
            with CITY_SEQUENCE_FRAME; else the names are those of the masks.
        dataset: cityscapes scores as the benchmark does, folder scores masks of any classes.
        classes: YAML file with the class list of a folder: names, label_ids, colors.
        mask_format: what the values of a folder's masks mean; predictions hold label ids.
        ignore_values: values of a folder's masks that are not counted; by default 255, unless a class has it.
        ignore_colors: the same for colour masks.
        mask_suffix: what a mask's name has in addition to the prediction's, such as _mask.
        instances: whether to measure iIoU, for which Cityscapes needs _instanceIds.png.
        boundary: tolerance of the boundary F-score: below 1 a share of the diagonal, 0.0075 is usual, from 1 on
            pixels; null leaves it out, as it takes longer than everything else.
        per_class: whether to give each class's scores beside the means.
        output: JSON file to write the numbers to; a score that a class does not have is null.
        workers: processes; null takes one for each core if there is enough work.

    Raises:
        InputError: a file is missing, repeated or not what it should be, sizes differ, or the output cannot be written.
    """
    check_choice("dataset", dataset, ("cityscapes", "folder"))
    if output is not None:
        make_folder(Path(output).parent)  # before the minutes that a large set takes
    if dataset == "cityscapes":
        if classes is not None or mask_format != "index" or mask_suffix or ignore_values or ignore_colors:
            msg = "classes and what masks mean are for --dataset folder. Leave them out for Cityscapes."
            raise InputError(msg)
        records = SegmentationRecords(CITYSCAPES, cityscapes=True, boundary=boundary)
        files = LabelFiles.find(predictions)
        reader: _Reader = _CityscapesReader(files, records.counter)
        tasks = _cityscapes_tasks(Path(ground_truth), files, instances)
    else:
        if classes is None:
            msg = "give --classes for --dataset folder: a YAML file with the names, and label_ids where not 0, 1, ..."
            raise InputError(msg)
        records = SegmentationRecords(read_class_list(Path(classes)), boundary=boundary)
        ignored = None if ignore_values is None else tuple(ignore_values)
        mask_reader = MaskReader(records.counter.classes, mask_format, ignored, tuple(ignore_colors or ()))
        reader = _FolderReader(mask_reader, records.counter)
        tasks = _folder_tasks(Path(ground_truth), Path(predictions), mask_suffix)
    _count_all(reader, tasks, records, workers)
    scores = records.scores()
    if output is not None:
        write_json(output, scores.to_dict())
    return scores


class _Task(NamedTuple):
    """One image: its true label map, the predicted one (a name inside a zip or folder, or a path), its instances."""

    truth: Path
    prediction: str
    instances: Path | None = None


class _Counted(NamedTuple):
    counts: ImageCounts
    predicted_values: frozenset[int]


@dataclass(frozen=True)
class _CityscapesReader:
    files: LabelFiles
    counter: ImageCounter

    def __call__(self, task: _Task) -> _Counted:
        predicted, true = self.files.read(task.prediction), read_labels(task.truth)
        _check_sizes(task, true, predicted)
        self._check_ids(str(task.truth), true)
        self._check_ids(task.prediction, predicted)
        instances = None if task.instances is None else read_instances(task.instances)
        if instances is not None and instances.shape != true.shape:
            msg = f"'{task.instances}' is not of the size of '{task.truth}'. Give files of one ground truth."
            raise InputError(msg)
        counts = self.counter.of_ids(predicted, true, instances)
        return _Counted(counts, frozenset((counts.places % ID_COUNT).tolist()))

    def _check_ids(self, name: str, labels: UInt8Array) -> None:
        if labels.max(initial=0) < ID_COUNT:
            return
        values = values_of(labels)
        if name in self.files.names and resembles_train_ids(values):
            raise InputError(_holds_train_ids(self.files.source))
        wrong = min(value for value in values if value >= ID_COUNT)
        msg = (
            f"'{name}' has the value {wrong} in {values[wrong]} pixels; ids are 0 to {ID_COUNT - 1}. "
            "Write the ids of cityscapesScripts' labels.py."
        )
        raise InputError(msg)


@dataclass(frozen=True)
class _FolderReader:
    read: MaskReader
    counter: ImageCounter
    read_index: MaskReader = field(init=False)

    def __post_init__(self) -> None:
        ignored = self.read.ignore_values if self.read.mask_format == "index" else None
        object.__setattr__(self, "read_index", MaskReader(self.counter.classes, ignore_values=ignored))

    def __call__(self, task: _Task) -> _Counted:
        true, predicted = self.read(task.truth), self.read_index(Path(task.prediction))
        _check_sizes(task, true, predicted)
        return _Counted(self.counter.of_rows(predicted, true), frozenset())


_Reader = _CityscapesReader | _FolderReader


def _check_sizes(task: _Task, true: UInt8Array, predicted: UInt8Array) -> None:
    if true.shape != predicted.shape:
        given, wanted = (f"{labels.shape[1]}x{labels.shape[0]}" for labels in (predicted, true))
        msg = (
            f"'{task.prediction}' is {given} (width x height), but the ground truth '{task.truth}' is {wanted}. "
            "Give predictions of the images' own size."
        )
        raise InputError(msg)


def _holds_train_ids(source: Path) -> str:
    return (
        f"the predictions in '{source}' hold training ids, 0 to 18, where ids are meant. "
        "Write the ids of cityscapesScripts' labels.py: road is 7, not 0."
    )


def _cityscapes_tasks(folder: Path, files: LabelFiles, with_instances: bool) -> list[_Task]:
    truths = [path for path in find_images(folder) if path.name.endswith("_labelIds.png")]
    if not truths:
        msg = f"folder '{folder}' holds no _labelIds.png. Give a folder such as gtFine/val."
        raise InputError(msg)
    scenes = files.by_scene()
    tasks, missing = [], []
    for truth in truths:
        found = scenes.get(scene_of(truth.name), []) if scene_of(truth.name) else []
        if len(found) > 1:
            msg = f"'{files.source}' has {len(found)} files for '{truth}': {found[0]}, {found[1]}. Keep one."
            raise InputError(msg)
        if not found:
            missing.append(truth)
            continue
        instances = truth.with_name(truth.name.replace("_labelIds", "_instanceIds")) if with_instances else None
        if instances is not None and not instances.is_file():
            msg = f"'{instances}' does not exist, which iIoU needs. Add it, or leave iIoU out: --instances false"
            raise InputError(msg)
        tasks.append(_Task(truth, found[0], instances))
    _check_complete(missing, len(truths), files.source)
    return tasks


def _folder_tasks(folder: Path, predictions: Path, suffix: str) -> list[_Task]:
    found: dict[str, str] = {}
    if not predictions.is_dir():
        msg = f"'{predictions}' is not a folder. Give the folder of the predicted PNG files."
        raise InputError(msg)
    for name in LabelFiles.find(predictions).names:
        found[pairing_name(str(Path(name).with_suffix("")))] = str(predictions / name)
    truths = [path for path in find_images(folder) if path.stem.endswith(suffix)]
    if not truths:
        msg = f"folder '{folder}' holds no file that ends in '{suffix}'. Correct mask_suffix."
        raise InputError(msg)
    names = [pairing_name(str(path.relative_to(folder).with_name(path.stem.removesuffix(suffix)))) for path in truths]
    _check_complete([truth for truth, name in zip(truths, names, strict=True) if name not in found], len(truths),
                    predictions)  # fmt: skip
    return [_Task(truth, found[name]) for truth, name in zip(truths, names, strict=True)]


def _check_complete(missing: Sequence[Path], count: int, predictions: Path) -> None:
    if missing:
        msg = (
            f"'{predictions}' has no prediction for {len(missing)} of {count} images, such as '{missing[0]}'. "
            "Predict them all, or give the ground truth of those alone."
        )
        raise InputError(msg)


def _count_all(reader: _Reader, tasks: Sequence[_Task], records: SegmentationRecords, workers: int | None) -> None:
    values: set[int] = set()
    found = in_processes(reader, tasks, workers, per_process=_IMAGES_PER_PROCESS, chunk=4, name="score", unit="image")
    for index, counted in enumerate(found):
        records.put(index, counted.counts)
        values |= counted.predicted_values
    if isinstance(reader, _CityscapesReader) and resembles_train_ids(values):
        raise InputError(_holds_train_ids(reader.files.source))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, print the table; returns 2 after one short line of error, else 0."""

    def act() -> None:
        arguments = parse_function(score, f"{program('segmentation')} score", argv, __doc__)
        sys.stdout.write(score(**arguments).table(arguments["per_class"]) + "\n")

    return run_command(act)
