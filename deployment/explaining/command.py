"""`python -m deployment explain`: pictures of what boxes, and classes of pixels or of images, rest on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.cli.commands import parse_function, program, run_command
from engine.errors import InputError, UnreadableError
from engine.exports.extras import needed
from engine.numbers import PositiveInt, ZeroToBelowOne

if TYPE_CHECKING:
    from engine.prediction.sources import SourceFile

LIST_NAME = "explained.jsonl"


def explain(
    ckpt_path: str,
    source: str | list[str],
    output: Path = Path("explained"),
    task: Literal["detection", "segmentation", "joint", "classification"] | None = None,
    classes: list[str] | None = None,
    most: PositiveInt = 5,
    score_threshold: ZeroToBelowOne | None = None,
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
    method: Literal["layercam", "hirescam"] = "layercam",
) -> None:
    """Draw over images what the best boxes, the classes of the pixels, or the likeliest classes of the image, rest on.

    A list says which share of an answer's heat lies inside its box or class of pixels, beside the share of the image
    that this is: an answer that rests on the background has little more than that.

    Args:
        ckpt_path: checkpoint; `best` or `last` of the latest run of `task`; the name of a published detector; or a
            weight file.
        source: image, folder or glob, or a list of them.
        output: folder of the pictures, and of explained.jsonl with a line for each.
        task: the task, where the file does not say.
        classes: names of the classes to explain; null takes all.
        most: number of boxes, best first, and of classes, largest or likeliest first, that are explained of each image.
        score_threshold: boxes above this score are explained; null is 0.3. For boxes only.
        image_size: height and width of a detector's canvas, or the side of a square; null is its own. For boxes only.
        method: layercam shows what speaks for an answer; hirescam subtracts what speaks against it.
    """
    needed("pytorch_grad_cam", extra="explain")
    from tqdm import tqdm

    from deployment.explaining.explainer import Explainer, Wanted
    from deployment.networks import load_any
    from engine.outputs import make_folder
    from engine.prediction.failures import Failures
    from engine.prediction.manifest import Manifest
    from engine.prediction.sources import find_sources, output_names, refuse_mixing

    if (output / LIST_NAME).exists():
        msg = f"--output '{output}' holds explanations already. Give another folder, or remove it."
        raise InputError(msg)
    wanted = Wanted(tuple(classes or ()), most, score_threshold, image_size, method)
    sources = find_sources(source)
    names = output_names(sources, _Folders())
    refuse_mixing(output, [[name] for name in names], source)
    explainer = Explainer(load_any(ckpt_path, task), wanted)
    make_folder(output)
    manifest, failures = Manifest(output / LIST_NAME), Failures(output)
    failures.clear()
    manifest.path.touch()  # also where nothing is found
    count = 0
    for file, name in zip(tqdm(sources, "images", leave=False, disable=None), names, strict=True):
        try:
            for number, answer in enumerate(explainer.explain(file.path), 1):
                picture = name / f"{number:02d}_{answer.name}.png"
                answer.save(output / picture)
                manifest.add({"source": str(file.path), "picture": picture.as_posix(), **answer.line()})
                count += 1
        except UnreadableError as error:
            failures.add(file.path, str(error))
    sys.stdout.write(f"{count} pictures of {len(sources)} images in '{output}', listed in {LIST_NAME}\n")
    failures.refuse(len(sources))


class _Folders:
    """Each image has a folder of its own."""

    @staticmethod
    def outputs(file: SourceFile, name: Path, *, every: bool = False) -> list[Path]:
        """The folder, relative to the output folder."""
        return [name]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and explain; returns 2 after one short line of error, else 0."""

    def act() -> None:
        description = (explain.__doc__ or "").partition("\n\n    Args:")[0]
        explain(**parse_function(explain, f"{program('deployment')} explain", argv, description))

    return run_command(act)
