"""python -m detection: its commands are those of `detection.spec`."""

from detection.spec import SPEC
from engine.cli.commands import run_main

if __name__ == "__main__":
    run_main(SPEC)
