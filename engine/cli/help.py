"""The help of a task's commands, from its spec and the source of its parts, without importing torch.

`COMMAND --help` shows the most used options on one page; `COMMAND --help GROUP` shows every option of a group, such as
data or optimizer; with `COMMAND --help all` the parser itself shows everything.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from engine.cli.given.callbacks import ADDITIONS
from engine.cli.signatures import Option, options
from engine.errors import InputError, did_you_mean
from engine.tasks import TaskSpec

RECIPE = (
    "Settings that follow from the data: small, medium, large, coco, or auto by the number of images. What you give "
    "yourself overrides them."
)
_SKIPPED = {"model", "datamodule", "train_dataloaders", "val_dataloaders", "dataloaders", "weights_only"}
_NAME_WIDTH = 34
_MOST_CHOICES = 44  # characters
# Words for options that Lightning explains in paragraphs, or that the parser adds.
_TEXTS = {
    "trainer.max_epochs": "Stop after this number of epochs.",
    "trainer.accelerator": "Kind of device: auto, cpu, gpu, tpu, mps.",
    "trainer.devices": "Number of devices, or a list of their numbers; auto takes all.",
    "trainer.precision": "32-true, 16-mixed, bf16-mixed and others.",
    "trainer.gradient_clip_val": "Largest norm of the gradient; null turns clipping off.",
    "ckpt_path": "A checkpoint, or `best` or `last` of the latest run.",
    "verbose": "Print Lightning's own table of results too.",
}


def command_options(spec: TaskSpec, command: str) -> tuple[Option, ...]:
    """Every option of one of Lightning's commands, groups included, in the order of the parser."""
    own = [_known(option) for option in options(f"{spec.trainer}.{command}") if option.name not in _SKIPPED]
    trainer = [
        replace(_known(option), default=spec.trainer_defaults.get(option.name.partition(".")[2], option.default))
        for option in options(spec.trainer, "trainer.")
    ]
    return (
        Option("config", f"YAML file of settings, or its name, such as {spec.demo}; a later file overrides others."),
        Option("seed_everything", "Seed of all random numbers.", 0),
        Option("recipe", RECIPE, choices=("small", "medium", "large", "coco", "auto")),
        Option("trainer", "Lightning's trainer.", group=True),
        *trainer,
        Option("run", "The folder that a training writes to.", group=True),
        *options("engine.cli.runs:Run", "run."),
        *_additions(),
        Option("model", "The network and its training recipe.", group=True),
        *options(spec.module, "model."),
        Option("data", "The images and their annotations.", group=True),
        *options(spec.data, "data."),
        *own,
    )


def _additions() -> Iterator[Option]:
    for name, addition in ADDITIONS.items():
        yield Option(name, addition.text, group=True)
        yield from options(addition.path, f"{name}.")


def _known(option: Option) -> Option:
    """An option of Lightning with our words and our default."""
    text = _TEXTS.get(option.name, option.text)
    return replace(option, text=text, default=False if option.name == "verbose" else option.default)


def group_names(spec: TaskSpec, command: str) -> list[str]:
    """The groups of options, by their dotted names."""
    return [option.name for option in command_options(spec, command) if option.group]


def first_page(spec: TaskSpec, command: str, program: str) -> str:
    """The text of `COMMAND --help`: the most used options, and where to find the others."""
    known = {option.name: option for option in command_options(spec, command)}
    own = [name for name in known if "." not in name and not known[name].group]
    wanted = ["config", *(name for name in own if name not in ("config", "seed_everything", "verbose"))]
    wanted += [name for name in spec.first_page.get(command, ()) if name not in wanted]
    top = [name for name in group_names(spec, command) if "." not in name]
    deeper = [name.rpartition(".")[2] for name in group_names(spec, command) if name.count(".") == 1]
    example = next((line for line in spec.examples if line.startswith(command)), f"{command} --config FILE")
    width = shutil.get_terminal_size((120, 24)).columns
    lines = [f"{program} {command}: {spec.about[command]}.", "", f"  {program} {example}", ""]
    lines += [_line(known[name], max(width, 80)) for name in wanted if name in known]
    groups = textwrap.wrap(", ".join([*top, *dict.fromkeys(deeper)]), 116)
    rest = f"All options: {command} --help all. Options of a group: {command} --help GROUP, where GROUP is one of"
    return "\n".join([*lines, "", rest, *(f"  {line}" for line in groups)]) + "\n"


def group_page(spec: TaskSpec, command: str, group: str, program: str) -> str:
    """The text of `COMMAND --help GROUP`: every option of the group.

    Raises:
        InputError: there is no such group.
    """
    names = group_names(spec, command)
    ends = {name.rpartition(".")[2]: name for name in reversed(names)}
    full = group if group in names else ends.get(group)
    if full is None:
        listed = ", ".join(dict.fromkeys(["all", *(name for name in names if name.count(".") < 2)]))
        hint = did_you_mean(group, [*names, *ends, "all"])
        msg = f"there is no group of options '{group}'.{hint} Write --help and one of {listed}."
        raise InputError(msg)
    inside = [o for o in command_options(spec, command) if o.name.startswith(f"{full}.") and not o.group]
    head = next(option for option in command_options(spec, command) if option.name == full)
    width = max(shutil.get_terminal_size((120, 24)).columns, 80)
    lines = [f"{program} {command} --{full}: {head.text}", ""]
    for option in inside:
        lines.append(f"  --{option.name}{_values(option)}")
        text = " ".join(part for part in (_plain(option.text), _default(option)) if part)
        lines += textwrap.wrap(text, width - 8, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines) + "\n"


def _values(option: Option) -> str:
    listed = "|".join(option.choices)
    return f" {listed}" if listed and len(listed) <= _MOST_CHOICES else ""


def _default(option: Option) -> str:
    return "(required)" if option.required else f"({_shown(option.default)})"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return json.dumps(value)


def _plain(text: str) -> str:
    """The text of a docstring without its markup."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "")
    return re.sub(r"\s*Default: \S+\s*$", "", text)


def _line(option: Option, width: int) -> str:
    """An option on one line: its name, the first sentence of its text, and its default."""
    text = _plain(option.text)
    sentence = re.split(r"(?<=\.)\s|; ", text, maxsplit=1)[0].rstrip(".")
    sentence = f"{sentence[:1].upper()}{sentence[1:]}{f':{_values(option)}' if _values(option) else ''}"
    default = "" if option.default is None else f"  ({_shown(option.default)})"
    name = f"  --{option.name}  ".ljust(_NAME_WIDTH)
    room = width - len(name) - len(default)
    return f"{name}{textwrap.shorten(sentence, max(room, 20), placeholder=' …')}{default}".rstrip()
