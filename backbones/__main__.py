"""python -m backbones table | scale | convert | facts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from engine.cli.commands import parse_function, program, run_command, show_basics
from engine.errors import check_choice

USAGE = """\
EfficientNets: their cost, networks of any size, and the weights that you already have.

  python -m backbones table [NAMES] [--csv FILE] [--picture FILE] [--no-latency]
  python -m backbones scale --phi 1.5
  python -m backbones scale --search --picture search.png
  python -m backbones convert IN OUT.safetensors
  python -m backbones facts

  table    parameters, multiply-accumulates, published top-1, latency on this device
  scale    the network at any φ, or the paper's grid search over α, β, γ
  convert  a checkpoint of another library into this project's own layout
  facts    the numbers of docs/efficientnet-facts.md, computed again

`python -m backbones COMMAND --help` lists every option; --version shows the version.
"""
_COMMANDS = ("table", "scale", "convert", "facts")
_FLAGS = ("--no-latency", "--search")  # may be given without the word true


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 after a wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    if show_basics(words, lambda: USAGE.replace("python -m backbones", program("backbones"))):
        return 0
    return run_command(lambda: _run(words[0], words[1:]))


def _run(command: str, words: Sequence[str]) -> None:
    check_choice("command", command, _COMMANDS)
    started = f"{program('backbones')} {command}"
    given = options(command, words)
    if command == "convert":
        from backbones.weights.convert import convert

        written = convert(**parse_function(convert, started, given, "Convert a checkpoint to this project's layout."))
        sys.stdout.write(f"{written}\n")
        return
    from backbones.study import commands

    functions: dict[str, Callable[..., None]] = {
        "table": commands.table,
        "scale": commands.scale,
        "facts": commands.facts,
    }
    function = functions[command]
    description = (function.__doc__ or "").partition("\n\n    Args:")[0]
    function(**parse_function(function, started, given, description))


def options(command: str, words: Sequence[str]) -> list[str]:
    """The words of a command with all options written out: first values get their option, and flags get `true`."""
    front = 0
    while front < len(words) and not words[front].startswith("-"):
        front += 1
    named = list(words[:front])
    rest = list(words[front:])
    if command == "table" and named:
        start = ["--names", "[" + ",".join(named) + "]"]
    elif command == "convert":
        start = [word for pair in zip(("--source", "--destination"), named, strict=False) for word in pair] + named[2:]
    elif command == "facts" and named:
        start = ["--topic", *named]
    else:
        start = named
    written = []
    for index, word in enumerate(rest):
        written.append(word)
        if word.replace("_", "-") in _FLAGS and (index + 1 == len(rest) or rest[index + 1].startswith("-")):
            written.append("true")
    return start + written


if __name__ == "__main__":
    sys.exit(main())
