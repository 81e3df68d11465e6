"""The first help pages and those of groups, compared with the real parser of each task."""

from __future__ import annotations

import functools
import re

import pytest
import yaml

from engine.cli.commands import overview, run_task
from engine.cli.help import command_options, first_page, group_names, group_page
from engine.errors import InputError
from engine.tasks import COMMANDS, find_task, task_names

TASKS = task_names()


@functools.cache
def parsers(task: str):
    """The real parser of each command."""
    from engine.cli.effdense_cli import EffDenseCLI

    class Built(Exception):  # noqa: N818
        pass

    class Halted(EffDenseCLI):
        def parse_arguments(self, parser, args):
            raise Built(parser.commands.choices)

    with pytest.raises(Built) as caught:
        Halted(find_task(task), [], f"python -m {task}")
    return caught.value.args[0]


def plain(value):
    """A default in a form that is the same from the parser and from the source."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.by_default("fit", "joint")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_from_the_source_is_what_the_parser_takes(task, command):
    """Every option of the parser, with the same default, and no other."""
    defaults = dict(parsers(task)[command].get_defaults().items())
    read = {o.name: o for o in command_options(find_task(task), command) if not o.group}
    defaults.setdefault("config", None)
    given = {name for name, option in read.items() if option.required}
    assert set(read) == set(defaults)
    pairs = {name: (plain(o.default), plain(defaults[name])) for name, o in read.items() if name not in given}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("task", TASKS)
def test_the_first_page_fits_a_screen_and_its_options_exist(task, command):
    spec = find_task(task)
    page = first_page(spec, command, f"python -m {task}")
    lines = page.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    shown = re.findall(r"^  --([\w.]+) ", page, re.MULTILINE)
    defaults = dict(parsers(task)[command].get_defaults().items())
    assert set(shown) - {"config"} <= set(defaults)
    assert set(spec.first_page[command]) <= set(shown)
    assert {"config", "ckpt_path"} <= set(shown)
    for name in shown:
        line = next(line for line in lines if line.startswith(f"  --{name} "))
        told = re.search(r"  \(([^()]*)\)$", line)
        assert bool(told) == (defaults.get(name) is not None), line
        if told:
            assert yaml.safe_load(told[1]) == plain(defaults[name])
    for group in ("all", "data", "model", "trainer", "run", "ema", "optimizer"):
        assert group in page
    # The options of predict are its own.
    if command == "predict":
        own = {o.name for o in command_options(spec, command) if "." not in o.name and not o.group}
        assert own - set(shown) == {"seed_everything"}


@pytest.mark.by_default("joint", "classification")
@pytest.mark.parametrize("task", TASKS)
def test_every_group_has_a_page_of_all_its_options(task):
    spec = find_task(task)
    for group in group_names(spec, "fit"):
        page = group_page(spec, "fit", group, "x")
        shown = set(re.findall(r"^  --([\w.]+)", page, re.MULTILINE))
        taken = dict(parsers(task)["fit"].get_defaults().items())
        assert shown == {name for name in taken if name.startswith(f"{group}.")}
    assert group_page(spec, "fit", "optimizer", "x") == group_page(spec, "fit", "model.optimizer", "x")
    with pytest.raises(InputError, match=r"no group of options 'optimiser'. Did you mean 'optimizer'\?"):
        group_page(spec, "fit", "optimiser", "x")


@pytest.mark.parametrize("task", TASKS)
def test_the_overview_names_every_command(task):
    spec = find_task(task)
    page = overview(spec)
    assert len(page.splitlines()) <= 40
    assert set(spec.lines) == set(spec.all_commands)
    assert all(re.search(rf"^  {command} +\S", page, re.MULTILINE) for command in spec.all_commands)
    for line in spec.examples:
        words = line.split()
        assert words[0] in spec.all_commands


def test_all_is_the_whole_help(capsys):
    assert run_task(find_task("detection"), ["predict", "--help", "all"]) == 0
    shown = capsys.readouterr().out
    assert "--model.postprocess.soft_sigma" in shown
    assert len(shown.splitlines()) > 200
