"""The files that are measured: what other runtimes compute is exported first, once, and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

from deployment.benchmark.candidates import Candidate
from deployment.benchmark.members import load
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.options import Format, Options
from deployment.export.write import export
from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import open_exported

_FORMATS: Mapping[str, tuple[Format, str]] = {
    "onnx": ("onnx", ".onnx"),
    "openvino": ("openvino", ".xml"),
    "litert": ("litert", ".tflite"),
    "executorch": ("executorch", ".pte"),
    "pt2": ("torch", ".pt2"),
}
_WITH_BOXES = ("detection", "joint")
_PACKAGES = {"openvino": "openvino", "litert": "ai_edge_litert"}


class Wishes(NamedTuple):
    """What every exported file holds.

    Attributes:
        nms: whether the suppression is inside the file.
        score_threshold: boxes at or below it are not given.
        calibration: images for int8.
    """

    nms: Literal["inside", "outside"]
    score_threshold: float
    calibration: tuple[Path, ...]


def file_of(candidate: Candidate, folder: Path, wishes: Wishes) -> Path | None:
    """The file of a candidate, exported into `folder` if it is not there yet; None where PyTorch computes the network.

    Args:
        candidate: the candidate.
        folder: where files are kept.
        wishes: what it holds.

    Raises:
        InputError: the network has no file of that format, number type or size, or a package is missing.
    """
    subject, runtime, (height, width) = candidate.subject, candidate.runtime, candidate.size_hw
    if subject.task == "classification" and height != width:
        msg = f"{subject.name} is a classifier, which sees squares, not {height} x {width} pixels. Give one side."
        raise InputError(msg)
    if subject.kind == "file":
        return Path(subject.source)
    if runtime == "torch":
        if candidate.precision not in ("float32", "bfloat16"):
            msg = f"torch computes in float32 or bfloat16 here, not in {candidate.precision}. Export a file for it."
            raise InputError(msg)
        return None
    path = folder / f"{_stem(candidate, wishes)}{_FORMATS[runtime][1]}"
    if not path.is_file():
        needed("onnxruntime" if runtime == "onnx" else _PACKAGES.get(runtime, "torch"), extra=_FORMATS[runtime][0])
        _write(candidate, path, wishes)
    return path


def bytes_of(candidate: Candidate, file: Path | None) -> int | None:
    """The size of what a device has to hold: the file, or the checkpoint; None for an untrained network in PyTorch."""
    path = Path(candidate.subject.source) if file is None else file
    if not path.is_file():
        return None
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)


def _stem(candidate: Candidate, wishes: Wishes) -> str:
    subject = candidate.subject
    name = re.sub(r"[^\w.-]+", "_", f"{subject.name}_{subject.digest[:12]}".rstrip("_"))
    size = "{}x{}".format(*candidate.size_hw)
    boxes = "" if subject.task not in _WITH_BOXES else f"_{wishes.nms}_{wishes.score_threshold:g}"
    return f"{name}_{size}_b{candidate.batch}_{candidate.precision}{boxes}"


def _write(candidate: Candidate, path: Path, wishes: Wishes) -> None:
    runtime, precision = candidate.runtime, candidate.precision
    own = {
        "litert": ("float32", "float16", "int8"),
        "openvino": ("float32", "bfloat16"),
    }.get(runtime, ("float32",))
    if precision not in own:
        msg = (
            f"{runtime} is exported here in {', '.join(own)}, not in {precision}. Write the file in {precision} first, "
            "and give it among --ckpt_paths."
        )
        raise InputError(msg)
    if runtime == "openvino":  # from the file of ONNX, in which most of the time goes
        float32 = replace(candidate, runtime="onnx", precision="float32")
        source = file_of(float32, path.parent, wishes)
        assert source is not None
        about = open_exported(source, candidate.subject.task).about
        write_openvino(source, path, replace(about, precision=precision))
        return
    loaded = load(candidate.subject)
    with_boxes = loaded.task in _WITH_BOXES
    nms = "outside" if runtime == "executorch" else wishes.nms  # which has no such operator
    options = Options(
        candidate.size_hw,
        candidate.batch,
        nms if with_boxes else None,
        score_threshold=wishes.score_threshold if with_boxes and nms == "inside" else None,
        precision=cast("Literal['float32', 'float16', 'int8']", precision),
        calibration=wishes.calibration if precision == "int8" else (),
    )
    export(loaded, path, _FORMATS[runtime][0], options)
