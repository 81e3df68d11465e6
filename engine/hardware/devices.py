"""How many devices a command may use."""

from __future__ import annotations

from engine.errors import InputError
from engine.hardware.precision import device_of
from engine.threads import free_cores

_EACH = 4  # processes for a processor: more is a slip, and takes the memory of the program each time


def check_devices(accelerator: object, devices: object) -> None:
    """Do nothing if a number of devices is none of the processor's, or one that it can bear.

    Args:
        accelerator: of the trainer.
        devices: of the trainer; on a processor each is a process.

    Raises:
        InputError: there are several for each core.
    """
    most = _EACH * free_cores()
    if device_of(accelerator) == "cpu" and str(devices).isdecimal() and int(str(devices)) > most:
        msg = (
            f"trainer.devices is {devices}, but on a processor each device is a process, and this program may use "
            f"{free_cores()} cores. Give --trainer.devices 1, or {most} at the most."
        )
        raise InputError(msg)
