"""The size of the canvas: given with the data or with the network, but one, because the checkpoint stores it once."""

from __future__ import annotations

import logging

from engine.data.contracts import CanvasTask
from engine.distributed import is_main
from engine.errors import InputError
from engine.reading.options import Way

Size = int | tuple[int, int] | None

_log = logging.getLogger(__name__)


def size_hw(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; one number is the side of a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def agreed_size(data: Size, network: Size, *, data_option: str, network_option: str, way: Way) -> Size:
    """The size that the network is to be built with; None leaves its own.

    Args:
        data: the size that was given with the data.
        network: the size that was given with the network, or that its checkpoint has.
        data_option: the option that gives the size of the data, such as `data.image_size`.
        network_option: the option that gives that of the network.
        way: whether a training starts, goes on, or a trained network is scored. A network is scored on any canvas, and
            a line says that it was made for another.

    Raises:
        InputError: a training would see another size than the checkpoint stores.
    """
    if data is None or (network is not None and size_hw(data) == size_hw(network)):
        return network
    asked = _words(data)
    if network is None:
        return data if way == "start" else None
    own = _words(network)
    if way == "start":
        msg = f"{data_option} is {asked}, but {network_option} is {own}; give one of them only."
        raise InputError(msg)
    if way == "resume":
        msg = (
            f"{data_option} is {asked}, but the training that goes on is at {own}. Leave {data_option} out, or start "
            "a new training from the weights with --model.pretrained."
        )
        raise InputError(msg)
    if is_main():
        _log.warning(f"scored on {asked} pixels, as {data_option} asks; the network was made for {own}")
    return network


def canvas_of(given: int | tuple[int, int] | None, task: CanvasTask | None, option: str) -> tuple[int, int] | None:
    """Height and width of the canvas: the given ones, or those of the task; None leaves pictures as they are.

    Args:
        given: side of the canvas, or its height and width.
        task: the task whose canvas is taken if nothing was given.
        option: the option that gives the canvas, such as "an 'image_size'".

    Raises:
        InputError: neither a size nor a task is given, or a size is given to a task that lays pictures out itself.
    """
    if task is not None and task.network.takes_pictures:
        if given not in (None, task.canvas_hw):
            msg = (
                f"the size of the canvas is {given}, but the file lays pictures on its own of {task.canvas_hw[0]} x "
                f"{task.canvas_hw[1]} pixels (height x width). Leave it out."
            )
            raise InputError(msg)
        return None
    if isinstance(given, int):
        return (given, given)
    if given is not None:
        return given
    if task is None:
        msg = f"without a model the data need {option}. Give the side of the canvas in pixels."
        raise InputError(msg)
    height, width = task.canvas_hw
    return (height, width)


def _words(size: int | tuple[int, int]) -> str:
    height, width = size_hw(size)
    return f"{height} x {width}"
