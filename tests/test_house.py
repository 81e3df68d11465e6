"""The rules of the house that a machine can check: layers, sizes, no local paths, documents that name what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.help import command_options
from engine.tasks import COMMANDS, find_task, task_names

ROOT = Path(__file__).parents[1]
TASKS = task_names()
PACKAGES = ("backbones", "engine", *TASKS)
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
# The thin last layer; everything else is usable without Lightning.
WITH_LIGHTNING = {
    "detection/data/module.py",
    "detection/prediction/trainer.py",
    "detection/task.py",
    "engine/cli/effdense_cli.py",
    "engine/cli/parser.py",
    "engine/cli/runs.py",
    "engine/data/module.py",
    "engine/prediction/streaming.py",
    "engine/prediction/trainer.py",
    "engine/prediction/writer.py",
    "engine/training/averaging.py",
    "engine/training/sync_norm.py",
    "engine/training/task.py",
    "joint/data/module.py",
    "joint/prediction/trainer.py",
    "joint/task.py",
    "segmentation/data/module.py",
    "segmentation/prediction/trainer.py",
    "segmentation/task.py",
}
# What a layer may import of the others.
BELOW = {task: {"backbones", "engine", task} for task in TASKS} | {
    "backbones": {"backbones", "engine"},
    "engine": {"engine"},
    "joint": {"backbones", "engine", "detection", "segmentation", "joint"},
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Every module that a file imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_layers_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    own = {module.partition(".")[0] for module in imports(path)} & {*PACKAGES, "tests", "benchmarks"}
    assert own <= BELOW[package]


def test_only_the_last_layer_knows_lightning():
    shell = ("lightning", "engine.training.task", "engine.data.module")  # with what all tasks share of it
    users = {
        name_of(path)
        for path in MODULES
        if any(module == name or module.startswith(f"{name}.") for module in imports(path) for name in shell)
    }
    assert users == WITH_LIGHTNING


# Where the engine may name a network or a data set: as the source of a formula. The scenes write data files.
SOURCES = {
    "engine/training/averaging.py": "TensorFlow's `ExponentialMovingAverage(num_updates=t)`, which the official",
    "engine/training/recipe.py": "EfficientNet paper",
    "engine/training/sync_norm.py": "every activation of an EfficientNet",
}


def test_the_engine_knows_no_task():
    words = re.compile("EfficientDet|EfficientNet|BiFPN|COCO|Cityscapes|DeepLab|mIoU")
    for path in (ROOT / "engine").rglob("*.py"):
        if path.is_relative_to(ROOT / "engine/scenes"):
            continue
        named = [line for line in path.read_text().splitlines() if words.search(line)]
        assert not named or all(SOURCES[name_of(path)] in line for line in named), (name_of(path), named)


@pytest.mark.parametrize("path", MODULES + TESTS, ids=name_of)
def test_every_file_is_one_room(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    if path.name != "__init__.py" or text:
        assert ast.get_docstring(ast.parse(text)), "the first line of a file is its docstring"
    # Written in pieces, so that this file does not hold them.
    words = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
    assert not re.search("|".join(rf"\b{word}\b" for word in words), text)


@pytest.fixture(scope="module")
def tracked():
    """Every file that a clone holds, with its text."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return {name_of(path): path.read_text(errors="ignore") for path in paths if path.is_file() and path.suffix != ".gz"}


def test_no_path_of_a_machine_and_no_registry_host(tracked):
    # Written in pieces, so that this file does not hold them.
    machine = "|".join("/" + name + "/" for name in ("work", "tmp", "root", "home", "Users", "mnt"))
    hosts = "|".join(re.escape(name) for name in ("pypi" + ".org", "files.python" + "hosted", "artifact" + "ory"))
    indexes = "--" + "index-url|--extra-" + "index-url"
    bad = re.compile(rf"(?<![\w.~/}}])(?:{machine})|{hosts}|{indexes}", re.IGNORECASE)
    found = [f"{name}: {match[0]}" for name, text in tracked.items() for match in bad.finditer(text)]
    assert not found


def test_the_lock_is_of_names_and_versions(tracked):
    lines = tracked["requirements.lock"].splitlines()
    assert len(lines) > 50
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.\-]+==[\w.+!]+( ; [^;]+)?", line), line
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)
    # A package stands twice only where Python versions need different releases of it.
    assert all(" ; " in line for line in lines if names.count(line.partition("==")[0]) > 1)


