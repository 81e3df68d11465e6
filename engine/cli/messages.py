"""The messages of a parser in the house's words: what was given, what is allowed, and the nearest name.

jsonargparse answers a typo with its whole usage, some fifty lines, and then the fault. Its messages are recognised
here and given other words, for the commands of the tasks and the plain commands. The messages of jsonargparse are not
a stable interface: a message that is not recognised is shortened, never lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import yaml

from engine import numbers
from engine.cli.configs import missing_config, read_config
from engine.errors import did_you_mean

_WORDS = numbers.WORDS | {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "PhiName": "phi and a number, such as phi1.5",
}
_RELATIONS = {">": "above", ">=": "at least", "<": "below", "<=": "at most", "==": "equal to", "!=": "other than"}
_MOST_SIBLINGS = 20


class Known(Protocol):
    """The names that a parser knows, for the hints."""

    def option_keys(self) -> Sequence[str]:
        """Every dotted option name, and the names of the groups above them."""
        ...

    def inner(self) -> Mapping[str, Known]:
        """The commands, each with the names that its parser knows."""
        ...

    def words(self) -> Sequence[str]:
        """The command line."""
        ...

    def written(self, key: str) -> str:
        """An option as it is written in messages."""
        ...

    def class_names(self) -> Sequence[str]:
        """The classes that an option may name without their import path."""
        ...


def reword(known: Known, message: str) -> str:
    """A parser's message in one short paragraph."""
    for pattern, word in _RULES:
        if found := re.search(pattern, message, re.DOTALL):
            return word(known, *found.groups())
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]


def options_first(commands: Sequence[str]) -> str:
    """The message about a command line that begins with an option."""
    return f"options are given before the command. Write them after it: COMMAND --name value. {_listed(commands)}"


def before_command(key: str, command: str) -> str:
    """The message about a config, or an option with its group, that stands before the command."""
    return (
        f"'{key}' is given before '{command}', but is an option of it. "
        f"Write --config and options after the command: {command} --config FILE --{key} VALUE."
    )


def wrong_command(given: str, commands: Sequence[str]) -> str:
    """The message about a command that does not exist."""
    return f"there is no command '{given}'.{did_you_mean(given, commands)} {_listed(commands)}"


def broken_config(path: Path | str | None, reason: str) -> str:
    """The message about a config that is not YAML, with the parser's reason."""
    place = re.search(r"(did not find[^\n]*|could not find[^\n]*|found[^\n]*|mapping values[^\n]*)", reason)
    lines = re.findall(r"line (\d+)", reason)
    file = f"'{path}'" if path else "the config"
    what = f": {place[1].strip()}" if place else ""
    return f"{file} is not valid YAML{f', line {lines[-1]}' if lines else ''}{what}. Correct it and try again."


def no_mapping(path: Path | None) -> str:
    """The message about a config without names and values."""
    what = f"'{path}' is no config: it has" if path else "the config has"
    return f"{what} no 'name: value' lines. `--print_config` shows what one looks like."


def _listed(names: Sequence[str]) -> str:
    return f"Commands: {', '.join(names)}."


def _unknown_option(known: Known, key: str) -> str:
    keys = known.option_keys()
    hint = did_you_mean(key, keys)
    if not hint:
        # A bare `lr` for `model.optimizer.lr`.
        ends = {name.rpartition(".")[2]: name for name in sorted(keys, key=lambda name: -name.count("."))}
        leaf = did_you_mean(key.rpartition(".")[2], ends)
        hint = f" Did you mean '{ends[leaf.split(chr(39))[1]]}'?" if leaf else ""
    group = key.rpartition(".")[0]
    start = f"{group}." if group else ""
    siblings = sorted({name[len(start) :].split(".")[0] for name in keys if name.startswith(start)})
    # The first level of a task's options are groups, whose names would not help.
    listed = 0 < len(siblings) <= _MOST_SIBLINGS and (group or not any("." in name for name in keys))
    of = f" of {group}" if group else ""
    allowed = f" Options{of}: {', '.join(siblings)}." if listed else ""
    return f"there is no option '{key}'.{hint}{allowed} See them all: --help"


def _unrecognised(known: Known, rest: str) -> str:
    first = rest.split()[0]
    if known.inner() and first.startswith("-"):
        return f"'{first}' is given before the command. Write options after it: COMMAND --name value."
    if first.startswith("--"):
        return _unknown_option(known, first[2:].partition("=")[0])
    keys = known.option_keys()
    if 0 < len(keys) <= _MOST_SIBLINGS and not any("." in key for key in keys):
        return f"there is no argument '{first}'. Allowed: {', '.join(map(known.written, keys))}"
    return f"'{first}' is no option and no value of one. Options are written --name value; `--help` lists them."


def _in_command(known: Known, command: str, key: str) -> str:
    return _unknown_option(known.inner().get(command, known), key)


def _before_command(_known: Known, key: str, command: str) -> str:
    return before_command(key, command)


def _wrong_command(known: Known, given: str) -> str:
    names = list(known.inner())
    return options_first(names) if "".join(known.words()[:1]).startswith("-") else wrong_command(given, names)


def _no_command(known: Known) -> str:
    return f"no command is given. {_listed(list(known.inner()))} `COMMAND --help` explains one."


def _missing(known: Known, keys: str) -> str:
    names = []
    for key in keys.split(", "):
        head, _, tail = key.partition(".")
        names.append(tail if tail and head in known.inner() else key)
    if "config" in known.option_keys() or known.inner():
        return (
            f"{', '.join(f'--{name}' for name in names)} must be given, on the command line or in the file of --config."
        )
    return "give " + " and ".join(map(known.written, names))


