"""`python -m deployment export`: a checkpoint as a file of another runtime."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deployment.export.options import SUFFIXES, Contents, Format, Options
from engine.cli.commands import parse_function, program, run_command

if TYPE_CHECKING:
    from engine.exports.files import About


def export_file(
    ckpt_path: str,
    format: Format = "onnx",
    output: Path | None = None,
    task: Literal["detection", "segmentation", "joint", "classification"] | None = None,
    precision: Literal["float32", "float16", "int8"] = "float32",
    calibration: str | None = None,
    layout: Literal["own", "frigate"] = "own",
    contents: Contents = Contents(),
) -> None:
    """Write a checkpoint as a file that another runtime computes, and compare the two.

    Images go in as they are, uint8 RGB of 0..255; the normalisation is inside.

    Args:
        ckpt_path: checkpoint; `best` or `last` of the latest run of `task`; the name of a published detector; or a
            weight file.
        format: onnx, openvino (.xml with .bin), litert (.tflite, for MediaPipe too), executorch (.pte, for XNNPACK), or
            torch (a .pt2 of torch.export).
        output: the file; by default the checkpoint's name with the format's suffix.
        task: the task, where the file does not say.
        precision: number type of a .tflite file; int8 is needed by the Edge TPU.
        calibration: for int8, a folder or glob of images like those that the file will see; 100 or more are best.
        layout: frigate gives boxes of an onnx or openvino file as one table, which Frigate reads, and writes labels.
        contents: what it holds besides the network.
    """
    from deployment.export.write import export
    from deployment.litert import edge_tpu
    from deployment.networks import load_any
    from engine.prediction.sources import IMAGES, find_sources

    images = () if calibration is None else tuple(file.path for file in find_sources(calibration, IMAGES))
    options = Options(**vars(contents), precision=precision, calibration=images, layout=layout)
    started = time.perf_counter()
    loaded = load_any(ckpt_path, task)
    path = output or Path(loaded.name).with_suffix(SUFFIXES[format])
    written = export(loaded, path, format, options)
    about, size = written.about, path.stat().st_size
    if format == "openvino":
        size += path.with_suffix(".bin").stat().st_size
    sizes = "any height and width" if about.image_hw is None else "{} x {} pixels".format(*about.image_hw)
    if about.multiple > 1:
        sizes += f" in multiples of {about.multiple}"
    batch = "any number of images" if about.batch is None else f"{about.batch} image(s)"
    compared = f"largest difference from the network {written.difference:.1e}"
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{path}: {size / 1e6:.1f} MB, {batch} of {sizes}; {compared}; {seconds:.0f} s\n")
    if precision == "int8" and format == "litert":
        sys.stdout.write(f"{path}: {edge_tpu.check(path).line()}\n")
    if layout == "frigate":
        sys.stdout.write(f"Frigate's configuration:\n{frigate_settings(path, about)}")


def frigate_settings(path: Path, about: About) -> str:
    """The part `model` of Frigate's configuration for a file, as YAML."""
    from deployment.litert.convert import LABELS_SUFFIX

    assert about.image_hw is not None
    height, width = about.image_hw
    values = {
        "path": f"/config/{path.name}",
        "labelmap_path": f"/config/{path.with_suffix(LABELS_SUFFIX).name}",
        "model_type": "yolonas",
        "width": width,
        "height": height,
        "input_tensor": "nchw",
        "input_pixel_format": "rgb",
        "input_dtype": "int",
    }
    return "model:\n" + "".join(f"  {name}: {value}\n" for name, value in values.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and export; returns 2 after one short line of error, else 0."""

    def act() -> None:
        command = f"{program('deployment')} export"
        description = (export_file.__doc__ or "").partition("\n\n    Args:")[0]
        export_file(**parse_function(export_file, command, argv, description, groups={"contents": Contents}))

    return run_command(act)
