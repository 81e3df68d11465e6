"""What a run's folder tells of its training: the command, its settings and versions, and the curves."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from engine.errors import InputError
from engine.reports.contents import Chart, Provenance, Section, Series

CONFIG, VERSIONS, METRICS = "config.yaml", "versions.json", "metrics.csv"
REPORT = "report.html"
_MOST_POINTS = 400

Columns = Mapping[str, list[tuple[float, float]]]


def require_run(folder: Path) -> Path:
    """The config of a run's folder.

    Raises:
        InputError: the folder is none of a run.
    """
    config = folder / CONFIG
    if not config.is_file():
        msg = f"'{folder}' is no folder of a run, as it has no {CONFIG}. Give one such as runs/detection/version_0."
        raise InputError(msg)
    return config


def provenance(folder: Path) -> Provenance:
    """The command line, configuration and versions of a run, as far as its folder has them.

    Raises:
        InputError: a file cannot be read.
    """
    config, versions = folder / CONFIG, folder / VERSIONS
    try:
        text = config.read_text("utf-8") if config.is_file() else ""
        stored = json.loads(versions.read_text("utf-8")) if versions.is_file() else {}
    except (OSError, ValueError) as error:
        msg = f"the files of run '{folder}' cannot be read ({error}). Give another run, or mend them."
        raise InputError(msg) from error
    numbers = {str(name): str(version) for name, version in dict(stored.get("versions") or {}).items()}
    commit = {"commit": str(stored["commit"])} if stored.get("commit") else {}
    return Provenance(str(stored.get("command", "")), text, {**commit, **numbers})


def training_section(folder: Path) -> Section | None:
    """Losses, scores and learning rate over the steps of a training; None without logged numbers.

    Raises:
        InputError: the file of metrics cannot be read.
    """
    columns = logged(folder)
    charts = [
        _chart("Loss", "loss", columns, lambda name: name.endswith("_loss")),
        _chart("Scores of validation", "score", columns, lambda name: name.startswith("val_") and name != "val_loss"),
        _chart("Learning rate", "learning rate", columns, lambda name: name.startswith("lr")),
    ]
    drawn = tuple(chart for chart in charts if chart is not None)
    return Section("Training", drawn) if drawn else None


def logged(folder: Path) -> Columns:
    """Each logged number of a run with its steps; a resumed run has several parts, and a later part replaces steps.

    Raises:
        InputError: a file of metrics cannot be read.
    """
    file = folder / METRICS
    numbered = (file.with_suffix(f".{number}{file.suffix}") for number in itertools.count(1))
    older = itertools.takewhile(Path.is_file, numbered)  # as a resumed training sets them aside
    found: dict[str, dict[float, float]] = {}
    for part in (*older, *([file] if file.is_file() else [])):
        try:
            with part.open(encoding="utf-8", newline="") as opened:
                rows = list(csv.DictReader(opened))
            for row in rows:
                step = float(row["step"])
                for name, text in row.items():
                    if name not in ("step", "epoch") and text:
                        found.setdefault(name, {})[step] = float(text)
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"'{part}' cannot be read as the metrics of a run ({error}). Remove it, or give another run."
            raise InputError(msg) from error
    return {name: sorted(points.items()) for name, points in found.items()}


def _chart(title: str, label: str, columns: Columns, wanted: Callable[[str], bool]) -> Chart | None:
    series = tuple(_series(name, points) for name, points in columns.items() if wanted(name))
    return Chart(title, "step", label, series) if series else None


def _series(name: str, points: list[tuple[float, float]]) -> Series:
    """A curve of at most some hundred points, each the mean of its neighbours."""
    groups = np.array_split(np.array(points, np.float64), math.ceil(min(len(points), _MOST_POINTS)))
    means = np.array([group.mean(axis=0) for group in groups])
    return Series(name, means[:, 0], means[:, 1])
