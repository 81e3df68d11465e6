"""`python -m deployment quantize`: a checkpoint as a file in int8 or bfloat16, with a bound on the loss of accuracy."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from deployment.export.options import SUFFIXES, Contents, Options
from engine.cli.commands import parse_function, program, run_command, with_underscores
from engine.errors import InputError
from engine.numbers import PositiveInt, ZeroToBelowOne

MANY = 100  # pictures, from which the ranges of values hardly change any more


def quantize(
    ckpt_path: str,
    format: Literal["onnx", "openvino", "executorch", "torch"] = "onnx",
    output: Path | None = None,
    precision: Literal["int8", "bfloat16", "int8_bfloat16"] = "int8",
    calibration: str | None = None,
    calibration_list: Path | None = None,
    calibration_count: PositiveInt | None = None,
    bound: ZeroToBelowOne = 0.01,
    task: Literal["detection", "segmentation", "joint", "classification"] | None = None,
    data: tuple[str, ...] = (),
    contents: Contents = Contents(),
) -> None:
    """Write a checkpoint in a smaller number type that loses no more accuracy than allowed.

    Accuracy is measured by `validate`, of the file in float32 and of the new one: give its --config or --data options
    as well. Where all of int8 loses too much, the layers that hurt stay in float, and a report beside the file says
    which and why.

    Args:
        ckpt_path: checkpoint; `best` or `last` of the latest run of `task`; the name of a published detector; or a
            weight file.
        format: onnx, in int8 by ONNX Runtime's quantiser; openvino, by NNCF; or, by torchao and with the suppression
            outside, executorch, for XNNPACK, or torch, for Inductor.
        output: the file; by default the checkpoint's name with the number type and the format's suffix.
        precision: int8; or, by openvino on processors that compute in it, bfloat16, or int8 with bfloat16 for the rest.
        calibration: for int8, a folder or glob of pictures like those that the file will see, best those of training.
        calibration_list: the pictures to take of that folder: a text file with a name in each line, or a COCO JSON.
        calibration_count: how many of them are read, by default 100; so many or more are best.
        bound: the largest loss of AP, mIoU or top-1; where images have several labels, of mAP.
        task: the task, where the file does not say.
        data: options of `validate` that say which data it is; --config and those that begin with --data. or --model.
            are taken for them by themselves.
        contents: what the file holds besides the network.
    """
    from deployment.networks import load_any
    from deployment.precision.pictures import find_pictures
    from deployment.precision.quantise import Wanted, quantise
    from deployment.precision.report import report_beside, table

    pictures: tuple[Path, ...] = ()
    if calibration is not None:
        pictures = find_pictures(calibration, calibration_list, calibration_count or MANY)
    elif calibration_list is not None or calibration_count is not None:
        name = "calibration_list" if calibration_list is not None else "calibration_count"
        msg = f"{name} says which pictures of --calibration are read, and there is none. Give both, or neither."
        raise InputError(msg)
    wanted = Wanted(precision, bound, data, pictures)
    started = time.perf_counter()
    loaded = load_any(ckpt_path, task)
    path = output or Path(f"{Path(loaded.name).stem}_{precision}{SUFFIXES[format]}")
    report = quantise(loaded, path, format, Options(**vars(contents)), wanted)
    files = [path, path.with_suffix(".bin")] if format == "openvino" else [path]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    seconds = time.perf_counter() - started
    sys.stdout.write(
        f"{table(report)}\n\n{path}: {megabytes:.1f} MB; report in {report_beside(path)}; {seconds:.0f} s\n"
    )


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of this command, and those of `validate` among them that name the data.

    >>> split_words(["--bound", "0.01", "--config", "a.yaml", "--data.root=b", "--output", "c.onnx"])
    (['--bound', '0.01', '--output', 'c.onnx'], ['--config', 'a.yaml', '--data.root=b'])
    >>> split_words(["--config", "a.yaml", "--model.architecture.image_size", "320"])
    ([], ['--config', 'a.yaml', '--model.architecture.image_size', '320'])
    """
    own: list[str] = []
    data: list[str] = []
    place = own
    for word in words:
        if word.startswith("--"):
            ours = word.partition("=")[0] != "--config" and not word.startswith(("--data.", "--model."))
            place = own if ours else data
        place.append(word)
    return own, data


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the file; returns 2 after one short line of error, else 0."""

    def act() -> None:
        own, data = split_words(with_underscores(argv))
        command = f"{program('deployment')} quantize"
        description = (quantize.__doc__ or "").partition("\n\n    Args:")[0]
        given = parse_function(quantize, command, own, description, groups={"contents": Contents})
        quantize(**{**given, "data": (*given["data"], *data)})

    return run_command(act)
