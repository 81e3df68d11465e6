"""AP or mIoU of trained networks on real pictures, in every runtime and number type, each measured on its file.

    python benchmarks/precisions_on_sets.py WORK bccd --root BCCD --whole bccd_lite0.ckpt --pruned bccd_pruned.ckpt
    python benchmarks/precisions_on_sets.py WORK nuclei --root NUCLEI --whole deeplab.ckpt --pruned deeplab_pruned.ckpt

Each file is exported or quantised as the commands do it, with the accuracy's guard where `quantize` has one, and scored
by `validate` on all validation pictures; PyTorch's bfloat16 is the checkpoint's, by `--trainer.precision bf16-mixed`.
Pictures for calibration are from the training list. The nuclei, whose pictures have many sizes, are computed in windows
of 256 pixels, which files for one size can take as well, with logits rather than classes. `int8_compiled` is the
`.pt2` file in int8 once more, computed by Inductor's kernels of int8 rather than with each value rounded.

Files and scores stay in WORK: started again, or for other --runtimes meanwhile, it goes on where it stopped, and at the
end prints the Markdown table of all that is there. A loss is from the same network's checkpoint in float32; the pruned
one's own is from the whole's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from deployment.export.fitting import outside
from deployment.export.options import ONE_SIZE, SUFFIXES, Format, Options
from deployment.export.write import export
from deployment.networks import Loaded, load_any
from deployment.precision.guard import guarded
from deployment.precision.measure import measured
from deployment.precision.pictures import find_pictures, pictures_for
from deployment.precision.quantise import Format as Quantised
from deployment.precision.quantise import Wanted, int8_of, quantise
from deployment.running.inductor import COMPILE_NAME
from engine.errors import InputError
from engine.exports.files import open_exported
from engine.hardware.machine import in_words, machine
from engine.outputs import write_text

CONFIGS = Path(__file__).parents[1] / "configs"
CHECKPOINT = "checkpoint"
COMPILED = "int8_compiled"
PRECISIONS = ("float32", "bfloat16", "int8", COMPILED)
NETWORKS = ("whole", "pruned")


@dataclass(frozen=True)
class Set:
    """Pictures of a task: the config of its training, further options of `validate`, and what its files hold."""

    task: str
    config: str
    words: tuple[str, ...]
    options: Options
    metric: str

    def data(self, root: Path) -> tuple[str, ...]:
        """The options of `validate`."""
        return ("--config", str(CONFIGS / self.config), "--data.root", str(root), *self.words)


SETS = {
    "bccd": Set(
        "detection", "detection/bccd.yaml", ("--model.architecture.image_size", "[320,320]"), Options(320), "AP"
    ),
    "nuclei": Set(
        "segmentation",
        "segmentation/nuclei.yaml",
        ("--model.inference.window", "256"),
        Options(256, argmax=False),
        "mIoU",
    ),
}


@dataclass
class Cell:
    """A network in a runtime and a number type, and what was found of it."""

    network: str
    runtime: str
    precision: str
    sha256: str
    scores: dict[str, float]
    megabytes: float = 0.0
    kept: tuple[str, ...] = ()
    groups: int = 0
    note: str = ""
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """Its place among the results."""
        return f"{self.network}/{self.runtime}/{self.precision}"


class Results:
    """All cells of a set, each in a file of its own, so that several runs can work on parts of the table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def cells(self) -> dict[str, Cell]:
        """Those that are there."""
        found = [Cell(**json.loads(path.read_text())) for path in sorted(self.folder.glob("*.json"))]
        return {cell.key: cell for cell in found}

    def has(self, cell: Cell) -> bool:
        """Whether a cell is there, of the same checkpoint."""
        found = self.cells.get(cell.key)
        return found is not None and found.sha256 == cell.sha256

    def add(self, cell: Cell) -> None:
        """Keep a cell."""
        write_text(self.folder / f"{cell.key.replace('/', '_')}.json", json.dumps(asdict(cell), indent=1))
        said = cell.note or ", ".join(f"{name} {value:.4f}" for name, value in cell.scores.items())
        print(f"{cell.key}: {said}; {cell.seconds:.0f} s", flush=True)


@dataclass(frozen=True)
class Given:
    """What is measured."""

    chosen: Set
    data: tuple[str, ...]
    results: Results

    def float32(self, cell: Cell) -> dict[str, float] | None:
        """The scores of the same network's float32 file, if there is one."""
        found = self.results.cells.get(replace(cell, precision="float32").key)
        return found.scores if found is not None and found.sha256 == cell.sha256 and found.scores else None


