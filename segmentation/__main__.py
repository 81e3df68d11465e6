"""python -m segmentation: its commands are those of `segmentation.spec`."""

from engine.cli.commands import run_main
from segmentation.spec import SPEC

if __name__ == "__main__":
    run_main(SPEC)
