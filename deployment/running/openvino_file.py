"""OpenVINO's files (.xml with .bin), computed on the CPU."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deployment.running.opening import Faults, arrays
from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import KEY, About


class OpenvinoFile:
    """An opened OpenVINO model. Several threads may use it: each call has a request of its own.

    Args:
        path: the .xml file; its weights lie beside it, in the .bin file of the same name.

    Raises:
        InputError: openvino is missing; a file is missing, damaged or of another program; or it computes in bfloat16,
            and this processor does not.
    """

    def __init__(self, path: Path) -> None:
        needed("openvino", extra="openvino")
        import openvino

        self.path = path
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            msg = f"there is no '{weights}', which holds the weights of '{path}'. Copy both files."
            raise InputError(msg)
        self._faults = Faults(path, "OpenVINO", (RuntimeError,), last=True)
        with self._faults.opening():
            core = openvino.Core()
            model = core.read_model(path)
            text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
            self.about = About.from_json(text, path)
            hint = "bf16" if self.about.precision in ("bfloat16", "int8_bfloat16") else "f32"
            if hint == "bf16":
                check_bfloat16(path, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
            self._compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": hint,
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                },
            )
        self._inputs = [entry.any_name for entry in self._compiled.inputs]
        self._outputs = [entry.any_name for entry in self._compiled.outputs]

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        request = self._compiled.create_infer_request()
        with self._faults.computing():
            found = request.infer(arrays(self._inputs, images, sizes_hw), share_inputs=True)
        return {name: torch.from_numpy(np.array(found[name])) for name in self._outputs}


def check_bfloat16(path: Path, abilities: Collection[str]) -> None:
    """Do nothing if a processor computes in bfloat16.

    Args:
        path: the file that would be computed.
        abilities: what OpenVINO says of the processor.

    Raises:
        InputError: it does not.
    """
    if "BF16" not in abilities:
        msg = (
            f"'{path}' computes in bfloat16, which this processor does not (it needs AVX-512 BF16 or AMX). Export it "
            "in float32, or quantize it to int8."
        )
        raise InputError(msg)
