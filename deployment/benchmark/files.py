"""The files that are measured: what other runtimes compute is exported first, once, and kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from deployment.benchmark.candidates import Candidate
from deployment.benchmark.members import CLASSIFICATION, Classifier, load
from deployment.compare import patches
from deployment.export.formats.onnx_file import write_onnx
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.kinds.contract import Graph
from deployment.export.operators import exportable
from deployment.export.options import Format, Options
from deployment.export.trace import program_of
from deployment.export.write import export
from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import About, open_exported
from engine.training.checkpoints import versions

_FORMATS: Mapping[str, tuple[Format, str]] = {
    "onnx": ("onnx", ".onnx"),
    "openvino": ("openvino", ".xml"),
    "litert": ("litert", ".tflite"),
    "executorch": ("executorch", ".pte"),
    "pt2": ("torch", ".pt2"),
}
_PACKAGES = {"openvino": "openvino", "litert": "ai_edge_litert"}


class ClassifierGraph(Graph):
    """An EfficientNet alone as a graph for export; its one output is the probabilities of the classes."""

    outputs = ("scores",)

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network.eval()
        exportable(self.network)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, K) probabilities of (B, 3, H, W) uint8 RGB images."""
        return (self.network(images),)


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
    subject, runtime = candidate.subject, candidate.runtime
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
    boxes = "" if subject.task in ("segmentation", CLASSIFICATION) else f"_{wishes.nms}_{wishes.score_threshold:g}"
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
    if isinstance(loaded, Classifier):
        _write_classifier(loaded, candidate, path)
        return
    nms = "outside" if runtime == "executorch" else wishes.nms  # which has no such operator
    boxes = loaded.task != "segmentation" and nms == "inside"
    options = Options(
        candidate.size_hw,
        candidate.batch,
        nms if loaded.task != "segmentation" else None,
        score_threshold=wishes.score_threshold if boxes else None,
        precision=cast("Literal['float32', 'float16', 'int8']", precision),
        calibration=wishes.calibration if precision == "int8" else (),
    )
    export(loaded, path, _FORMATS[runtime][0], options)


def _write_classifier(network: Classifier, candidate: Candidate, path: Path) -> None:
    if candidate.runtime != "onnx":
        msg = f"an EfficientNet alone is measured in torch, onnx and openvino; {candidate.runtime} is asked for."
        raise InputError(msg)
    about = About(CLASSIFICATION, {}, candidate.batch, candidate.size_hw, versions=versions())
    images = patches(candidate.batch, candidate.size_hw)
    with torch.no_grad():
        expected = network(images)
    graph = ClassifierGraph(network)
    write_onnx(program_of(graph, candidate.size_hw, candidate.batch), path, about, graph.inputs, graph.outputs)
    found = open_exported(path, CLASSIFICATION).run(images, torch.zeros(0))["scores"]
    if not torch.allclose(found, expected, rtol=1e-2, atol=1e-5):
        path.unlink()
        msg = f"the file's answers differ from those of {candidate.subject.name}. Report this with the command."
        raise InputError(msg)
