"""Graphs that take pictures of any height and width, and lay them on the network's canvas themselves.

What a predictor does around a network is inside: a picture is scaled to fit, laid at the top left of the canvas and
filled up; boxes and classes of pixels are in pixels of the picture.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deployment.export.graphs import graph_of
from deployment.export.kinds.contract import Form, Graph
from deployment.networks import AnyNetwork
from detection.network.postprocess import clip_boxes
from engine.reading.images import Letterbox, pad_to_canvas
from segmentation.network.model import Segmenter


@torch.library.custom_op("effdense::letterbox", mutates_args=())
def letterbox(images: Tensor, height: int, width: int, fill_color: list[int]) -> Tensor:
    """Pictures on a canvas, by the one resampler of training and prediction.

    Args:
        images: (B, 3, H, W) uint8 RGB.
        height: of the canvas, in pixels.
        width: of the canvas.
        fill_color: RGB in 0..255 beside the picture.

    Returns:
        (B, 3, height, width) uint8.
    """
    place, (red, green, blue) = _place(images, height, width), fill_color
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    laid = np.stack([place.apply(picture, (red, green, blue)) for picture in pixels])
    return torch.from_numpy(np.ascontiguousarray(laid.transpose(0, 3, 1, 2)))


@letterbox.register_fake
def _(images: Tensor, height: int, width: int, fill_color: list[int]) -> Tensor:
    return images.new_empty(images.shape[0], 3, height, width)


@torch.library.custom_op("effdense::placed", mutates_args=())
def placed(images: Tensor, height: int, width: int) -> Tensor:
    """Where pictures lie on a canvas: (3,) float32 pixels of the canvas per pixel of a picture, and the pictures' size.

    Args:
        images: (B, 3, H, W).
        height: of the canvas, in pixels.
        width: of the canvas.
    """
    return torch.tensor([_place(images, height, width).scale, *images.shape[2:]], dtype=torch.float32)


@placed.register_fake
def _(images: Tensor, height: int, width: int) -> Tensor:
    return torch.empty(3, dtype=torch.float32, device=images.device)


@torch.library.custom_op("effdense::enlarge", mutates_args=())
def enlarge(maps: Tensor, images: Tensor, height: int, width: int) -> Tensor:
    """A map of the canvas at the pixels of the pictures, bilinear.

    Args:
        maps: (B, K, height, width) of the canvas.
        images: (B, 3, H, W).
        height: of the canvas, in pixels.
        width: of the canvas.

    Returns:
        (B, K, H, W).
    """
    rows, columns = _place(images, height, width).scaled_hw
    inside = maps[:, :, :rows, :columns]
    if inside.shape[2:] == images.shape[2:]:
        return inside.clone(memory_format=torch.contiguous_format)
    return F.interpolate(inside, images.shape[2:], mode="bilinear", align_corners=False)


@enlarge.register_fake
def _(maps: Tensor, images: Tensor, height: int, width: int) -> Tensor:
    return maps.new_empty(maps.shape[0], maps.shape[1], images.shape[2], images.shape[3])


@torch.library.custom_op("effdense::filled_up", mutates_args=())
def filled_up(images: Tensor, multiple: int, fill_color: list[int]) -> Tensor:
    """Pictures at the top left of a canvas whose sides are the next multiples of some number of pixels."""
    canvas_hw = tuple(side + -side % multiple for side in images.shape[2:])
    laid = [pad_to_canvas(one.permute(1, 2, 0).numpy(), (canvas_hw[0], canvas_hw[1]), (*fill_color,)) for one in images]
    return torch.from_numpy(np.ascontiguousarray(np.stack(laid).transpose(0, 3, 1, 2)))


@filled_up.register_fake
def _(images: Tensor, multiple: int, fill_color: list[int]) -> Tensor:
    height, width = (multiple * ((side + multiple - 1) // multiple) for side in images.shape[2:])
    return images.new_empty(images.shape[0], 3, height, width)


@torch.library.custom_op("effdense::cut", mutates_args=())
def cut(maps: Tensor, images: Tensor) -> Tensor:
    """The part (B, ..., H, W) of a canvas's map that the pictures (B, 3, H, W) at its top left fill."""
    return maps[..., : images.shape[2], : images.shape[3]].clone(memory_format=torch.contiguous_format)


@cut.register_fake
def _(maps: Tensor, images: Tensor) -> Tensor:
    return maps.new_empty(*maps.shape[:-2], images.shape[2], images.shape[3])


class PictureGraph(Graph):
    """A network with boxes whose answers are in pixels of pictures of any size.

    Its outputs are those of `BoxOutputs` and, for a joint network, of `PixelOutputs` at the pictures' own size.

    Args:
        network: the detector or joint network; it is copied and folded.
        form: what the graph holds besides, with the height and width of the canvas.
        fill_color: RGB in 0..255 beside a picture.
    """

    least = 2

    def __init__(self, network: AnyNetwork, form: Form, fill_color: tuple[int, int, int]) -> None:
        super().__init__()
        assert form.image_hw is not None
        # Logits are enlarged before the argmax, as prediction does.
        self.on_canvas = graph_of(network, form._replace(argmax=False))
        self.canvas_hw, self.fill_color, self.argmax = form.image_hw, list(fill_color), form.argmax
        self.outputs = tuple(
            "class_rows" if each == "logits" and form.argmax else each for each in self.on_canvas.outputs
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB pictures."""
        place = placed(images, *self.canvas_hw)
        scale, picture_hw = place[0], place[1:].expand(images.shape[0], 2)
        found = self.on_canvas(letterbox(images, *self.canvas_hw, self.fill_color), picture_hw * scale)
        values = dict(zip(self.on_canvas.outputs, found, strict=True))
        values["boxes_xyxy"] = clip_boxes(values["boxes_xyxy"] / scale, picture_hw)
        if "logits" in values:
            logits = enlarge(values.pop("logits"), images, *self.canvas_hw)
            values["class_rows" if self.argmax else "logits"] = logits.argmax(1).byte() if self.argmax else logits
        return tuple(values[name] for name in self.outputs)


class FilledUpGraph(Graph):
    """A segmenter whose decoder takes multiples of its stride, for pictures of any size, which are filled up to them.

    Args:
        graph: the segmenter's graph.
        fill_color: RGB in 0..255 beside a picture.
    """

    def __init__(self, graph: Graph, fill_color: tuple[int, int, int]) -> None:
        super().__init__()
        self.on_canvas, self.step, self.fill_color = graph, graph.multiple, list(fill_color)
        self.outputs = graph.outputs

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Answers for (B, 3, H, W) uint8 RGB pictures."""
        (found,) = self.on_canvas(filled_up(images, self.step, self.fill_color))
        return (cut(found, images),)


def picture_graph(network: AnyNetwork, form: Form) -> Graph:
    """The graph of a network for pictures of any size.

    Args:
        network: the network.
        form: what the graph holds besides, with the canvas of a network with boxes.

    Raises:
        InputError: as `graph_of`.
    """
    if not isinstance(network, Segmenter):
        return PictureGraph(network, form, network.fill_color)
    graph = graph_of(network, form)
    return graph if graph.multiple == 1 else FilledUpGraph(graph, network.fill_color)


def _place(images: Tensor, height: int, width: int) -> Letterbox:
    return Letterbox.fit((images.shape[2], images.shape[3]), (height, width))
