"""The messages before torch is imported are those of the parser, and former names still work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine.cli.commands import run_task
from engine.cli.configs import find_config, named_configs
from engine.cli.early import prepare
from engine.cli.signatures import options
from engine.errors import InputError
from engine.tasks import find_task, task_names
from tests.engine.toy import SPEC, main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "line", ["fitt", "--model.width 3 fit", "--config typo.yaml fit", "fit --config typo.yaml --ckpt_path gone.ckpt"]
)
def test_both_say_the_same(line, here, capsys):
    Path("typo.yaml").write_text("model:\n  widht: 3\n")
    Path("one.ckpt").write_text("")
    assert run_task(SPEC, line.split()) == 2
    early = capsys.readouterr().err
    assert main(line.split()) == 2
    # The early answer knows the plain commands too.
    assert capsys.readouterr().err == early.replace("predict, shout, share", "predict")


@pytest.mark.parametrize("task", task_names())
def test_a_config_is_found_by_its_name_from_anywhere(task, here):
    demo = ROOT / "configs" / f"{find_task(task).demo}.yaml"
    assert find_task(task).demo == f"{task}/demo"
    for name in ("demo", "demo.yaml", f"{task}/demo", f"{task}/demo.yaml"):
        assert find_config(name, task) == demo
    assert find_config(f"{task}/demmo", task) is None
    own = {name.partition("/")[2] for name in named_configs() if name.startswith(f"{task}/")}
    assert own == {path.stem for path in demo.parent.glob("*.yaml")}
    # A file wins.
    Path("demo").write_text("model: {}\n")
    assert find_config("demo", task) == Path("demo")


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ("detection/demmo", ["there is no folder 'detection'", "detection/demo"]),
        ("configs/detection/coco_d0.yml", ["detection/coco_d0"]),
        ("coco_d9", ["no config file 'coco_d9'", "a name: detection/coco,"]),
        ("nothing like it", ["no config file", "a name: detection/"]),
    ],
)
def test_a_missing_config_lists_the_nearest_names(given, holds, here):
    with pytest.raises(InputError) as caught:
        prepare(find_task("detection"), ["fit", "--config", given])
    for part in holds:
        assert part in str(caught.value)


def test_former_names_work_on_the_command_line_and_in_configs(here, capsys):
    Path("old.yaml").write_text("model:\n  wideness: 7\n  size: large\ndata: {pictures: 40}\n")
    Path("new.yaml").write_text("model: {width: 7, size: large}\ndata: {images: 40}\n")
    old, new = prepare(SPEC, ["fit", "--config", "old.yaml"]), prepare(SPEC, ["fit", "--config=new.yaml"])
    assert yaml.safe_load(old.words[2]) == yaml.safe_load(Path("new.yaml").read_text())
    assert new.words == ["fit", "--config=new.yaml"]
    assert new.notes == []
    said = ["old.yaml: model.wideness is now called model.width", "old.yaml: data.pictures is now called data.images"]
    assert sorted(old.notes) == sorted(said)
    given = ["fit", "--model.wideness=7", "--data.pictures", "40", "--model", "{wideness: 7}"]
    prepared = prepare(SPEC, given)
    assert prepared.words == ["fit", "--model.width=7", "--data.images", "40", "--model", "{width: 7}"]
    assert prepared.notes == ["model.wideness is now called model.width", "data.pictures is now called data.images"]
    # Only where the present name is an option: `source` is an option of predict.
    assert prepare(SPEC, ["fit", "--origin", "a"]).words == ["fit", "--origin", "a"]
    assert prepare(SPEC, ["predict", "--origin", "a"]).words == ["predict", "--source", "a"]
    assert main(["fit", "--config", "old.yaml", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["model"]["width"], config["model"]["size"], config["data"]["images"]) == (7, "large", 40)


def test_former_names_of_plain_commands(here, capsys):
    assert run_task(SPEC, ["shout", "--text", "hey", "--times", "2"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("HEYHEY", "text is now called words\n")
    assert run_task(SPEC, ["shout", "--text", "hey", "--tmies", "2"]) == 2
    assert "Did you mean 'times'?" in capsys.readouterr().err
    assert run_task(SPEC, ["shout"]) == 2
    assert capsys.readouterr().err == "error: give --words\n"


@pytest.mark.parametrize("task", task_names())
def test_every_former_name_has_one_of_today(task):
    """A former name is no option any more, and the present one is an option of some command."""
    import importlib
    import inspect

    spec = find_task(task)
    known = {o.name for path, group in ((spec.module, "model."), (spec.data, "data.")) for o in options(path, group)}
    known |= {o.name for o in options(f"{spec.trainer}.predict")}
    for command in spec.commands.values():
        functions = inspect.getmembers(importlib.import_module(command), inspect.isfunction)
        known |= {name for _, function in functions for name in inspect.signature(function).parameters}
    for old, new in spec.renamed.items():
        if new == "pictures" and "pictures" not in known:
            continue
        assert new in known, old
