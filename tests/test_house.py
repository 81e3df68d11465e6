"""The rules of the house that a machine can check: layers, sizes, no local paths, documents that name what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("backbones", "engine", "detection", "segmentation", "joint")
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
BELOW = {
    "backbones": {"backbones", "engine"},
    "engine": {"engine"},
    "detection": {"backbones", "engine", "detection"},
    "segmentation": {"backbones", "engine", "segmentation"},
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
    shell = ("lightning", "engine.training.task")  # the second is the first, with what all tasks share
    users = {
        name_of(path)
        for path in MODULES
        if any(module == name or module.startswith(f"{name}.") for module in imports(path) for name in shell)
    }
    assert users == WITH_LIGHTNING


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
    assert set(find_packages(str(ROOT), **project["tool"]["setuptools"]["packages"]["find"])) == folders


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
    from detection.prediction.predictor import DetectionPredictor

    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`(?:found|detector|model)\.(\w+)", text):
        known = {*Found.__dataclass_fields__, *dir(Found), *dir(EfficientDet), *dir(DetectionPredictor)}
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
    commands = {"fit", "validate", "test", "predict", "score", "check", "table", "scale", "facts", "convert"}
    commands |= {"boxes", "ray"}
    seen = set()
    for line in shell_lines():
        if match := re.match(r"make ([\w-]+)", line):
            assert match[1] in targets, line
        if match := re.match(r"python -m (\w+) (\w+)", line):
            assert (ROOT / match[1] / "__main__.py").is_file()
            assert match[2] in commands, line
            seen.add(match[2])
        for path in re.findall(r"(configs/\S+\.yaml)", line):
            assert (ROOT / path).is_file(), line
    assert {"fit", "validate", "predict", "score"} <= seen


def test_the_options_of_the_documents_exist():
    import inspect

    from lightning.pytorch import Trainer

    from backbones.study import commands as backbone_commands
    from detection.data.module import CocoDataModule
    from detection.prediction.trainer import DetectionTrainer
    from detection.scores.score import score
    from detection.task import DetectionTask
    from detection.weights.convert import convert as convert_detector
    from engine.cli.runs import Run
    from engine.training.averaging import EMA
    from engine.training.recipe import Optimizer, Schedule
    from joint.data.instances import write_boxes
    from joint.data.module import BoxFiles, JointDataModule, MaskFiles
    from joint.network.parts import DetectorPart, SegmenterPart
    from joint.prediction.ray_predict import predict_folder
    from joint.prediction.trainer import JointTrainer
    from joint.task import JointTask
    from joint.training.balance import Balance
    from segmentation.data.module import FolderData, SegmentationDataModule
    from segmentation.inference.inference import Inference
    from segmentation.network.family import SegmenterOverrides
    from segmentation.prediction.trainer import SegmentationTrainer
    from segmentation.scores.score import score as score_masks
    from segmentation.scores.submission import check
    from segmentation.task import SegmentationTask

    def arguments(function):
        return set(inspect.signature(function).parameters)

    groups = {
        "model": arguments(DetectionTask) | arguments(SegmentationTask) | arguments(JointTask),
        "data": arguments(CocoDataModule) | arguments(SegmentationDataModule) | arguments(JointDataModule),
        "trainer": arguments(Trainer),
        "ema": arguments(EMA), "run": arguments(Run),
    }  # fmt: skip
    nested = {
        "optimizer": arguments(Optimizer), "schedule": arguments(Schedule), "folder": arguments(FolderData),
        "architecture": arguments(SegmenterOverrides), "inference": arguments(Inference),
        "balance": arguments(Balance), "boxes": arguments(BoxFiles), "masks": arguments(MaskFiles),
        "detector": arguments(DetectorPart), "segmenter": arguments(SegmenterPart),
    }  # fmt: skip
    plain = {"config", "help", "version", "print_config"}
    backbone = (backbone_commands.table, backbone_commands.scale)
    predict = (DetectionTrainer.predict, SegmentationTrainer.predict, JointTrainer.predict, predict_folder)
    for function in (*predict, *backbone, convert_detector, score, score_masks, check, write_boxes):
        # Underscores may be written as hyphens where a whole option is.
        plain |= arguments(function) | {name.replace("_", "-") for name in arguments(function)}
    seen = 0
    for line in shell_lines():
        if "python -m" not in line and not line.startswith("--"):
            continue
        ours = line[max(0, line.find("python -m")) :]  # without a launcher's own options
        for option in re.findall(r"(?<!\S)--([a-z_-]+(?:\.\w+)*)", ours):
            group, _, rest = option.partition(".")
            name, _, leaf = rest.partition(".")
            known = name in groups[group] and (not leaf or leaf in nested[name]) if rest else group in plain
            assert known, f"--{option}: {line}"
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
