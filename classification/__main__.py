"""python -m classification: its commands are those of `classification.spec`."""

from classification.spec import SPEC
from engine.cli.commands import run_main

if __name__ == "__main__":
    run_main(SPEC)
