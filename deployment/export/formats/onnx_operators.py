"""What our own operators become in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from deployment.export import operators, places
from deployment.export.formats import onnx_letterbox

if TYPE_CHECKING:
    from onnxscript.onnx_opset import Opset18

_ = operators, places  # their import registers the operators


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """The ONNX operators of our own (`deployment.export.operators`)."""
    from onnxscript import opset18 as op

    def conv_same(features: object, weight: object, bias: object, stride: int, groups: int) -> object:
        return op.Conv(features, weight, bias, auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)

    def pool_same(features: object) -> object:
        pooled, _ = op.MaxPool(features, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        return pooled

    def suppress(
        boxes_xyxy: object,
        scores: object,
        class_ids: object,
        classes: int,
        iou_threshold: float,
        score_threshold: float,
        max_detections: int,
    ) -> object:
        one = op.Constant(value_ints=[1])
        rows = op.Reshape(op.Constant(value_ints=list(range(classes))), op.Constant(value_ints=[1, classes, 1]))
        of_class = op.Equal(op.Unsqueeze(class_ids, one), rows)
        # (B, K, M): in each class the scores of its own boxes.
        by_class = op.Where(of_class, op.Unsqueeze(scores, one), op.Constant(value_float=0.0))
        chosen = op.NonMaxSuppression(
            boxes_xyxy,
            by_class,
            op.Constant(value_ints=[max_detections]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[score_threshold]),
        )
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        return op.ScatterND(nothing, places, op.GatherND(scores, places))

    def places(images: object, stride: int) -> object:
        # The pixel of cell (0, 0) of a grid on the image: (L - 1) mod stride, see `backbones.grid`.
        last = op.Sub(op.Shape(images, start=2, end=4), _ints(op, 1))
        return op.Mod(last, _ints(op, stride))

    def first_cells(images: object, stride: int, onto: int, same_padding: bool) -> object:
        """By how many cells of the finer grid the coarser one starts later."""
        if not same_padding:
            return _ints(op, 0, 0)
        coarse, fine = (stride, onto) if stride > onto else (onto, stride)
        return op.Div(op.Sub(places(images, coarse), places(images, fine)), _ints(op, fine))

    def resample(maps: object, like: object, images: object, stride: int, onto: int, same_padding: bool) -> object:
        # As `backbones.grid.resample`, line by line.
        factor = _ints(op, stride // onto)
        less = _ints(op, stride // onto - 1)
        one, nothing = _ints(op, 1), _ints(op, 0, 0)
        cells, target = op.Shape(maps, start=2, end=4), op.Shape(like, start=2, end=4)
        first = first_cells(images, stride, onto, same_padding)
        before = op.Div(op.Add(first, less), factor)
        needed = op.Div(op.Add(op.Sub(op.Sub(target, one), first), less), factor)
        after = op.Max(op.Sub(needed, op.Sub(cells, one)), nothing)
        padded = op.Pad(maps, op.Concat(nothing, before, nothing, after, axis=0), mode="edge")
        fine_hw = op.Add(op.Mul(op.Sub(op.Add(op.Add(cells, before), after), one), factor), one)
        sizes = op.Concat(op.Shape(maps, start=0, end=2), fine_hw, axis=0)
        fine = op.Resize(padded, None, None, sizes, mode="linear", coordinate_transformation_mode="align_corners")
        start = op.Sub(op.Mul(before, factor), first)
        return op.Slice(fine, start, op.Add(start, target), _ints(op, 2, 3))

    def coarse_cells(maps: object, images: object, stride: int, onto: int, same_padding: bool) -> object:
        start, step = first_cells(images, stride, onto, same_padding), onto // stride
        return op.Slice(maps, start, op.Shape(maps, start=2, end=4), _ints(op, 2, 3), _ints(op, step, step))

    def coarse_mean(maps: object, step: int, same_padding: bool) -> object:
        start = places(maps, step) if same_padding else _ints(op, 0, 0)
        cells = op.Slice(maps, start, op.Shape(maps, start=2, end=4), _ints(op, 2, 3), _ints(op, step, step))
        return op.ReduceMean(cells, _ints(op, 2, 3), keepdims=1)

    return {
        torch.ops.effdense.resample.default: resample,
        torch.ops.effdense.coarse_cells.default: coarse_cells,
        torch.ops.effdense.coarse_mean.default: coarse_mean,
        torch.ops.effdense.conv_same.default: conv_same,
        torch.ops.effdense.pool_same.default: pool_same,
        torch.ops.effdense.suppress.default: suppress,
        **onnx_letterbox.translations(),
    }


def _ints(op: Opset18, *values: int) -> object:
    return op.Constant(value_ints=list(values))
