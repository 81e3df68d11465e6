"""YAML from strangers: no alias takes memory or time without measure, in any place where a config is given."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.archives import parse_yaml

LEAF = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
BOMB = LEAF + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
MAPS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(10))}}}\n" for n in range(1, 12)
)
BAD = {
    "bomb": (BOMB, "more than 100,000 values"),
    "maps": (MAPS, "more than 100,000 values"),
    "circle": ("a: &a\n  b: *a\n", "an alias inside what it stands for"),
    "circle of lists": ("a: &a [*a]\n", "an alias inside what it stands for"),
    "deep": ("a: " + "[" * 60 + "]" * 60 + "\n", "nested deeper than 50"),
    "very deep": ("a: " + "[" * 5000 + "]" * 5000 + "\n", "nested deeper than 50"),
}
PROGRAM = (
    "import sys\n"
    "from engine.cli.commands import run_task\n"
    "from engine.tasks import find_task\n"
    "sys.exit(run_task(find_task(sys.argv[1]), ['fit', sys.argv[2], 'c.yaml']))\n"
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="ascii"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_everything_else_is_as_in_yaml(value):
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


def test_aliases_in_measure():
    text = "base: &base {a: 1, b: [1, 2]}\nown:\n  <<: *base\n  c: *base\n"
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("name", BAD)
def test_without_measure(name):
    text, message = BAD[name]
    before = time.perf_counter()
    with pytest.raises(yaml.YAMLError, match=message):
        parse_yaml(text)
    assert time.perf_counter() - before < 5


@pytest.mark.by_default("detection-bomb", "detection-very deep")  # test_without_measure has the others
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_no_command_hangs(task, name, tmp_path):
    """In a process of its own with bounded memory, as it would not end otherwise."""
    (tmp_path / "c.yaml").write_text(BAD[name][0])
    for option in ("--config", "--model", "--data"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, task, option],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: 'c.yaml' is not valid YAML")
        assert BAD[name][1] in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", ["{a: [}", "{member: d0", "a: [b"])
def test_broken_settings_on_the_command_line(given, capsys):
    from engine.cli.commands import run_task
    from engine.tasks import find_task

    for option in ("--config", "--model"):
        assert run_task(find_task("detection"), ["fit", option, given]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.startswith("error: ")