def test_the_lock_holds_every_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [entry for group in project["project"]["optional-dependencies"].values() for entry in group]
    wanted = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    for entry in wanted:
        assert re.match(r"[\w-]+", entry)[0].lower() in locked, entry
    # Every package of the code is installed with it.
    from setuptools import find_packages

    folders = {name_of(path.parent).replace("/", ".") for path in MODULES}
    assert set(find_packages(str(ROOT), exclude=("tests*", "benchmarks*"))) == folders
    assert 'find_packages(exclude=("tests*", "benchmarks*"))' in (ROOT / "setup.py").read_text()
    # mypy reads every package.
    assert set(project["tool"]["mypy"]["packages"]) == set(PACKAGES)
    assert set(project["tool"]["mypy"]["overrides"][1]["module"]) == {f"{package}.*" for package in PACKAGES}


def blocks(path, *kinds):
    text = path.read_text()
    found = re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
    return [body for kind, body in found if kind in kinds]


def test_the_python_of_the_documents_uses_what_exists():
    import importlib

    seen = 0
    for document in DOCUMENTS:
        for block in blocks(document, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names)
                    seen += 1
    assert seen
    # Attributes and calls that the text shows in passing.
    from detection import EfficientDet
    from detection.prediction.found import Found

    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`(?:found|detector|model)\.(\w+)", text):
        known = {*Found.__dataclass_fields__, *dir(Found), *dir(EfficientDet)}
        assert name in known, name


def shell_lines():
    """Commands of the documents' blocks and inline code."""
    for document in DOCUMENTS:
        text = document.read_text()
        for block in blocks(document, ""):
            yield from block.splitlines()
        yield from (
            " ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        )


def test_the_commands_of_the_documents_name_what_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {"backbones": {"table", "scale", "facts", "convert"}, "engine": set()}
    commands |= {task: set(find_task(task).all_commands) for task in TASKS}
    seen = set()
    for line in shell_lines():
        if match := re.match(r"make ([\w-]+)", line):
            assert match[1] in targets, line
        if match := re.match(r"python -m (\w+) (\w+)", line):
            assert (ROOT / match[1] / "__main__.py").is_file()
            assert match[2] in commands[match[1]], line
            seen.add(match[2])
        for path in re.findall(r"(configs/\S+\.yaml)", line):
            assert (ROOT / path).is_file(), line
    assert {"fit", "validate", "predict", "score"} <= seen


def test_the_options_of_the_documents_exist():
    import inspect

    from backbones.study import commands as backbone_commands
    from detection.scores.score import score
    from detection.weights.convert import convert as convert_detector
    from joint.data.instances import write_boxes
    from joint.prediction.ray_predict import predict_folder
    from segmentation.scores.score import score as score_masks
    from segmentation.scores.submission import check

    def arguments(function):
        return set(inspect.signature(function).parameters)

    dotted = {o.name for task in TASKS for command in COMMANDS for o in command_options(find_task(task), command)}
    plain = {"config", "help", "version", "print_config"}
    backbone = (backbone_commands.table, backbone_commands.scale)
    for function in (predict_folder, *backbone, convert_detector, score, score_masks, check, write_boxes):
        # Underscores may be written as hyphens where a whole option is.
        plain |= arguments(function) | {name.replace("_", "-") for name in arguments(function)}
    plain |= {name for name in dotted if "." not in name}
    seen = 0
    for line in shell_lines():
        if "python -m" not in line and not line.startswith("--"):
            continue
        ours = line[max(0, line.find("python -m")) :]  # without a launcher's own options
        for option in re.findall(r"(?<!\S)--([a-z_-]+(?:\.\w+)*)", ours):
            assert option in (dotted if "." in option else plain), f"--{option}: {line}"
            seen += 1
    assert seen > 8


def test_files_that_the_documents_name_exist():
    for document in DOCUMENTS:
        text = document.read_text()
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target
        for folder in re.findall(r"^\| `(\w+/)` \|", text, re.MULTILINE):
            assert (ROOT / folder).is_dir(), folder
    for name in re.findall(r"^\| `(\w+\.yaml)`", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert list((ROOT / "configs").glob(f"*/{name}")), name


@pytest.mark.parametrize(
    "module",
    [
        "detection",
        "engine.cli.commands",
        "engine.cli.early",
        "engine.cli.help",
        "engine.cli.main",
        "engine.cli.messages",
        "engine.tasks",
        "engine.training.checkpoint_files",
        *(f"{task}.spec" for task in TASKS),
        "engine.errors",
        "engine.outputs",
        "engine.data.images",
        "detection.scores.score",
        "segmentation",
        "segmentation.scores.score",
        "segmentation.scores.submission",
        "segmentation.inference.tiles",
        "segmentation.inference.pictures",
        "detection.prediction.document",
        "engine.prediction.sources",
        "engine.prediction.journal",
        "engine.prediction.results",
        "segmentation.inference.segmented",
        "segmentation.prediction.areas",
        "segmentation.prediction.kinds",
    ],
)
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
