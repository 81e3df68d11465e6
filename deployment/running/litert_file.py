"""LiteRT's files (.tflite), computed on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from deployment.running.opening import Faults
from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import KEY, About

_IDENTIFIER = b"TFL3"
_LEAST = 1e-7  # scores of 0 and 1, which int8 gives, as logits


class LitertFile:
    """An opened .tflite file. It computes one image of one size at a time.

    Args:
        path: the file.

    Raises:
        InputError: ai-edge-litert is missing, or the file is damaged, refused by it, or of another program.
    """

    def __init__(self, path: Path) -> None:
        needed("ai_edge_litert", extra="litert")
        from ai_edge_litert.interpreter import Interpreter

        self.path = path
        self._lock = Lock()  # an interpreter has one place for its values
        self._faults = Faults(path, "LiteRT", (RuntimeError, ValueError, KeyError))
        with self._faults.opening():
            content = path.read_bytes()
        text = _entry(content, path)
        self.about = About.from_json(text, path)
        self._metadata: dict[str, object] = json.loads(text or "{}")
        with self._faults.opening():
            self._interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
            self._interpreter.allocate_tensors()
            (self._input,) = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        self._outputs = dict(zip(_in_order(content), (detail["index"] for detail in outputs), strict=True))

    @property
    def metadata(self) -> dict[str, object]:
        """What `deployment.litert.convert.write_tflite` was given to keep."""
        return self._metadata

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of its images in pixels."""
        _, height, width, _ = self._input["shape"].tolist()
        return height, width

    def run(self, images: Tensor, sizes_hw: Tensor | None = None) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`.

        A file with TensorFlow Lite's suppression gives `boxes_xyxy` in pixels of the canvas, `scores` and `class_ids`;
        one without gives `box_deltas` and `class_logits`, from its scores.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            sizes_hw: (B, 2) height and width of each image on its canvas, which boxes are cut at; None cuts at the
                canvas.
        """
        count, _, *height_width = images.shape
        height, width = self.image_hw
        if (height, width) != tuple(height_width):
            msg = (
                f"'{self.path}' takes images of {height} x {width} pixels (height x width), not {height_width[0]} x "
                f"{height_width[1]}. Export it for that size."
            )
            raise InputError(msg)
        limits = torch.tensor([[height, width]] * count) if sizes_hw is None else sizes_hw
        found = [self._one(image) for image in images.permute(0, 2, 3, 1).contiguous().numpy()]
        raw = {name: torch.cat([each[name] for each in found]) for name in self._outputs}
        answers: dict[str, Tensor] = {}
        if "boxes" in raw:
            answers |= _boxes(raw, (height, width), limits)
        if "box_deltas" in raw:
            answers["box_deltas"] = raw["box_deltas"]
            answers["class_logits"] = raw["scores"].clamp(_LEAST, 1 - _LEAST).logit()
        if "class_rows" in raw:
            answers["class_rows"] = raw["class_rows"].to(torch.uint8)
        if "logits" in raw:
            answers["logits"] = raw["logits"].permute(0, 3, 1, 2)
        return answers

    def _one(self, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> dict[str, Tensor]:
        with self._lock:
            with self._faults.computing():
                self._interpreter.set_tensor(self._input["index"], image[None])
                self._interpreter.invoke()
            return {
                name: torch.from_numpy(self._interpreter.get_tensor(index)) for name, index in self._outputs.items()
            }


def _boxes(raw: dict[str, Tensor], canvas_hw: tuple[int, int], limits_hw: Tensor) -> dict[str, Tensor]:
    """Boxes in fractions of the canvas to pixels of it, cut at the images; rows that are not used have class -1."""
    height, width = canvas_hw
    boxes = raw["boxes"][..., [1, 0, 3, 2]] * torch.tensor([width, height, width, height], dtype=torch.float32)
    edges = limits_hw.to(boxes).flip(-1).repeat(1, 2)[:, None]
    boxes = torch.minimum(boxes.clamp(min=0), edges)
    used = torch.arange(boxes.shape[1]) < raw["count"].reshape(-1, 1)
    used &= (boxes[..., 2:] > boxes[..., :2]).all(-1)  # not those beside the image
    return {
        "boxes_xyxy": torch.where(used[..., None], boxes, 0.0),
        "scores": torch.where(used, raw["scores"], 0.0),
        "class_ids": torch.where(used, raw["classes"].long(), -1),
    }


def _entry(content: bytes, path: Path) -> str | None:
    """Our own entry of a file's metadata, if it has one.

    Raises:
        InputError: it is no .tflite file, or damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != _IDENTIFIER:
        msg = f"'{path}' is no .tflite file, or is damaged. Give one that `python -m deployment export` wrote."
        raise InputError(msg)
    try:
        model = schema.Model.GetRootAs(content, 0)
        for place in range(model.MetadataLength()):
            entry = model.Metadata(place)
            if entry.Name() == KEY.encode():
                return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    except Exception as error:  # of many kinds, for a damaged file
        msg = f"'{path}' is damaged: it ends early. Export it again."
        raise InputError(msg) from error
    return None


def _in_order(content: bytes) -> list[str]:
    """What the signature calls the outputs, in the order in which the graph gives them."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    signature, graph = model.SignatureDefs(0), model.Subgraphs(0)
    names = {}
    for place in range(signature.OutputsLength()):
        entry = signature.Outputs(place)
        names[entry.TensorIndex()] = entry.Name().decode()
    return [names[int(index)] for index in graph.OutputsAsNumpy()]
