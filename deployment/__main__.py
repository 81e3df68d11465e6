"""python -m deployment export | quantize | prune | benchmark | explain | …."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.commands import program, run_command, run_module, show_basics
from engine.errors import check_choice

USAGE = """\
Files that run elsewhere, from a checkpoint of any task.

  python -m deployment export --ckpt_path best --task detection --output detector.onnx
  python -m detection validate --config detection/demo --ckpt_path detector.onnx
  python -m deployment benchmark --members d0 lite0 --runtimes torch onnx openvino --output costs

  export     a file of ONNX, OpenVINO, LiteRT, ExecuTorch or torch.export, compared with the network
  quantize   a file in int8 or bfloat16 that loses no more accuracy than allowed
  prune      a checkpoint with fewer channels, to be trained further
  benchmark  what checkpoints, members and files cost on this machine, and which one to take
  explain    pictures of what boxes, and classes of pixels or images, rest on
  serve      answers over HTTP, and a page that shows them in a browser
  setup      the environment of LiteRT's converter or of ExecuTorch, which `export` makes by itself

`python -m deployment COMMAND --help` lists every option; --version shows the version.
"""
_COMMANDS = {
    "export": "deployment.export.command",
    "quantize": "deployment.precision.command",
    "prune": "deployment.pruning.command",
    "benchmark": "deployment.benchmark.command",
    "explain": "deployment.explaining.command",
    "serve": "deployment.serving.command",
    "setup": "deployment.setup.command",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 after a wrong input."""
    words = list(sys.argv[1:] if argv is None else argv)
    if show_basics(words, lambda: USAGE.replace("python -m deployment", program("deployment"))):
        return 0
    if status := run_command(lambda: check_choice("command", words[0], _COMMANDS)):
        return status
    return run_module(_COMMANDS[words[0]], words[1:])


if __name__ == "__main__":
    sys.exit(main())