def _no_value(_known: Known, option: str) -> str:
    return f"{option} needs a value: {option} VALUE."


def _no_config(_known: Known, reason: str, given: str) -> str:
    return missing_config(given, reason)


def _config_files(known: Known) -> Iterable[Path]:
    words = [str(word) for word in known.words()]
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        value = value if equals else "".join(words[index + 1 : index + 2])
        if name in ("--config", "-c") and "\n" not in value:
            yield Path(value)


def _broken_config(known: Known, reason: str) -> str:
    def broken(path: Path) -> bool:
        try:
            read_config(path)
        except (yaml.YAMLError, OSError, UnicodeDecodeError):
            return True
        return False

    return broken_config(next((path for path in _config_files(known) if broken(path)), None), reason)


def _no_mapping(known: Known) -> str:
    plain = (path for path in _config_files(known) if path.is_file() and not isinstance(read_config(path), dict))
    return no_mapping(next(plain, None))


def _restriction(name: str, text: str) -> str:
    """`v>=0 and v<1` as "a number of at least 0 and below 1"."""
    parts = [f"{_RELATIONS[sign]} {value}" for sign, value in re.findall(r"v\s*([<>=!]=?)\s*(\S+)", text)]
    kind = "a whole number" if "Int" in name else "a number"
    of = " of" if parts and parts[0].startswith("at ") else ""
    return f"{kind}{of} {' and '.join(parts)}" if parts else text


def _allowed(types: str, restricted: Mapping[str, str] = {}) -> tuple[str, list[str]]:
    """The description of a type in plain words, and the names that it allows."""
    names = [name for group in re.findall(r"Literal\[(.*?)\]", types) for name in re.findall(r"'([^']*)'", group)]
    text = re.sub(r"(?:typing\.)?Literal\[(.*?)\]", r"\1", types)
    words = {**restricted, **_WORDS}
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", lambda match: words.get(match[1], match[1]), text)
    text = re.sub(r"tuple\[(jsonargparse\.typing\.\w+)(?:, (?:\1|\.\.\.))*\]", r"a list, each \1", text)
    text = re.sub(r"jsonargparse\.typing\.(\w+)", lambda match: words.get(match[1], match[1]), text)
    return re.sub(r"\s+", " ", text.replace("typing.", "")), names


def _wrong_value(known: Known, key: str, types: str, value: str) -> str:
    allowed, names = _allowed(types)
    shown = value.strip().strip("'")
    return f"{known.written(key)} is '{shown[:80]}'; allowed: {allowed}.{did_you_mean(shown, names)}"


def _wrong_union(known: Known, key: str, types: str, rest: str, value: str) -> str:
    limits = re.findall(r"Not of type (\w+): [^\n]*?restriction ([^\n]*)", rest)
    allowed, names = _allowed(types, {name: _restriction(name, text) for name, text in limits})
    shown = value.strip().strip("'")
    return f"{known.written(key)} is '{shown[:80]}'; allowed: {allowed}.{did_you_mean(shown, names)}"


def _out_of_range(known: Known, key: str, name: str, value: str, limits: str) -> str:
    return f"{known.written(key)} is '{value[:80]}'; allowed: {_WORDS.get(name) or _restriction(name, limits)}."


def _no_number(known: Known, key: str, name: str, value: str) -> str:
    kind = _WORDS.get(name) or ("a whole number" if "Int" in name else "a number")
    return f"{known.written(key)} is '{value[:80]}'; allowed: {kind}."


def _class_hint(known: Known, given: str) -> str:
    return did_you_mean(given.rpartition(".")[2], known.class_names())


def _class_name(known: Known, key: str, given: str) -> str:
    hint = _class_hint(known, given)
    return f"{key}: there is no class '{given}'.{hint} Give a class of Lightning or a full import path."


def _class_kind(_known: Known, key: str, given: str, base: str) -> str:
    return f"{key}: '{given}' is not a {base}. Give the name of one."


def _class_problem(known: Known, key: str, given: str, problem: str) -> str:
    if option := re.search(r"Option '(.+?)' is not accepted", problem):
        return f"{key}: {given} has no argument '{option[1]}'. Correct it under init_args."
    if required := re.search(r"arguments are required: (.+)", problem):
        return f"{key}: {given} needs {required[1]}. Give it under init_args."
    if "No module named" in problem or "has no attribute" in problem:
        return f"{key}: '{given}' cannot be imported.{_class_hint(known, given)} Give the full import path of a class."
    return f"{key}, {given.rpartition('.')[2]}: {reword(known, problem)}"


def _inside_key(known: Known, _key: str, problem: str) -> str:
    return reword(known, problem)


def _needs_mapping(known: Known, key: str, value: str) -> str:
    return f"{known.written(key)} is '{value[:80]}', but is a group. Give its options one by one: --{key}.NAME VALUE."


_KEY = r"^Parser key \"([^\"]+)\":"
_RULES: tuple[tuple[str, Callable[..., str]], ...] = (
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
    (_KEY + r".*Subtypes: \[(.*?)\]\n(.*)Given value: (.*)$", _wrong_union),
    (_KEY + r"\s+Not of type (\w+): (.*?) does not conform to restriction (.*)$", _out_of_range),
    (_KEY + r"\s+Not of type (\w+): (?:invalid literal|could not convert).*: '?(.*?)'?$", _no_number),
    (_KEY + r"\s+Not of type (\w+): (.*?) not an? \w+$", _no_number),
    (_KEY + r"\s+Expected an? (.+?)\. Got value: (.*)$", _wrong_value),
    (_KEY + r"\s+Unable to load config '(.*?)'", _needs_mapping),
)
