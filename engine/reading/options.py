"""How rasters become 8-bit RGB: stored with the network, because its weights have meaning for such pixels only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from engine.checked import Checked
from engine.distributed import is_main
from engine.errors import InputError
from engine.numbers import PositiveInt

Way = Literal["start", "resume", "score"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading(Checked):
    """The values of a raster that a network sees as red, green and blue; None leaves it to the file.

    Attributes:
        bands: numbers, from 1, of the bands that are red, green and blue, or of one grey band; by default those that
            the file marks so, else the first three, else the first.
        value_range: values that become 0 and 255; values beyond them are clipped. Needed unless pixels have 8 bits.
        nodata: value of pixels without data, if files do not state it.

    Raises:
        InputError: there are neither one nor three bands, or the range is empty.
    """

    bands: tuple[PositiveInt, ...] | None = None
    value_range: tuple[float, float] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bands is not None and len(self.bands) not in (1, 3):
            msg = f"bands is {list(self.bands)}; allowed: three numbers, of red, green and blue, or one of grey."
            raise InputError(msg)
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            msg = f"value_range is {list(self.value_range)}; the first value must be below the second."
            raise InputError(msg)

    def given(self) -> dict[str, object]:
        """The options that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, other: Reading) -> Reading:
        """These options, and where one is None that of another."""
        return Reading(
            other.bands if self.bands is None else self.bands,
            other.value_range if self.value_range is None else self.value_range,
            other.nodata if self.nodata is None else self.nodata,
        )


def agreed_reading(data: Reading, network: Mapping[str, object], *, before: str, way: Way) -> dict[str, object]:
    """The values that the network is to be built with.

    Args:
        data: the options that were given with the data.
        network: the values of the architecture that were given with the network, or that its checkpoint has; some may
            be the options of this class.
        before: what stands before their names, such as `model.architecture`.
        way: whether a training starts, goes on, or a trained network is scored. A network is scored on rasters of
            other bands or another range too, and a line says so.

    Raises:
        InputError: a training would see other pixels than the checkpoint states.
    """
    if way == "start":
        for name, asked in data.given().items():
            if (own := network.get(name, asked)) != asked:
                msg = f"data.{name} is {_shown(asked)}, but {before}.{name} is {_shown(own)}; give one of them only."
                raise InputError(msg)
        return {**network, **data.given()}
    for name, asked in data.given().items():
        own = network.get(name)
        if asked == own:
            continue
        if way == "resume":
            msg = (
                f"data.{name} is {_shown(asked)}, but the training that goes on has {_shown(own)}. Leave data.{name} "
                "out, or start a new training from the weights with --model.pretrained."
            )
            raise InputError(msg)
        if is_main():
            _log.warning("data.%s is %s; the network was trained with %s", name, _shown(asked), _shown(own))
    return dict(network)


def _shown(value: object) -> str:
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)
