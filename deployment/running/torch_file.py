"""Programs of torch.export (.pt2), computed by PyTorch."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor

from deployment.export import operators
from engine.errors import InputError
from engine.exports.files import KEY, About

_ = operators  # its import registers the operators that a program may hold


class TorchFile:
    """An opened .pt2 file.

    Args:
        path: the file.

    Raises:
        InputError: the file is damaged, or of another program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        extra = {f"{KEY}.json": ""}
        if not zipfile.is_zipfile(path):
            msg = f"'{path}' is no .pt2 file of PyTorch, or is damaged. Export it again."
            raise InputError(msg)
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # of many kinds, for a damaged file
            reason = (str(error).strip().splitlines() or ["no reason is given"])[0].rstrip(".")
            msg = f"PyTorch refuses '{path}': {reason}. Export it again."
            raise InputError(msg) from error
        text = extra[f"{KEY}.json"]
        self.about = About.from_json(text if isinstance(text, str) else bytes(text).decode(), path)
        self._module = program.module()
        specs = program.module_call_graph[0].signature
        assert specs is not None
        self._inputs = [name for name in ("images", "sizes_hw") if name in (specs.forward_arg_names or ())]
        self._outputs = _names(self.about)

    @torch.no_grad()
    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        given = {"images": images, "sizes_hw": sizes_hw}
        found = self._module(**{name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))


def _names(about: About) -> list[str]:
    boxes = ["boxes_xyxy", "scores", "class_ids"] if about.postprocess is not None else ["class_logits", "box_deltas"]
    pixels = ["class_rows"] if about.argmax else ["logits"]
    return {"detection": boxes, "segmentation": pixels}.get(about.task, boxes + pixels)
