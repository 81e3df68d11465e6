"""`python -m deployment benchmark`: what networks cost on this machine, and which one to take."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.cli.commands import parse_function, program, run_command, with_underscores
from engine.numbers import NonNegativeInt, PositiveInt, ZeroToBelowOne

_LISTS = ("ckpt_paths", "members", "image_sizes", "batch_sizes", "runtimes", "precisions", "threads")


def benchmark(
    output: Path = Path("benchmark"),
    ckpt_paths: list[str] | None = None,
    members: list[str] | None = None,
    image_sizes: list[PositiveInt | tuple[PositiveInt, PositiveInt]] | None = None,
    batch_sizes: list[PositiveInt] | None = None,
    runtimes: list[Literal["torch", "onnx", "openvino", "litert", "executorch", "pt2"]] | None = None,
    precisions: list[Literal["float32", "bfloat16", "float16", "int8"]] | None = None,
    threads: list[PositiveInt] | None = None,
    picture: Path | None = None,
    annotations: Path | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    mask_images: Path | None = None,
    mask_format: Literal["index", "color", "binary"] | None = None,
    mask_list: Path | None = None,
    labels: Path | None = None,
    label_images: Path | None = None,
    label_separator: str | None = None,
    nms: Literal["inside", "outside"] | None = None,
    score_threshold: ZeroToBelowOne | None = None,
    calibration: str | None = None,
    rounds: NonNegativeInt = 10,
    repeats: PositiveInt = 3,
    overwrite: bool = False,
) -> None:
    """Measure networks on this machine, in turns, from the picture's file to the answer.

    Lists are given as words: --members d0 lite0 --image_sizes 512 512x1024. An interrupted measurement goes on where it
    stopped, and a finished one takes further networks, sizes or rounds.

    Args:
        output: folder of the results, and of the files that are exported.
        ckpt_paths: checkpoints, names of published detectors, or files that `export` wrote, of any task.
        members: untrained networks: d0 ... d7x and lite0 ... lite4 are detectors, b0 ... b7 classifiers;
            deeplab_b0 and others with DeepLabv3+, joint_d0 and others with both heads.
        image_sizes: side of a square, or height x width in pixels; by default each network's own.
        batch_sizes: images at a time; by default 1.
        runtimes: what computes checkpoints and members; they are exported for it. By default torch and onnx.
        precisions: number types of checkpoints and members; by default float32.
        threads: threads of each runtime; by default the cores of this machine.
        picture: a photograph, which is read each time; by default one is made.
        annotations: COCO file to measure AP of detectors with.
        images: folder that its file names start from; by default its own.
        masks: folder of masks to measure mIoU of segmenters with.
        mask_images: folder of their pictures.
        mask_format: what the values of the masks mean; by default index.
        mask_list: the pictures to take: a text file with a name in each line, or a COCO JSON.
        labels: folder with a folder of pictures for each class, or a CSV of files and labels, to measure top-1 of
            classifiers with; mAP where images have several labels, by columns of 0 and 1 named as the classes.
        label_images: folder that the names in such a CSV start from; by default its own.
        label_separator: what stands between several labels in its second column, in place of columns of 0 and 1.
        nms: decoding and suppression inside files that are exported, or outside, so that `network` is the network
            alone; by default inside.
        score_threshold: boxes at or below it are not given; by default 0.3, or 0.001 with annotations, as AP needs all.
        calibration: for int8 of litert, a folder or glob of images like those that the file will see.
        rounds: turns of each candidate; 0 exports the files and counts, and measures no time.
        repeats: counted runs in each turn.
        overwrite: start over where the folder holds rounds of other settings.
    """
    from deployment.benchmark.accuracy import Data
    from deployment.benchmark.measuring import Plan, measure

    data = Data(annotations, images, masks, mask_images, mask_format, mask_list, labels, label_images, label_separator)
    plan = Plan(
        output, tuple(ckpt_paths or ()), tuple(members or ()), tuple(image_sizes or ()), tuple(batch_sizes or (1,)),
        tuple(runtimes or ()), tuple(precisions or ()), tuple(threads or ()), picture, data,
        nms, score_threshold, calibration, rounds, repeats, overwrite,
    )  # fmt: skip
    sys.stdout.write(f"{measure(plan, progress=True)}\n")


def joined_words(words: Sequence[str]) -> list[str]:
    """The command line with lists of words as lists.

    >>> joined_words(["--members", "d0", "lite0", "--image_sizes", "512x1024", "512", "--rounds", "3"])
    ['--members', '["d0", "lite0"]', '--image_sizes', '[[512, 1024], 512]', '--rounds', '3']
    """
    found: list[str] = []
    place = 0
    while place < len(words):
        found.append(words[place])
        place += 1
        if words[place - 1].removeprefix("--") not in _LISTS or not words[place - 1].startswith("--"):
            continue
        values = []
        while place < len(words) and not words[place].startswith("--"):
            values.append(words[place])
            place += 1
        if len(values) == 1 and values[0][:1] in "[{":
            found += values
        elif values:
            found.append(json.dumps([_value(value) for value in values]))
    return found


def _value(word: str) -> object:
    if match := re.fullmatch(r"(\d+)x(\d+)", word):
        return [int(match[1]), int(match[2])]
    return int(word) if word.isdecimal() else word


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; returns 2 after one short line of error, else 0."""

    def act() -> None:
        description = (benchmark.__doc__ or "").partition("\n\n    Args:")[0]
        words = joined_words(with_underscores(argv))
        benchmark(**parse_function(benchmark, f"{program('deployment')} benchmark", words, description))

    return run_command(act)