def fill(cell: Cell, loaded: Loaded, source: Path, path: Path, pictures: tuple[Path, ...], given: Given) -> None:
    """Make a cell's file and measure it, or note why there is none."""
    chosen, options, data = given.chosen, given.chosen.options, given.data
    if cell.runtime == CHECKPOINT:
        if cell.precision == "int8":
            raise InputError("PyTorch computes int8 from files only.")
        words = ("--trainer.precision", "bf16-mixed") if cell.precision == "bfloat16" else ()
        cell.scores = measured(source, chosen.task, (*data, *words))
        cell.megabytes = source.stat().st_size / 1e6
        return
    file_format: Format = next(each for each in get_args(Format) if each == cell.runtime)
    if file_format in ("executorch", "torch"):
        options = outside(loaded, file_format, options)  # as their files in int8 have it
    if file_format not in ONE_SIZE and chosen.task == "segmentation":
        options = replace(options, image_size=None)  # one file for pictures of any size
    if cell.precision == "float32":
        export(loaded, path, file_format, options)
        cell.scores = measured(path, chosen.task, data)
    elif cell.precision == COMPILED:
        path = path.with_stem(path.stem.replace(COMPILED, "int8"))
        if not path.is_file():
            raise InputError(f"there is no '{path}'.")
        os.environ[COMPILE_NAME] = "1"
        try:
            cell.scores = measured(path, chosen.task, data)
        finally:
            del os.environ[COMPILE_NAME]
    elif cell.runtime in get_args(Quantised):
        float32 = given.float32(cell)
        if cell.precision == "bfloat16" or float32 is None:
            wanted = Wanted(cell.precision, data=data, pictures=pictures if cell.precision == "int8" else ())
            report = quantise(loaded, path, cell.runtime, options, wanted)
        else:  # as there, of the float file that is there already
            source = path.with_stem(path.stem.replace("int8", "float32"))
            about = replace(open_exported(source, chosen.task).about, precision="int8")
            with tempfile.TemporaryDirectory(dir=path.parent) as beside:
                copied = Path(beside, source.name)
                for suffix in (".bin", source.suffix):
                    if source.with_suffix(suffix).is_file():
                        shutil.copy(source.with_suffix(suffix), copied.with_suffix(suffix))
                made = int8_of(loaded, copied, about, pictures_for(loaded.network, about, pictures))
                report = guarded(made, float32, lambda file: measured(file, chosen.task, data), path, 0.01, print)
        cell.scores, cell.groups = dict(report.scores), report.groups
        cell.kept = tuple(each.group for each in report.kept)
    elif cell.precision == "int8" and file_format == "litert":
        export(loaded, path, file_format, replace(options, precision="int8", calibration=pictures))
        cell.scores = measured(path, chosen.task, data)
    else:
        raise InputError(f"files of {cell.runtime} have no {cell.precision}.")
    weights = [path.with_suffix(".bin")] if cell.runtime == "openvino" else []
    cell.megabytes = sum(each.stat().st_size for each in (path, *weights)) / 1e6


def table(results: Results, metric: str) -> str:
    """All cells as Markdown."""
    lines = [
        f"| network | runtime | number type | {metric} | loss | groups in float | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = results.cells
    bases = {name: cells.get(f"{name}/{CHECKPOINT}/float32") for name in NETWORKS}
    for cell in sorted(cells.values(), key=_order):
        base = bases["whole" if cell.runtime == CHECKPOINT and cell.precision == "float32" else cell.network]
        value, loss = cell.scores.get(metric), ""
        if value is not None and base is not None and cell is not base:
            loss = f"{base.scores[metric] - value:.4f}"
        kept = f"{len(cell.kept)} of {cell.groups}" if cell.groups else ""
        kept += f": {', '.join(cell.kept)}" if cell.kept else ""
        shown = cell.note if value is None else f"{value:.4f}"
        size = f"{cell.megabytes:.1f}" if cell.megabytes else ""
        lines.append(f"| {cell.network} | {cell.runtime} | {cell.precision} | {shown} | {loss} | {kept} | {size} |")
    return "\n".join(lines)


def _order(cell: Cell) -> tuple[int, int, int]:
    runtimes = (CHECKPOINT, *get_args(Format))
    return NETWORKS.index(cell.network), runtimes.index(cell.runtime), PRECISIONS.index(cell.precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--whole", type=Path)
    parser.add_argument("--pruned", type=Path)
    parser.add_argument("--runtimes", nargs="+", choices=(CHECKPOINT, *SUFFIXES), default=(CHECKPOINT, *SUFFIXES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--count", type=int, default=100, help="pictures for calibration")
    words = parser.parse_args()
    folder = words.work / words.set
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "cells")
    given = Given(SETS[words.set], SETS[words.set].data(words.root), results)
    pictures = find_pictures(str(words.root / "images"), words.root / "instances_train.json", words.count)
    for network in NETWORKS:
        source = getattr(words, network)
        if source is None:
            continue
        loaded = load_any(source, given.chosen.task)
        for runtime in words.runtimes:
            for precision in words.precisions:
                if precision == COMPILED and runtime != "torch":
                    continue
                cell = Cell(network, runtime, precision, loaded.sha256, {})
                if results.has(cell):
                    continue
                started = time.perf_counter()
                suffix = SUFFIXES.get(runtime, ".ckpt")
                path = folder / f"{network}_{precision}{suffix}"
                try:
                    fill(cell, loaded, source, path, pictures, given)
                except InputError as error:
                    cell.note = str(error)
                cell.seconds = time.perf_counter() - started
                results.add(cell)
    print(f"\n{in_words(machine())}; {len(pictures)} pictures for calibration\n")
    print(table(results, given.chosen.metric))


if __name__ == "__main__":
    main()
