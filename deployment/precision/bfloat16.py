"""bfloat16, in which OpenVINO computes a float file where the processor has it."""

from __future__ import annotations

from pathlib import Path

from engine.exports.files import KEY, About


def write_bfloat16(source: Path, path: Path, about: About) -> None:
    """Write a float file of OpenVINO again, as one that is computed in bfloat16.

    Args:
        source: the float .xml file.
        path: the new one.
        about: what it says of itself.
    """
    import openvino

    model = openvino.Core().read_model(source)
    model.set_rt_info(about.to_json(), [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
