"""From a network to a file in a smaller number type that loses no more accuracy than it may."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deployment.export.fitting import outside, plain_kind
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.options import Options, check_suffix
from deployment.export.write import Written, export
from deployment.networks import Loaded
from deployment.precision.bfloat16 import write_bfloat16
from deployment.precision.formats.executorch_int8 import ExecutorchInt8
from deployment.precision.formats.onnx_int8 import OnnxInt8
from deployment.precision.formats.openvino_int8 import OpenvinoInt8
from deployment.precision.formats.torch_int8 import TorchInt8
from deployment.precision.guard import Int8, Report, Scores, guarded, in_words, loss_of
from deployment.precision.measure import measured
from deployment.precision.pictures import Pictures, pictures_for
from deployment.precision.report import write_report
from deployment.running.openvino_file import check_bfloat16
from deployment.setup.environment import EXECUTORCH
from engine.checked import Checked
from engine.errors import InputError, OutputError
from engine.exports.extras import needed
from engine.exports.files import About
from engine.numbers import ZeroToBelowOne
from engine.outputs import make_folder

Format = Literal["onnx", "openvino", "executorch", "torch"]
Precision = Literal["int8", "bfloat16", "int8_bfloat16"]
_PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino", "nncf"),
    "executorch": (),
    "torch": (),
}
_FILES: Mapping[Format, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "openvino": (".bin", ".xml"),  # weights first
    "executorch": (".pte",),
    "torch": (".pt2",),
}


@dataclass(frozen=True)
class Wanted(Checked):
    """What is to be written, and how accurate it has to be.

    Attributes:
        precision: the number type. bfloat16 is OpenVINO's only, and is left to the processor when the file is loaded;
            with int8 it is for what stays in float.
        bound: the largest loss of AP, mIoU or top-1.
        data: options of `validate` that name the data by which accuracy is measured.
        pictures: for int8, pictures like those that the file will see, whose values set the ranges.
    """

    precision: Precision = "int8"
    bound: ZeroToBelowOne = 0.01
    data: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()


def tell_user(line: str) -> None:
    """Show a line about what happens."""
    sys.stderr.write(f"{line}\n")


def quantise(
    loaded: Loaded,
    path: Path,
    file_format: Format,
    options: Options,
    wanted: Wanted,
    tell: Callable[[str], None] = tell_user,
) -> Report:
    """Write a network in a smaller number type, and beside it a report of what that costs in accuracy.

    Args:
        loaded: the network.
        path: the file.
        file_format: its format.
        options: what the file holds.
        wanted: the number type, and how accurate the file has to be.
        tell: takes a line about what happens.

    Raises:
        InputError: the options do not fit each other, a package is missing, the accuracy cannot be measured, or it is
            lower than allowed; then no file is written.
    """
    check_suffix(path, file_format)
    if "bfloat16" in wanted.precision and file_format != "openvino":
        msg = f"bfloat16 is computed by openvino only, not by {file_format}. Give --format openvino."
        raise InputError(msg)
    if ("int8" in wanted.precision) != bool(wanted.pictures):
        msg = "calibration is for int8, which needs pictures like those that the file will see. Give both, or neither."
        raise InputError(msg)
    if options.takes_pictures:
        msg = "files in a smaller number type leave the letter-box outside. Leave --letterbox inside out."
        raise InputError(msg)
    if not wanted.data:
        msg = (
            "the loss of accuracy is measured on validation data, and none is given. Give its options, as `validate` "
            "takes them: --config, or those that begin with --data."
        )
        raise InputError(msg)
    kind = plain_kind(loaded.network)
    if kind is not None and file_format == "torch":
        msg = f"'{loaded.name}' is {kind}, which is not written in int8 for torch. Give --format onnx or openvino."
        raise InputError(msg)
    needed(*_PACKAGES[file_format], extra=file_format)
    if "bfloat16" in wanted.precision:
        import openvino

        check_bfloat16(path, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    folder = make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.stem}.") as beside:
        tell("writing the file in float32")
        written = _in_float(loaded, Path(beside), file_format, options)
        source, about = written.path, written.about
        made = Path(beside, path.name)
        if source == made:  # the user's own name may be that of the float file
            made = Path(beside, f"quantised{path.suffix}")
        report = _guarded(loaded, source, made, replace(about, precision=wanted.precision), wanted, tell)
        write_report(report, path)
        try:
            for suffix in _FILES[file_format]:
                os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
        except OSError as error:
            msg = f"cannot write '{path}': {error.strerror or error}. Give a path that can be written."
            raise OutputError(msg) from error
    return report


def _in_float(loaded: Loaded, beside: Path, file_format: Format, options: Options) -> Written:
    """The file that accuracy is compared with, and that the quantisers of ONNX Runtime and OpenVINO start from.

    Raises:
        InputError: as `export`.
    """
    if file_format == "executorch":
        return export(loaded, beside / "float.pte", file_format, options)
    if file_format == "torch":
        options = outside(loaded, file_format, options)
        EXECUTORCH.make(tell_user)  # which holds the quantiser
        return export(loaded, beside / "float.pt2", file_format, options)
    written = export(loaded, beside / "float.onnx", "onnx", options)
    if file_format == "onnx":
        return written
    return written._replace(path=write_openvino(written.path, beside / "float.xml", written.about))


def _guarded(
    loaded: Loaded, source: Path, made: Path, about: About, wanted: Wanted, tell: Callable[[str], None]
) -> Report:
    def measure(path: Path) -> Scores:
        return measured(path, loaded.task, wanted.data)

    float32 = measure(source)
    tell(f"float32: {in_words(float32)}")
    if wanted.precision == "bfloat16":
        write_bfloat16(source, made, about)
        scores = measure(made)
        loss = loss_of(float32, scores)
        tell(f"bfloat16: {in_words(scores)}; loss {loss:.4f}, {wanted.bound:g} is allowed")
        if loss > wanted.bound:
            msg = f"bfloat16 loses {loss:.4f}; {wanted.bound:g} is allowed. Nothing is written. Give a larger --bound."
            raise InputError(msg)
        return Report("bfloat16", wanted.bound, float32, scores, scores)
    pictures = pictures_for(loaded.network, about, wanted.pictures)
    report = guarded(int8_of(loaded, source, about, pictures), float32, measure, made, wanted.bound, tell)
    return replace(report, precision=wanted.precision)


def int8_of(loaded: Loaded, source: Path, about: About, pictures: Pictures) -> Int8:
    """What writes a network in int8, by the tool of the float file's runtime.

    Args:
        loaded: the network.
        source: its file in float32.
        about: what the new file says of itself.
        pictures: pictures that set the ranges of values.
    """
    if source.suffix == ".onnx":
        return OnnxInt8(source, about, pictures, source.parent)
    if source.suffix == ".xml":
        return OpenvinoInt8(source, about, pictures)
    kind = ExecutorchInt8 if source.suffix == ".pte" else TorchInt8
    return kind(loaded.network, about, pictures, source.parent)
