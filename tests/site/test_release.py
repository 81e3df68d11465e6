"""Habits of a release: one version, one licence, forms for issues, and workflows that do what the documents say."""

from __future__ import annotations

import re
import tomllib

import yaml

from tests.house.source import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


def runs(workflow: str) -> list[str]:
    """The commands of a workflow's steps."""
    return [step["run"] for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"] if "run" in step]


def test_the_version_stands_in_one_place():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] in ("Unreleased", PROJECT["version"])
    texts = [*ROOT.glob("*/__init__.py"), ROOT / "setup.py"]
    assert not [path for path in texts if re.search(r"__version__ *=", path.read_text())]


def test_the_licence_is_the_same_everywhere():
    assert PROJECT["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_the_workflows_run_what_a_contributor_runs():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"bash .ci/run", "make docs"} <= set(runs("ci"))
    for command in [*runs("ci"), *runs("release")]:
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert target in targets
        for path in re.findall(r"\btests/[\w./]+", command):
            assert (ROOT / path).exists(), path


def test_only_a_built_and_tested_wheel_is_published_and_without_a_token():
    jobs = WORKFLOWS["release"]["jobs"]
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}  # YAML reads the key `on` as true
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert any("tests/test_wheel.py" in command for command in runs("release"))
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}


def test_the_forms_for_issues_ask_for_what_the_page_on_reports_says():
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    page = (ROOT / "docs/reporting.md").read_text()
    for name in ("bug", "feature"):
        assert f'"{forms[name]["name"]}"' in page
    assert {entry["id"] for entry in forms["bug"]["body"]} >= {"command", "happened", "versions"}
