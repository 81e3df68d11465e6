"""python -m joint: its commands are those of `joint.spec`."""

from engine.cli.commands import run_main
from joint.spec import SPEC

if __name__ == "__main__":
    run_main(SPEC)
