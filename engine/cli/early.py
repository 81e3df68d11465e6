"""Checks of a command line before torch is imported, and the present names of its options and configs.

A wrong command, a missing config and a missing checkpoint are reported here within a second; the parser would say the
same after the imports. Configs that are given by name become paths, and former names of options become the present
ones, in the command line and in configs alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from engine.archives import parse_yaml
from engine.cli.configs import find_config, missing_config, read_config
from engine.cli.former import with_present_configs
from engine.cli.help import command_options
from engine.cli.messages import before_command, broken_config, no_mapping, options_first, wrong_command
from engine.errors import InputError
from engine.tasks import COMMANDS, TaskSpec
from engine.training.checkpoint_files import require_checkpoint

_CONFIG = ("--config", "-c")


@dataclass(frozen=True)
class Prepared:
    """A command line with the paths of its configs and the present names of its options.

    Args:
        words: The command line.
        notes: Messages about former names, one line for each.
    """

    words: list[str]
    notes: list[str]


def check_order(spec: TaskSpec, words: Sequence[str]) -> None:
    """Check that a command comes first, and that it exists.

    Raises:
        InputError: no command comes first, or it does not exist.
    """
    first = words[0]
    if first in spec.all_commands:
        return
    if not first.startswith("-"):
        raise InputError(wrong_command(first, spec.all_commands))
    after = next((word for word in words if word in COMMANDS), None)
    if first.partition("=")[0] in _CONFIG and after is not None:
        for _, given in _given_configs(words):
            path = find_config(given, spec.name)
            content = read_config(path) if path is not None and path.is_file() else None
            if isinstance(content, dict):
                raise InputError(before_command(next(_leaves(content), "config"), after))
    raise InputError(options_first(spec.all_commands))


def prepare(spec: TaskSpec, words: Sequence[str]) -> Prepared:
    """Find configs and checkpoints, and replace former names by the present ones.

    Raises:
        InputError: a config or a checkpoint does not exist, or its file is of another kind.
    """
    if not words or words[0] not in COMMANDS:
        return Prepared(list(words), [])
    known = _Names(spec, words[0])
    present, notes = with_present_configs(words, spec.name, spec.former_configs)
    written = rename_words(present, known.today, _say_renamed(notes))
    for index, word in enumerate(written[:-1]):
        if word.startswith("--") and written[index + 1].startswith("{"):  # a whole group
            found: list[str] = []
            content = _rename_keys(_parsed(written[index + 1], word), f"{word[2:]}.", known, found)
            if found:
                written[index + 1] = yaml.safe_dump(content, default_flow_style=True).strip()
                notes += found
    _check_groups(written)
    for index, given in _given_configs(written):
        text = _config_text(given, spec.name, known, notes)
        name, equals, _ = written[index].partition("=")
        written[index if equals else index + 1] = f"{name}={text}" if equals else text
    for _, checkpoint in _values(written, ("--ckpt_path",)):
        if checkpoint not in ("best", "last", "null", "None", ""):
            require_checkpoint(checkpoint)
    return Prepared(written, list(dict.fromkeys(notes)))


def _parsed(text: str, option: str) -> object:
    """The settings that an option itself holds.

    Raises:
        InputError: they are not YAML.
    """
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(broken_config(f"{option} {text[:60]}", str(error))) from error


def _check_groups(words: Sequence[str]) -> None:
    """Read the files that give whole groups, such as `--model FILE.yaml`, before the parser does without measure.

    Raises:
        InputError: one of them is not YAML.
    """
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        value = value if equals else next(iter(words[place + 1 : place + 2]), "")
        path = Path(value)
        if name.startswith("--") and name not in _CONFIG and path.suffix in (".yaml", ".yml") and path.is_file():
            try:
                read_config(path)
            except yaml.YAMLError as error:
                raise InputError(broken_config(path, str(error))) from error
            except (OSError, UnicodeDecodeError):
                continue  # the option's own reader says what is wrong


def rename_words(
    words: Sequence[str], today: Callable[[str], str | None], say: Callable[[str, str], object]
) -> list[str]:
    """A command line with the present names of its options.

    Args:
        words: The command line.
        today: Returns the present name for a former one, and None for any other.
        say: Called with each former name and its present name.
    """
    written = []
    for word in words:
        match = re.match(r"--([A-Za-z_][\w.]*)(?==|$)", word)
        new = today(match[1]) if match else None
        if match and new is not None:
            say(match[1], new)
            word = f"--{new}{word[match.end() :]}"
        written.append(word)
    return written


class _Names:
    """Former names of a command's options; a name is former only if its present name is an option and it is not."""

    def __init__(self, spec: TaskSpec, command: str) -> None:
        self.spec = spec
        self.command = command

    def today(self, name: str) -> str | None:
        new = self.spec.renamed.get(name)
        if new is None:
            return None
        known = {option.name for option in command_options(self.spec, self.command)}
        return new if new in known and name not in known else None


def _say_renamed(notes: list[str]) -> Callable[[str, str], object]:
    return lambda old, new: notes.append(f"{old} is now called {new}")


def _values(words: Sequence[str], names: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Each place where an option is given, and the value there."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names and (equals or index + 1 < len(words)):
            yield index, value if equals else words[index + 1]


def _given_configs(words: Sequence[str]) -> list[tuple[int, str]]:
    return list(_values(words, _CONFIG))


def _leaves(content: Mapping[object, object], prefix: str = "") -> Iterator[str]:
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _config_text(given: str, task: str, known: _Names, notes: list[str]) -> str:
    """The path of a config, or its text with the present names if it has former ones.

    Raises:
        InputError: there is no such config, or the file is not a config.
    """
    path = None if "\n" in given else find_config(given, task)
    if path is None or path.is_dir():
        if ":" in given and isinstance(_parsed(given, "--config"), dict):
            return given  # the settings themselves
        raise InputError(missing_config(given, task=task))
    try:
        content = read_config(path)
    except yaml.YAMLError as error:
        raise InputError(broken_config(path, str(error))) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(missing_config(given, getattr(error, "strerror", None) or "not UTF-8")) from error
    if not isinstance(content, dict):
        raise InputError(no_mapping(path))
    found: list[str] = []
    renamed = _rename_keys(content, "", known, found)
    notes += [f"{path}: {note}" for note in found]
    return yaml.safe_dump(renamed, sort_keys=False) if found else str(path)


def _rename_keys(content: object, prefix: str, known: _Names, notes: list[str]) -> object:
    """The content with the present names; a present name lies in the same group as its former one."""
    if not isinstance(content, dict):
        return content
    renamed: dict[object, object] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        new = known.today(name)
        if new is not None:
            _say_renamed(notes)(name, new)
            key = new.removeprefix(prefix)
        renamed[key] = _rename_keys(value, f"{name}.", known, notes)
    return renamed
