"""Compare exported files with the networks that they were made of, in PyTorch, on real images.

    python benchmarks/export_parity.py shared/real/bccd/images bccd_lite0.ckpt bccd_d0.ckpt

The network is computed eagerly, not folded, one image at a time; a file at three sizes and two batch sizes, with the
suppression and the argmax inside (of ExecuTorch, the suppression is the predictor's). Both go through the predictor of
the task, so that boxes are in pixels of the images.

- Boxes: every detection above a score of 0.05, of either side, is held against that of the other side with the same
  class which is nearest to it. Within bounds are those within 0.5 pixels at each edge and 0.001 of the score.
- Pixels: the share of them with the same class, of that image where it is smallest. Images for a segmenter, and for the
  segmenting part of a joint network, are first resized to the size that is computed.

A row is the worst of all sizes and batch sizes. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from deployment.export.formats.openvino_file import write_openvino
from deployment.export.options import ONE_SIZE, SUFFIXES, Format, Options
from deployment.export.write import export
from deployment.networks import Loaded, load_any
from deployment.setup.environment import EXECUTORCH, LITERT, Environment
from engine.errors import InputError
from engine.exports.files import open_exported
from engine.prediction.sources import IMAGES, find_sources

SCORE = 0.05
PIXELS, SCORES = 0.5, 1e-3  # the bounds
MARGIN = 2 * SCORES  # a partner may lie on the other side of the threshold
FORMATS: tuple[Format, ...] = ("onnx", "openvino", "torch", "litert", "executorch")
ENVIRONMENTS: Mapping[Format, Environment] = {"litert": LITERT, "executorch": EXECUTORCH}
ONE_IMAGE = tuple(ENVIRONMENTS)  # formats whose files take one at a time, as they are exported here
Array = np.ndarray


class Boxes(NamedTuple):
    """Detections of one image: (N, 4) boxes, (N) scores and (N) rows of classes."""

    xyxy: Array
    scores: Array
    class_ids: Array


class Answer(NamedTuple):
    """What a network says of one image."""

    boxes: Boxes | None
    class_ids: Array | None


@dataclass
class Compared:
    """What was found, over images, sizes and batch sizes."""

    detections: int = 0
    within: int = 0
    pixels: float = 0.0
    scores: float = 0.0
    share: float | None = None
    outliers: list[str] = field(default_factory=list)

    def add(self, found: Answer, expected: Answer, where: str) -> None:
        """Count one image."""
        if found.boxes is not None and expected.boxes is not None:
            self.one_way(expected.boxes, found.boxes, f"{where}, network's")
            self.one_way(found.boxes, expected.boxes, f"{where}, file's")
        if found.class_ids is not None and expected.class_ids is not None:
            share = float((found.class_ids == expected.class_ids).mean())
            self.share = share if self.share is None else min(self.share, share)

    def one_way(self, these: Boxes, others: Boxes, where: str) -> None:
        """Hold each of these boxes against the others."""
        for box, score, row in zip(*these, strict=True):
            if score <= SCORE:
                continue
            self.detections += 1
            same = others.class_ids == row
            edges = np.abs(others.xyxy[same] - box).max(1, initial=0)
            scores = np.abs(others.scores[same] - score)
            if not len(edges):
                self.outliers.append(f"{where}: no other box of class {row} for score {score:.4f}")
                continue
            nearest = np.maximum(edges / PIXELS, scores / SCORES).argmin()
            self.pixels, self.scores = max(self.pixels, edges[nearest]), max(self.scores, scores[nearest])
            if edges[nearest] <= PIXELS and scores[nearest] <= SCORES:
                self.within += 1
            else:
                self.outliers.append(
                    f"{where}: score {score:.4f}, nearest {edges[nearest]:.2f} px and {scores[nearest]:.1e} away"
                )

    def row(self) -> list[str]:
        """As cells of the table."""
        boxes = ["", "", ""]
        if self.detections:
            boxes = [f"{self.within} of {self.detections}", f"{self.pixels:.4f}", f"{self.scores:.1e}"]
        return [*boxes, "" if self.share is None else f"{100 * self.share:.3f} %"]


def sizes_of(loaded: Loaded) -> list[tuple[int, int]]:
    """The network's own size, one of another shape, and an odd one."""
    image_size = loaded.model.get("image_size") or getattr(getattr(loaded.network, "config", None), "image_size", None)
    if loaded.task == "joint":
        image_size = loaded.network.detector.config.image_size  # type: ignore[union-attr]
    height, width = image_size if isinstance(image_size, (tuple, list)) else (256, 256)
    return [(height, width), (height * 3 // 4, width * 5 // 4), (height + 37, width - 59)]


def answers(predictor: object, task: str, images: Sequence[Array], size: tuple[int, int], batch: int) -> list[Answer]:
    """The answers of a predictor at a size."""
    settings: dict[str, object] = {"batch_size": batch}
    if task != "segmentation":
        settings |= {"image_size": size, "score_threshold": SCORE - MARGIN}
    found = predictor.predict_many(images, **settings)  # type: ignore[attr-defined]
    if task == "segmentation":
        return [Answer(None, one.class_ids) for one in found]
    if task == "joint":
        return [Answer(_boxes(one.found), one.segmented.class_ids) for one in found]
    return [Answer(_boxes(one), None) for one in found]


def _boxes(found: object) -> Boxes:
    return Boxes(found.boxes_xyxy, found.scores, found.class_ids)  # type: ignore[attr-defined]


def pictures(images: Sequence[Path], task: str, size: tuple[int, int]) -> list[Array]:
    """The images of a task at a size."""
    opened = [Image.open(path).convert("RGB") for path in images]
    if task != "detection":
        opened = [image.resize(size[::-1], Image.Resampling.BILINEAR) for image in opened]
    return [np.asarray(image) for image in opened]


def write(loaded: Loaded, path: Path, file_format: Format, size: tuple[int, int] | None) -> None:
    """Export, once: an ONNX file that is there is what `export` would make OpenVINO's of."""
    onnx_file = path.with_suffix(".onnx")
    if file_format == "openvino" and onnx_file.is_file():
        write_openvino(onnx_file, path, open_exported(onnx_file, loaded.task).about)
    else:
        export(loaded, path, file_format, Options(image_size=size))


def compare(
    checkpoint: Path,
    file_format: Format,
    images: Sequence[Path],
    batches: Sequence[int],
    expected: list[list[Answer]],
    folder: str,
) -> list[str]:
    """One row of the table; `expected` holds the network's answers by size, and is filled at the first call."""
    loaded = load_any(checkpoint)
    package, sizes = importlib.import_module(loaded.task), sizes_of(loaded)
    if not expected:
        network = package.load(checkpoint, fold=False)
        expected += [
            answers(network, loaded.task, pictures(images, loaded.task, size), size, 1) for size in sizes
        ]  # fmt: skip
    one_file = file_format not in ONE_SIZE
    counts = [1] if file_format in ONE_IMAGE else list(batches)
    if file_format == "litert":
        sizes = sizes[:1]  # each takes minutes
    result = Compared()
    path = Path(folder, checkpoint.name).with_suffix(SUFFIXES[file_format])
    for number, size in enumerate(sizes):
        if number == 0 or not one_file:
            write(loaded, path, file_format, None if one_file else size)
            file = package.load(path)
        for batch in counts:
            found = answers(file, loaded.task, pictures(images, loaded.task, size), size, batch)
            for name, one, other in zip(images, found, expected[number], strict=True):
                result.add(one, other, f"{checkpoint.stem} {file_format} {size} x{batch} {name.name}")
    for line in result.outliers:
        sys.stderr.write(f"{line}\n")
    named = ", ".join(f"{height} x {width}" for height, width in sizes)
    return [
        checkpoint.stem, file_format, named + ("" if one_file else "; a file each" if len(sizes) > 1 else " only"),
        " and ".join(map(str, counts)), *result.row(),
    ]  # fmt: skip


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a folder or glob of images")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--count", type=int, default=8, help="images, evenly from all")
    given = parser.parse_args()
    images = [source.path for source in find_sources(given.images, IMAGES)]
    images = images[:: max(1, len(images) // given.count)][: given.count]
    head = ["network", "format", "sizes (height x width)", "images at a time", "boxes within bounds",
            "largest, pixels", "largest, score", "pixels of the same class"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in given.checkpoints:
            expected: list[list[Answer]] = []
            for file_format in given.formats:
                started = time.perf_counter()
                if file_format in ENVIRONMENTS and not ENVIRONMENTS[file_format].is_ready:
                    reason = "not measured: no environment of its own here"
                    rows.append([checkpoint.stem, file_format, reason, *[""] * 5])
                    continue
                try:
                    rows.append(compare(checkpoint, file_format, images, given.batches, expected, folder))
                except InputError as error:
                    rows.append([checkpoint.stem, file_format, f"refused: {error}", *[""] * 5])
                sys.stderr.write(f"{' | '.join(rows[-1])} ({time.perf_counter() - started:.0f} s)\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
