"""ONNX files, computed by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import KEY, About


class OnnxFile:
    """An opened ONNX file.

    Args:
        path: the file.

    Raises:
        InputError: onnxruntime is missing, or the file is damaged, refused by it, or of another program.
    """

    def __init__(self, path: Path) -> None:
        needed("onnxruntime", extra="onnx")
        import onnxruntime

        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; they come as exceptions as well
        try:
            # Bytes, so that a file cannot name others beside it as its weights.
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            msg = f"cannot read '{path}': {error.strerror or error}. Check its rights, or give another file."
            raise InputError(msg) from error
        except Exception as error:  # its exceptions have no base class of their own
            msg = f"ONNX Runtime refuses '{path}': {_first_line(error)} Export it again."
            raise InputError(msg) from error
        self.about = About.from_json(self._session.get_modelmeta().custom_metadata_map.get(KEY), path)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        given = {"images": np.ascontiguousarray(images.numpy()), "sizes_hw": sizes_hw.numpy()}
        try:
            found = self._session.run(self._outputs, {name: given[name] for name in self._inputs})
        except Exception as error:
            msg = f"ONNX Runtime could not compute '{self.path}': {_first_line(error)} Export it again."
            raise InputError(msg) from error
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, found, strict=True)}


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or ["no reason is given."])[0]
    return text if text.endswith(".") else f"{text}."
