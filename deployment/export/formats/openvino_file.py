"""A program as OpenVINO's files, by way of ONNX, which keeps every open size and the suppression."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from engine.errors import OutputError
from engine.exports.files import KEY, About
from engine.outputs import make_folder


def write_openvino(onnx_file: Path, path: Path, about: About) -> Path:
    """Write OpenVINO's .xml and .bin from an ONNX file.

    Args:
        onnx_file: what `write_onnx` wrote.
        path: the .xml file; the .bin file lies beside it.
        about: what it says of itself.

    Raises:
        InputError: the files cannot be written.
    """
    import openvino

    model = openvino.Core().read_model(onnx_file)
    model.set_rt_info(about.to_json(), [KEY])
    for name, text in about.plain().items():
        model.set_rt_info(text, ["effdense_plain", name])
    folder = make_folder(path.parent)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".openvino") as beside:
        made = Path(beside, path.name)
        try:
            openvino.save_model(model, made, compress_to_fp16=about.precision == "float16")
            # The weights first: a reader of the old .xml may then fail, but never reads half a file.
            for suffix in (".bin", ".xml"):
                os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
        except (OSError, RuntimeError) as error:
            msg = f"cannot write '{path}': {error}. Give a path that can be written."
            raise OutputError(msg) from error
    return path
