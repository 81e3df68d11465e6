"""A picture or tile computed several times, at several scales and mirrored, with its boxes fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from detection.data.batch import Detections
from detection.network.detector import Detector
from detection.network.postprocess import Postprocess
from detection.tiles.fusion import fused
from detection.tiles.inference import Inference
from engine.large.tile_canvas import TileCanvas
from engine.prediction.canvas import Canvas, OnCanvas
from engine.reading.images import Letterbox, UInt8Array

# The score from which boxes of one pass count. An object's score is that of all passes, so that those which see it with
# a low score must count too; with a much lower one boxes only move others a little.
PASS_SCORE = 0.01


def as_it_is(image: UInt8Array) -> OnCanvas:
    """An (H, W, 3) uint8 RGB image that is its own canvas."""
    size_hw = (image.shape[0], image.shape[1])
    return OnCanvas(torch.from_numpy(image), Letterbox(size_hw, size_hw, 1.0, size_hw))


@dataclass(frozen=True)
class Pass:
    """One pass over a picture. It holds plain values, which can be sent to other processes.

    Attributes:
        lay: lays a picture, or a tile, on the canvas of this pass.
        mirrored: whether its left and right are swapped before.
    """

    lay: Canvas | TileCanvas
    mirrored: bool

    def __call__(self, image: UInt8Array) -> OnCanvas:
        """Lay an (h, w, 3) uint8 RGB picture or tile."""
        return self.lay(np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image)

    def upright(self, found: Detections, widths: Tensor) -> Detections:
        """The boxes of this pass where they lie in the pictures themselves.

        Args:
            found: (B, M) boxes in pixels of the pictures as this pass has them.
            widths: (B,) of the pictures in pixels.
        """
        if not self.mirrored:
            return found
        left, top, right, bottom = found.boxes_xyxy.unbind(-1)
        wide = widths[:, None].to(left.dtype)
        return found._replace(boxes_xyxy=torch.stack([wide - right, top, wide - left, bottom], -1))


@dataclass(frozen=True)
class Passes:
    """The passes over a picture.

    Attributes:
        canvas: the canvas of whole pictures.
        inference: the tiles, scales, and whether pictures are mirrored too.
    """

    canvas: Canvas
    inference: Inference

    @classmethod
    def of(cls, network: Detector, inference: Inference) -> Passes:
        """Those of validation and test, on the network's own canvas."""
        inside = network.takes_pictures
        return cls(Canvas(network.config.image_size, network.fill_color, network.stride, inside=inside), inference)

    @property
    def laying(self) -> Canvas | TileCanvas:
        """Lays a picture, or a tile, on the canvas of a single pass."""
        return self._at(1.0)

    @property
    def plain(self) -> Pass:
        """The pass of a picture that is computed once."""
        return Pass(self.laying, mirrored=False)

    @property
    def each(self) -> tuple[Pass, ...]:
        """All passes, in their order."""
        mirrored = (False, True) if self.inference.flip else (False,)
        return tuple(Pass(self._at(scale), flipped) for scale in self.inference.scales for flipped in mirrored)

    @property
    def more(self) -> tuple[Pass, ...]:
        """The passes besides that of a picture that is computed once."""
        return tuple(one for one in self.each if one != self.plain)

    def postprocess(self, asked: Postprocess, *, suppressed: bool) -> Postprocess:
        """The suppression within one pass.

        Args:
            asked: the settings that are asked for.
            suppressed: whether the network suppresses by itself, with a threshold of its own.
        """
        return asked if suppressed else replace(asked, score_threshold=min(asked.score_threshold, PASS_SCORE))

    def fused(
        self, images: Tensor, detect: Callable[[Tensor, Sequence[Letterbox]], Detections], asked: Postprocess
    ) -> Detections:
        """The boxes of all passes over some pictures, in their pixels.

        Args:
            images: (B, 3, H, W) uint8 RGB, pictures or tiles as they are.
            detect: the boxes of canvases (B, 3, H', W') with pictures at these places, in pixels of the pictures.
            asked: how many boxes are wanted, and from which score on.
        """
        widths = torch.full((len(images),), images.shape[3], device=images.device)
        pictures = [one.permute(1, 2, 0).contiguous().cpu().numpy() for one in images]
        found = []
        for one in self.each:
            laid = [one(picture) for picture in pictures]
            canvases = torch.stack([on.image for on in laid]).permute(0, 3, 1, 2).to(images.device)
            found.append(one.upright(detect(canvases, [on.letterbox for on in laid]), widths))
        return self.together(found, asked)

    @staticmethod
    def together(found: Sequence[Detections], asked: Postprocess) -> Detections:
        """The boxes of all passes as one list.

        Args:
            found: those of each pass, in pixels of the same pictures.
            asked: how many boxes are wanted, and from which score on.
        """
        together = fused(list(found), score_threshold=asked.score_threshold)
        most = asked.max_detections
        return Detections(together.boxes_xyxy[:, :most], together.scores[:, :most], together.class_ids[:, :most])

    def _at(self, scale: float) -> Canvas | TileCanvas:
        """Lays pictures on a canvas that is larger or smaller by a factor, in whole strides."""
        canvas, step = self.canvas, self.canvas.stride
        sides = canvas.limit_hw
        if scale != 1:
            sides = (max(step, round(sides[0] * scale / step) * step), max(step, round(sides[1] * scale / step) * step))
        if self.inference.window is None:
            return replace(canvas, limit_hw=sides)
        return TileCanvas(min(sides), self.inference.window, canvas.fill_color)
