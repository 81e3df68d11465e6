"""What a clone holds: no path of a machine, a complete lock, hooks that are those of `make lint`, light imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
import yaml

from tests.house.source import BENCHMARKS, MODULES, PACKAGES, PROJECT, ROOT, TESTS, dotted, name_of, tree

# Clients of services, with dozens of packages that no test needs; the tests hold the calls to them against stand-ins.
SERVICES = ("mlflow", "wandb")


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


def test_files_that_texts_name_are_there(tracked):
    named = re.compile(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)}|tests|benchmarks)/[\w/]+\.py\b")
    texts = {name: text for name, text in tracked.items() if name != "CHANGELOG.md"}  # tells of files of old
    found = {(name, path) for name, text in texts.items() for path in named.findall(text)}
    assert len(found) > 20
    assert not {(name, path) for name, path in found if path not in tracked}


@pytest.mark.parametrize("path", BENCHMARKS, ids=name_of)
def test_names_that_benchmarks_import_are_there(path):
    """The scripts run by hand, so that nothing else would show that a name they take has moved."""
    known = {dotted(module): module for module in MODULES + TESTS + BENCHMARKS}
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module.partition(".")[0] not in {*PACKAGES, "tests", "benchmarks"}:
            continue
        assert node.module in known, f"{node.module} is no module"
        text = known[node.module].read_text()
        for alias in node.names:
            defined = re.search(
                rf"^(?:def|class) {alias.name}\b|^{alias.name}\b|\bas {alias.name}$", text, re.MULTILINE
            )
            assert defined or f"{node.module}.{alias.name}" in known, f"{node.module} has no {alias.name}"


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
    groups = PROJECT["project"]["optional-dependencies"]
    extras = [entry for name, group in groups.items() if name not in SERVICES for entry in group]
    wanted = [*PROJECT["project"]["dependencies"], *extras, *PROJECT["dependency-groups"]["dev"]]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    for entry in wanted:
        assert re.match(r"[\w-]+", entry)[0].lower() in locked, entry
    # Every package of the code is installed with it.
    from setuptools import find_packages

    folders = {name_of(path.parent).replace("/", ".") for path in MODULES}
    assert set(find_packages(str(ROOT), exclude=("tests*", "benchmarks*"))) == folders
    assert 'find_packages(exclude=("tests*", "benchmarks*"))' in (ROOT / "setup.py").read_text()
    # mypy reads every package.
    assert set(PROJECT["tool"]["mypy"]["packages"]) == {folder for folder in folders if "." not in folder}
    own = {f"{folder}.*" for folder in folders if "." not in folder}
    assert set(PROJECT["tool"]["mypy"]["overrides"][1]["module"]) == own


def test_the_hooks_are_those_of_make_lint():
    """The same commands, written once with the path of make's variable and once with that of a clone's root."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # nothing is downloaded
    entries = {hook["entry"]: hook for hook in hooks[0]["hooks"]}
    recipe = re.search(r"^lint: setup\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert list(entries) == recipe.replace("\t", "").replace("$(BIN)", ".venv/bin").splitlines()
    for hook in entries.values():
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False


@pytest.mark.parametrize(
    "module",
    [
        "detection",
        "engine.cli.commands",
        "engine.errors",
        "engine.outputs",
        "engine.reading.images",
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
