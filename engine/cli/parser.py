"""Command-line errors in one short message: what was given, what is allowed, the nearest name.

jsonargparse answers a typo with its whole usage, some fifty lines, and then the fault. Its messages are read here
and worded anew. They are not a stable interface: one that is not recognised is shortened, never lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
import yaml
from jsonargparse import ActionSubCommands
from lightning.pytorch.cli import LightningArgumentParser

from engine import numbers
from engine.errors import InputError, did_you_mean

_WORDS = numbers.WORDS | {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "PhiName": "phi and a number, as phi1.5",
}


class ShortErrorParser(LightningArgumentParser):
    """A parser that raises `InputError` with a short message in the place of printing its usage and leaving."""

    commands: ActionSubCommands | None = None

    def add_subcommands(self, *args: Any, **kwargs: Any) -> ActionSubCommands:
        """Add subcommands, and remember them for the hints."""
        self.commands = super().add_subcommands(*args, **kwargs)
        return self.commands

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the shortened message.

        Raises:
            InputError: always, but for a nested parse, whose fault the outer parser words.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise InputError(_shorten(self, message)) from ex

    def option_keys(self) -> list[str]:
        """Every dotted option name, and the names of the groups above them."""
        leaves = list(self.get_defaults().keys())
        groups = {leaf[:dot] for leaf in leaves for dot in range(len(leaf)) if leaf[dot] == "."}
        return sorted(groups.union(leaves))


def _shorten(parser: ShortErrorParser, message: str) -> str:
    for pattern, word in _RULES:
        if found := re.search(pattern, message, re.DOTALL):
            return str(word(parser, *found.groups()))
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]


def _command_names(parser: ShortErrorParser) -> list[str]:
    return list(parser.commands.choices or ()) if parser.commands else []


def _unknown_option(parser: ShortErrorParser, key: str) -> str:
    keys = parser.option_keys()
    hint = did_you_mean(key, keys)
    if not hint:
        # A bare `lr` for `model.optimizer.lr`.
        ends: dict[str, str] = {}
        for known in sorted(keys, key=lambda name: name.count("."), reverse=True):
            ends[known.rpartition(".")[2]] = known
        leaf = did_you_mean(key.rpartition(".")[2], ends)
        hint = f" Did you mean '{ends[leaf.split(chr(39))[1]]}'?" if leaf else ""
    group = key.rpartition(".")[0]
    siblings = sorted({k[len(group) + 1 :].split(".")[0] for k in keys if k.startswith(group + ".")})
    allowed = f" Options of {group}: {', '.join(siblings)}." if group and 0 < len(siblings) <= 20 else ""
    return f"there is no option '{key}'.{hint}{allowed} `--help` lists them all."


def _unrecognised(parser: ShortErrorParser, rest: str) -> str:
    first = rest.split()[0]
    if parser.commands and first.startswith("-"):
        return f"'{first}' is given before the command. Write options after it: COMMAND --name value."
    if first.startswith("--"):
        return _unknown_option(parser, first[2:].partition("=")[0])
    return f"'{first}' is not an option, or belongs to none. Options are written --name value; `--help` lists them."


def _in_command(parser: ShortErrorParser, command: str, key: str) -> str:
    choices = parser.commands.choices if parser.commands else None
    inner = choices[command] if choices else parser
    return _unknown_option(inner if isinstance(inner, ShortErrorParser) else parser, key)


def _before_command(_parser: ShortErrorParser, key: str, command: str) -> str:
    return (
        f"'{key}' is given before '{command}', but is an option of it. "
        f"Write --config and options after the command: {command} --config FILE --{key} VALUE."
    )


def _wrong_command(parser: ShortErrorParser, given: str) -> str:
    names = _command_names(parser)
    if str((parser.args or ["fit"])[0]).startswith("-"):
        return f"options are given before the command. Write them after it: COMMAND --name value. {_commands(names)}"
    return f"there is no command '{given}'.{did_you_mean(given, names)} {_commands(names)}"


def _commands(names: list[str]) -> str:
    return f"Commands: {', '.join(names)}."


def _no_command(parser: ShortErrorParser) -> str:
    return f"no command is given. {_commands(_command_names(parser))} `COMMAND --help` explains one."


def _missing(parser: ShortErrorParser, keys: str) -> str:
    commands = _command_names(parser)
    names = []
    for key in keys.split(", "):
        head, _, tail = key.partition(".")
        names.append("--" + (tail if tail and head in commands else key))
    return f"{', '.join(names)} must be given, on the command line or in the file of --config."


def _no_value(_parser: ShortErrorParser, option: str) -> str:
    return f"{option} needs a value: {option} VALUE."


def _no_config(_parser: ShortErrorParser, reason: str, given: str) -> str:
    path = Path(given)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if path.is_dir():
        return f"--config '{path}' is a folder. Give a YAML file."
    if not path.parent.is_dir():
        return f"--config '{path}': there is no folder '{path.parent}'. Give the path of a YAML file."
    if path.exists():
        return f"--config '{path}' cannot be read ({reason.lower()}). Give a readable YAML file."
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
    hint = did_you_mean(path.name, names) or (f" In that folder: {', '.join(names[:8])}." if names else "")
    return f"there is no config file '{path}'.{hint} Give the path of a YAML file."


def _config_files(parser: ShortErrorParser) -> Iterable[Path]:
    words = [str(word) for word in parser.args or ()]
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--config", "-c"):
            yield Path(value if equals else words[index + 1])


def _broken_config(parser: ShortErrorParser, reason: str) -> str:
    place = re.search(r"(did not find[^\n]*|could not find[^\n]*|found[^\n]*|mapping values[^\n]*)", reason)
    lines = re.findall(r"line (\d+)", reason)
    file = next((f"'{path}'" for path in _config_files(parser) if _is_broken(path)), "the config")
    what = f": {place[1].strip()}" if place else ""
    return f"{file} is not valid YAML{f', line {lines[-1]}' if lines else ''}{what}. Correct it and try again."


def _is_broken(path: Path) -> bool:
    try:
        yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return True
    return False


def _no_mapping(parser: ShortErrorParser) -> str:
    for path in _config_files(parser):
        if path.is_file() and not isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict):
            return f"'{path}' is no config: it has no 'name: value' lines. `--print_config` shows what one looks like."
    return "the config has no 'name: value' lines. `--print_config` shows what one looks like."


def _allowed(types: str) -> tuple[str, list[str]]:
    """The description of a type in plain words, and the names that it allows."""
    names = [name for group in re.findall(r"Literal\[(.*?)\]", types) for name in re.findall(r"'([^']*)'", group)]
    text = re.sub(r"(?:typing\.)?Literal\[(.*?)\]", r"\1", types)
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", lambda m: _WORDS.get(m[1], m[1]), text)
    text = re.sub(r"tuple\[(jsonargparse\.typing\.\w+)(?:, (?:\1|\.\.\.))*\]", r"a list, each \1", text)
    text = re.sub(r"jsonargparse\.typing\.(\w+)", lambda m: _WORDS.get(m[1], m[1]), text)
    return re.sub(r"\s+", " ", text.replace("typing.", "")), names


def _wrong_value(_parser: ShortErrorParser, key: str, types: str, value: str) -> str:
    allowed, names = _allowed(types)
    shown = value.strip().strip("'")
    return f"{key} is '{shown[:80]}'; allowed: {allowed}.{did_you_mean(shown, names)}"


def _wrong_number(parser: ShortErrorParser, key: str, kind: str, problem: str) -> str:
    # "0 does not conform to restriction v>0", "2.5 not an integer", "could not convert string to float: 'x'"
    given = re.match(r"(.*?) (?:does not conform|not an? )", problem) or re.search(r": '?(.*?)'?$", problem)
    return _wrong_value(parser, key, f"<class '{kind}'>", given[1] if given else problem)


def _class_hint(given: str) -> str:
    known = [*lightning.pytorch.callbacks.__all__, *lightning.pytorch.loggers.__all__]
    return did_you_mean(given.rpartition(".")[2], known)


def _class_name(_parser: ShortErrorParser, key: str, given: str) -> str:
    return f"{key}: there is no class '{given}'.{_class_hint(given)} Give a class of Lightning or a full import path."


def _class_kind(_parser: ShortErrorParser, key: str, given: str, base: str) -> str:
    return f"{key}: '{given}' is not a {base}. Give the name of one."


def _class_problem(parser: ShortErrorParser, key: str, given: str, problem: str) -> str:
    if option := re.search(r"Option '(.+?)' is not accepted", problem):
        return f"{key}: {given} has no argument '{option[1]}'. Correct it under init_args."
    if required := re.search(r"arguments are required: (.+)", problem):
        return f"{key}: {given} needs {required[1]}. Give it under init_args."
    if "No module named" in problem or "has no attribute" in problem:
        return f"{key}: '{given}' cannot be imported.{_class_hint(given)} Give the full import path of a class."
    return f"{key}, {given.rpartition('.')[2]}: {_shorten(parser, problem)}"


def _inside_key(parser: ShortErrorParser, _key: str, problem: str) -> str:
    return _shorten(parser, problem)


def _needs_mapping(_parser: ShortErrorParser, key: str, value: str) -> str:
    return f"{key} is '{value[:80]}', but is a group. Give its options one by one: --{key}.NAME VALUE."


_KEY = r"^Parser key \"([^\"]+)\":"
_RULES: tuple[tuple[str, Any], ...] = (
    (r"^unrecognized arguments: (.+)", _unrecognised),
    (r"^Subcommand '(.+?)' does not accept option '(.+?)'", _in_command),
    (r"^Option '(.+?)' is not accepted before subcommand '?(.+?)'?$", _before_command),
    (r"^Option '(.+?)' is not accepted", _unknown_option),
    (r"^argument subcommand: invalid choice: '(.+?)'", _wrong_command),
    (r"^expected \"subcommand\" to be one of", _no_command),
    (r"^the following arguments are required: (.+)", _missing),
    (r"^argument (\S+): expected one argument", _no_value),
    (r"^Parser key \"config\": ([^:]+): '(.+?)'", _no_config),
    (r"^Problems parsing config: (.+)", _broken_config),
    (r"^Unexpected config", _no_mapping),
    (_KEY + r".*Expected a dot import path string: (\S+)", _class_name),
    (_KEY + r".*Import path (\S+) does not correspond to a subclass of (\w+)", _class_kind),
    (_KEY + r".*Problem with given class_path '(.+?)':\s+(.+?)(?=\n    - |\n  Given|$)", _class_problem),
    (_KEY + r"\nUnable to load config '[^\n]*?\n\s+- (Parser key \".+?\":\n.*)", _inside_key),
    (_KEY + r".*Subtypes: \[(.*?)\]\n.*Given value: (.*)$", _wrong_value),
    (_KEY + r"\s+Expected an? (.+?)\. Got value: (.*)$", _wrong_value),
    (_KEY + r"\s+Not of type (\w+): (.*)$", _wrong_number),
    (_KEY + r"\s+Unable to load config '(.*?)'", _needs_mapping),
)
