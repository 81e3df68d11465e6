"""ONNX files, computed by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from deployment.running.opening import Faults, arrays
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
        self._faults = Faults(path, "ONNX Runtime", (Exception,))  # its exceptions have no base class of their own
        with self._faults.opening():
            # Bytes, so that a file cannot name others beside it as its weights.
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self.about = About.from_json(self._session.get_modelmeta().custom_metadata_map.get(KEY), path)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        with self._faults.computing():
            found = self._session.run(self._outputs, arrays(self._inputs, images, sizes_hw))
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, found, strict=True)}
