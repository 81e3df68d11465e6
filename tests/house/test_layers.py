"""Imports run one way: between packages, between the rooms of a package, and between files."""

from __future__ import annotations

import re

import pytest

from engine.tasks import task_names
from tests.house.source import MODULES, PACKAGES, ROOT, arrows, circles, dotted, imports, name_of

TASKS = task_names()
# What a package may import of the others: those below it. Tasks do not know each other, but for joint.
BELOW = {task: {"engine", "backbones", task} for task in TASKS} | {
    "engine": {"engine"},
    "backbones": {"backbones", "engine"},
    "joint": {"backbones", "engine", "detection", "segmentation", "joint"},
    "deployment": {"backbones", "engine", *TASKS, "deployment"},
}
# The rooms of a task; a reader of one task knows his way in the others.
ROOMS = {"network", "weights", "data", "scores", "prediction", "reports"}
OWN_ROOMS = {
    "detection": {"analysis", "checking", "formats", "tiles", "training"},
    "segmentation": {"checking", "inference", "large", "training"},
    "classification": {"training"},
    "joint": {"checking", "training"},
}
# The thin last layer, by the names of its files and folders; everything else is usable without Lightning.
SHELL_FILES = {"task.py", "module.py", "trainer.py", "streaming.py", "writer.py"}
SHELL_FOLDERS = {
    "engine/cli",
    "engine/cli/reports",
    "engine/logging",
    "engine/training",
    "engine/training/callbacks",
    "engine/training/finding",
}


# Where the engine may name a network or a data set: as the source of a formula. The scenes write data sets' files, and
# the annotations read them.
SOURCES = {
    "engine/training/averaging.py": "TensorFlow's `ExponentialMovingAverage(num_updates=t)`, which the official",
    "engine/training/recipe.py": "EfficientNet paper",
    "engine/training/plugins.py": "activation of an EfficientNet",
}


def room(name: str) -> str:
    """The folder of a file within its package, or the file itself where it stands in no folder."""
    package, *inner = name.split(".")
    return f"{package}.{inner[0]}" if inner else package


def test_every_package_has_its_floor():
    assert set(BELOW) == set(PACKAGES)


def test_layers_point_one_way():
    upward = set()
    for path in MODULES:
        own = {module.partition(".")[0] for module in imports(path)} & {*PACKAGES, "tests", "benchmarks"}
        upward |= {f"{name_of(path)} -> {package}" for package in own - BELOW[path.relative_to(ROOT).parts[0]]}
    assert not upward


def test_no_circle_between_files():
    assert not circles(arrows())


def test_no_circle_between_rooms():
    rooms: dict[str, set[str]] = {}
    for name, others in arrows().items():
        rooms.setdefault(room(name), set()).update(map(room, others))
    # The package's own names come from its rooms, on first use.
    graph = {name: frozenset(others - {name}) for name, others in rooms.items() if name not in PACKAGES}
    assert not circles({name: frozenset(others & graph.keys()) for name, others in graph.items()})


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f2"}, "f2": {"f"}}
    assert circles({name: frozenset(others) for name, others in graph.items()}) == [["a", "b", "c"], ["f", "f2"]]


@pytest.mark.parametrize("task", TASKS)
def test_networks_know_only_networks_and_what_the_data_mean(task):
    others = {room(other) for name, found in arrows().items() if room(name) == f"{task}.network" for other in found}
    assert {other for other in others if other.startswith(f"{task}.")} <= {f"{task}.network", f"{task}.data"}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_the_same_rooms(task):
    rooms = {path.parent.name for path in (ROOT / task).glob("*/__init__.py")}
    assert rooms <= ROOMS | OWN_ROOMS.get(task, set())
    assert {"network", "data", "scores", "prediction"} <= rooms
    assert {"__init__.py", "__main__.py", "spec.py", "task.py", "py.typed"} <= {
        path.name for path in (ROOT / task).iterdir()
    }


def test_only_the_last_layer_knows_lightning():
    shell = ("lightning", "engine.training.task")  # the second is the first, with what all tasks share
    users = {
        path
        for path in MODULES
        if any(module == name or module.startswith(f"{name}.") for module in imports(path) for name in shell)
    }
    assert users
    assert not {
        name_of(path)
        for path in users
        if path.name not in SHELL_FILES and name_of(path.parent) not in SHELL_FOLDERS
    }  # fmt: skip


def test_what_computes_reaches_no_lightning_through_others():
    """Networks, losses, weights, metrics and data sets can be copied out of the house without Lightning."""
    graph = arrows()
    shell = {dotted(path) for path in MODULES if any(m.partition(".")[0] == "lightning" for m in imports(path))}
    bad = set()
    for path in MODULES:
        name = dotted(path)
        if path.name in {*SHELL_FILES, "__main__.py"} or name_of(path.parent) in SHELL_FOLDERS:
            continue
        if path.parent.name == "prediction":  # finds checkpoints by the name of a run
            continue
        bad |= {f"{name} -> {other}" for other in graph[name] & shell}
    assert not bad


def test_the_engine_knows_no_task():
    words = re.compile("EfficientDet|EfficientNet|BiFPN|COCO|Cityscapes|DeepLab|mIoU")
    for path in MODULES:
        name = name_of(path)
        if not name.startswith("engine/") or name.startswith(("engine/scenes/", "engine/annotations/")):
            continue
        named = [line for line in path.read_text().splitlines() if words.search(line)]
        assert not named or all(SOURCES[name] in line for line in named), (name, named)
