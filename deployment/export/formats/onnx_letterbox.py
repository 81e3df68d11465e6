"""What laying pictures on a canvas (`deployment.export.letterbox`) becomes in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from deployment.export import letterbox as operators
from deployment.export.trace import MOST

if TYPE_CHECKING:
    from onnxscript.onnx_opset import Opset18

_ = operators  # its import registers the operators


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """The ONNX operators of our own."""
    from onnxscript import opset18 as op

    def letterbox(images: object, height: int, width: int, fill_color: list[int]) -> object:
        scaled_hw, _ = scaled(images, height, width)
        # Pillow leaves out what lies beside a picture, and weighs the rest up.
        small = op.Resize(
            images, None, None, scaled_hw, axes=[2, 3], mode="linear", antialias=1, exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        return on_canvas(small, scaled_hw, _ints(op, height, width), fill_color)

    def placed(images: object, height: int, width: int) -> object:
        _, scale = scaled(images, height, width)
        return op.Concat(scale, op.Cast(op.Shape(images, start=2, end=4), to=1), axis=0)

    def enlarge(maps: object, images: object, height: int, width: int) -> object:
        scaled_hw, _ = scaled(images, height, width)
        inside = op.Slice(maps, _ints(op, 0, 0), scaled_hw, _ints(op, 2, 3))
        target = op.Shape(images, start=2, end=4)
        return op.Resize(
            inside, None, None, target, axes=[2, 3], mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def filled_up(images: object, multiple: int, fill_color: list[int]) -> object:
        picture_hw = op.Shape(images, start=2, end=4)
        steps = op.Div(op.Add(picture_hw, _ints(op, multiple - 1)), _ints(op, multiple))
        return on_canvas(images, picture_hw, op.Mul(steps, _ints(op, multiple)), fill_color)

    def cut(maps: object, images: object) -> object:
        return op.Slice(maps, _ints(op, 0, 0), op.Shape(images, start=2, end=4), _ints(op, -2, -1))

    def on_canvas(images: object, picture_hw: object, canvas_hw: object, fill_color: list[int]) -> object:
        """Images at the top left of a canvas of one colour."""
        nothing = _ints(op, 0, 0)
        pads = op.Concat(nothing, nothing, nothing, op.Sub(canvas_hw, picture_hw), axis=0)
        laid = op.Pad(images, pads, op.Constant(value=_tensor(np.zeros((), np.uint8))))
        inside = [
            op.Less(op.Range(scalar(0), side(canvas_hw, axis), scalar(1)), side(picture_hw, axis)) for axis in (0, 1)
        ]
        shown = op.And(op.Unsqueeze(inside[0], _ints(op, 1)), op.Unsqueeze(inside[1], _ints(op, 0)))
        return op.Where(shown, laid, op.Constant(value=_tensor(np.array(fill_color, np.uint8)[:, None, None])))

    def scaled(images: object, height: int, width: int) -> tuple[object, object]:
        """As `Letterbox.fit`: height and width on the canvas (2,), and the scale (1,) float32.

        It truncates a product of floats of 64 bits, which OpenVINO does not have: whole numbers and what is known of
        their rounding (`rounding_of`) give the same.
        """
        picture_hw = op.Shape(images, start=2, end=4)
        across = op.Concat(op.Shape(images, start=3, end=4), op.Shape(images, start=2, end=3), axis=0)
        fitted = op.Mul(_ints(op, height, width), across)  # canvas height x picture width, and the other way round
        tall = op.LessOrEqual(*(op.Gather(fitted, _ints(op, axis)) for axis in (0, 1)))
        own, canvas, rounding = (
            op.Where(tall, each, other)
            for each, other in (
                (op.Shape(images, start=2, end=3), op.Shape(images, start=3, end=4)),
                (_ints(op, height), _ints(op, width)),
                tuple(
                    op.Gather(op.Constant(value=_tensor(rounding_of(side))), op.Shape(images, start=axis, end=axis + 1))
                    for side, axis in ((height, 2), (width, 3))
                ),
            )
        )
        product = op.Mul(picture_hw, canvas)
        sides = op.Div(product, own)
        whole = op.Equal(op.Sub(product, op.Mul(sides, own)), _ints(op, 0))
        least = op.Gather(op.Constant(value=_tensor(least_roundings(max(height, width)))), sides)
        lower = op.Cast(op.And(whole, op.Less(rounding, least)), to=7)
        scale = op.Div(op.Cast(canvas, to=1), op.Cast(own, to=1))
        return op.Max(op.Sub(sides, lower), _ints(op, 1)), scale

    def side(sizes_hw: object, axis: int) -> object:
        return op.Gather(sizes_hw, scalar(axis))

    def scalar(value: int) -> object:
        return op.Constant(value_int=value)

    return {
        torch.ops.effdense.letterbox.default: letterbox,
        torch.ops.effdense.placed.default: placed,
        torch.ops.effdense.enlarge.default: enlarge,
        torch.ops.effdense.filled_up.default: filled_up,
        torch.ops.effdense.cut.default: cut,
    }


def rounding_of(canvas: int) -> npt.NDArray[np.float32]:
    """How far `canvas / side` in floats of 64 bits lies above its true value, in shares of 2^-53 of it.

    Args:
        canvas: height or width of the canvas in pixels.

    Returns:
        (MOST + 1,), by the side of a picture in pixels.
    """
    shares = [Fraction(canvas / side) * side / canvas - 1 for side in range(1, MOST + 1)]
    return np.array([0, *(float(share * 2**53) for share in shares)], np.float32)


def least_roundings(canvas: int) -> npt.NDArray[np.float32]:
    """Below which of these a whole number of pixels, multiplied out, rounds to less than itself.

    Floats lie 2^-52 apart in shares of the power of two below them, and half as far below a power of two itself; a
    product rounds down where it lies more than half of that below the whole number.

    Args:
        canvas: the largest number of pixels.

    Returns:
        (canvas + 2,), by the number of pixels.
    """
    mantissas = 2 * np.frexp(np.arange(1, canvas + 2, dtype=np.float64))[0]
    return np.array([-1, *np.where(mantissas == 1, -0.5, -1 / mantissas)], np.float32)


def _tensor(values: npt.NDArray[np.generic]) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(values)


def _ints(op: Opset18, *values: int) -> object:
    return op.Constant(value_ints=list(values))
