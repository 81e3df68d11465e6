"""LiteRT's files (.tflite), computed on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import KEY, About


class LitertFile:
    """An opened .tflite file. Threads that use it wait for one another: an interpreter has one set of tensors.

    Args:
        path: the file.

    Raises:
        InputError: ai-edge-litert is missing, or the file is damaged or of another program.
    """

    def __init__(self, path: Path) -> None:
        needed("ai_edge_litert", extra="litert")
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

        self.path = path
        try:
            content = path.read_bytes()
            self.about = About.from_json(_entry(schema.Model.GetRootAs(content), content), path)
            self._interpreter = Interpreter(model_content=content, num_threads=torch.get_num_threads())
            self._interpreter.allocate_tensors()
        except InputError:
            raise
        except OSError as error:
            msg = f"cannot read '{path}': {error.strerror or error}. Check its rights, or give another file."
            raise InputError(msg) from error
        except Exception as error:  # of many kinds, for a damaged file
            reason = (str(error).strip().splitlines() or ["no reason is given"])[0].rstrip(".")
            msg = f"LiteRT refuses '{path}': {reason}. Export it again."
            raise InputError(msg) from error
        self._lock = threading.Lock()

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name, see `engine.exports.files.Runtime`."""
        interpreter = self._interpreter
        given = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        with self._lock:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
            interpreter.invoke()
            found = [_plain(interpreter.get_tensor(each["index"]), each) for each in interpreter.get_output_details()]
        return self._named(found, images, sizes_hw)

    def _named(self, found: list[npt.NDArray[np.float32]], images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        if self.about.task != "detection":
            pixels = torch.from_numpy(found.pop())
            named = {"class_rows": pixels.to(torch.uint8)} if self.about.argmax else {"logits": pixels}
        if self.about.task == "segmentation":
            return named
        parts = [torch.from_numpy(each) for each in found]
        if self.about.postprocess is None:
            deltas, scores = parts
            # The file holds the sigmoid, as MediaPipe wants it.
            return named | {"box_deltas": deltas, "class_logits": scores.double().logit(1e-12).float()}
        shares, class_ids, scores, count = parts
        height, width = images.shape[2:]
        yxyx = shares * torch.tensor([height, width, height, width])
        boxes = yxyx[..., [1, 0, 3, 2]].clamp(min=0)
        boxes = torch.minimum(boxes, sizes_hw.flip(-1).repeat(1, 2)[:, None])
        used = (torch.arange(scores.shape[1])[None] < count[:, None]) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        return named | {
            "boxes_xyxy": boxes * used[..., None],
            "scores": scores * used,
            "class_ids": torch.where(used, class_ids.long(), -1),
        }


def _plain(values: npt.NDArray[np.generic], details: dict[str, tuple[float, int]]) -> npt.NDArray[np.float32]:
    """Values of a quantised tensor in float32."""
    scale, zero = details["quantization"]
    plain: npt.NDArray[np.float32] = values.astype(np.float32)
    return (plain - zero) * np.float32(scale) if scale else plain


def _entry(model: object, content: bytes) -> str | None:
    """Our own entry of a file's metadata."""
    from ai_edge_litert import schema_py_generated as schema

    assert isinstance(model, schema.Model)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == KEY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return None
