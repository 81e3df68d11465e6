"""The wheel as its user meets it: built, installed, and run from a folder with a `detection/` and an `engine/`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

# A .pth file: this environment's packages, but none of its editable installs, whose finders .pth files start.
BESIDE = "import sys; sys.path.append({!r})\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `bin` folder of a fresh environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in tracked.stdout.split("\0"):
        if name and not name.startswith(("tests/", "benchmarks/")) and (ROOT / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source"]
    subprocess.run([*pip[:-1], *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (home,) = folder.glob("env/lib/python*/site-packages")
    (home / "beside.pth").write_text(BESIDE.format(sysconfig.get_path("purelib")))
    python = folder / "env/bin/python"
    subprocess.run([*pip, python, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return folder / "env/bin"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder of someone who has a `detection/` and an `engine/`, as is common."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("detection", "engine", "segmentation"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
        (folder / name / "__main__.py").write_text(f"print('the {name} of this folder')\n")
    return folder


@pytest.fixture
def run(installed, elsewhere):
    def act(*words: object) -> str:
        command = [str(word) for word in words]
        command[0] = str(installed / command[0])
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return act


def test_the_console_command_runs_what_is_installed(run, installed, elsewhere):
    assert "detection      EfficientDet" in run("effdense", "--help")
    assert "effdense detection fit --config detection/demo" in run("effdense", "detection", "--help")
    assert "effdense detection fit --config" in run("effdense", "detection", "fit", "--help")
    assert run("effdense", "segmentation", "--version").strip() == "0.1.0"
    assert "effdense backbones table" in run("effdense", "backbones", "--help")
    # The module's name is that of the folder's own package there: what `effdense` is for.
    assert run("python", "-m", "detection") == "the detection of this folder\n"
    where = run("python", "-P", "-c", "import engine, detection; print(engine.__file__, detection.__file__)")
    assert where.count(str(installed.parent)) == 2
    assert str(elsewhere) not in where


def test_a_training_by_the_name_of_its_config(run, elsewhere):
    """Workers and all: nothing of the folder's own packages is imported."""
    classes = '["person", "rider", "car", "truck", "bus", "bicycle", "traffic sign"]'
    size = ("--height", 64, "--width", 128)
    run("effdense", "scenes", "demo-data", "--train", 16, "--val", 2, *size, "--classes", classes)
    small = ("--model.backbone_weights", "null", "--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu")
    image = ("--model.architecture.image_size", "[128, 128]", "--data.batch_size", 2, "--data.num_workers", 1)
    said = run("effdense", "detection", "fit", "--config", "detection/demo", *small, *image)
    assert "of this folder" not in said
    assert "7 classes" in said


def test_the_wheel_says_that_it_is_typed_and_has_the_configs(installed):
    (home,) = installed.parent.glob("lib/python*/site-packages")
    for package in ("backbones", "engine", "detection", "segmentation", "joint", "deployment"):
        assert (home / package / "py.typed").is_file()
    shipped = {path.relative_to(home / "engine/configs") for path in (home / "engine/configs").rglob("*.yaml")}
    assert shipped == {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert not (home / "configs").exists()
    assert not (home / "tests").exists()
