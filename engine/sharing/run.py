"""What a run's folder tells a model card: data, recipe, scores and curves, without the paths of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import yaml

from engine.archives import parse_yaml
from engine.errors import InputError
from engine.reports.contents import Chart
from engine.reports.runs import CONFIG, logged, provenance, training_section
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import CHECKPOINTS
from engine.training.checkpoints import Checkpoint

# Options of `data` that say what was learned from; the others say how it was loaded.
_DATA = ("root", "images", "masks", "annotations", "format", "split")
_SETTINGS = ("seed_everything", "trainer.precision", "model.backbone_weights", "model.pretrained")


@dataclass(frozen=True, eq=False)
class RunFacts:
    """A run in a model card.

    Attributes:
        data: options of the data and their values; of paths only the last two parts.
        recipe: options of the training and their values.
        scores: of the validation that the checkpoint was kept after, by their names; empty where there was none.
        charts: curves over the steps.
        commit: of this project at the training; empty if it is not known.
    """

    data: Mapping[str, str]
    recipe: Mapping[str, str]
    scores: Mapping[str, float]
    charts: tuple[Chart, ...]
    commit: str


def facts_of(checkpoint: Checkpoint, spec: TaskSpec) -> RunFacts | None:
    """What the run of a checkpoint tells; None if the file lies in no run's folder.

    Raises:
        InputError: a file of the run cannot be read.
    """
    folder = checkpoint.path.resolve().parent.parent
    if checkpoint.path.resolve().parent.name != CHECKPOINTS or not (folder / CONFIG).is_file():
        return None
    config = _config(folder / CONFIG)
    section = training_section(folder)
    return RunFacts(
        data=dict(_data(config.get("data"))),
        recipe=dict(_recipe(config, spec)),
        scores=_scores(folder, checkpoint.step),
        charts=() if section is None else tuple(part for part in section.parts if isinstance(part, Chart)),
        commit=provenance(folder).versions.get("commit", ""),
    )


def _config(path: Path) -> Mapping[str, object]:
    try:
        content = parse_yaml(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"'{path}' cannot be read ({error}). Repair it, or copy the checkpoint out of the run's folder."
        raise InputError(msg) from error
    return content if isinstance(content, dict) else {}


def _data(group: object, prefix: str = "data") -> Iterator[tuple[str, str]]:
    for name, value in group.items() if isinstance(group, dict) else ():
        if isinstance(value, dict):
            yield from _data(value, f"{prefix}.{name}")
        elif isinstance(value, str | list) and value and str(name).rpartition("_")[2] in _DATA:
            parts = value if isinstance(value, list) else [value]
            yield f"{prefix}.{name}", ", ".join(_without_machine(str(part)) for part in parts)


def _recipe(config: Mapping[str, object], spec: TaskSpec) -> Iterator[tuple[str, str]]:
    for option in dict.fromkeys((*spec.recipe_options.values(), *_SETTINGS)):
        value: object = config
        for name in option.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            yield option, _without_machine(str(value))


def _without_machine(text: str) -> str:
    """The last two parts of a path that begins at the root or at home; any other text as it is."""
    path = PurePath(text)
    return "/".join(path.parts[-2:]).removeprefix("/") if path.is_absolute() or text.startswith("~") else text


def _scores(folder: Path, step: int | None) -> dict[str, float]:
    """The scores of the validation at a step; Lightning logs under the number of the step before."""
    if step is None:
        return {}
    columns = {name: dict(points) for name, points in logged(folder).items() if name.startswith("val_")}
    return {name: points[step - 1] for name, points in columns.items() if step - 1 in points and name != "val_loss"}
