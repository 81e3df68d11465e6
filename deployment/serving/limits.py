"""What the server takes at most, and the one error by which it says no."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Limits(Checked):
    """How much a server takes at a time, and how long it waits.

    Attributes:
        batch_size: images that are computed together at most.
        wait_ms: milliseconds that the first image of a batch waits for others.
        queue: images that wait for the network at most; a further one is refused with 503.
        max_bytes: bytes of a request's body at most.
        max_pixels: pixels of an image at most, and of a batch beyond its first image.
        client_seconds: how long a client may take to send a request's head, to send its body, and to fetch the answer.
        answer_seconds: how long an answer may take from the end of the request; then the client is told so with 504.
        connections: open connections at most.
    """

    batch_size: PositiveInt = 8
    wait_ms: NonNegativeFloat = 10.0
    queue: PositiveInt = 64
    max_bytes: PositiveInt = 10_000_000
    max_pixels: PositiveInt = 16_000_000
    client_seconds: PositiveFloat = 20.0
    answer_seconds: PositiveFloat = 60.0
    connections: PositiveInt = 512

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies of all requests together: a full queue of the largest."""
        return self.queue * self.max_bytes


class RefusedError(InputError):
    """A request that is not answered with what it asks for.

    Args:
        status: the status of HTTP.
        message: what the client reads.
        retry_seconds: when to ask again; None where that would not help.
        close: whether the connection is closed, as where a body was not read to its end.
    """

    def __init__(self, status: int, message: str, *, retry_seconds: float | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        if retry_seconds is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_seconds)))
        if close:
            self.headers["Connection"] = "close"


def busy(what: str, seconds: float = 1.0) -> str:
    """The message of a server that has as much as it takes.

    Args:
        what: what it has.
        seconds: when to ask again.
    """
    return f"the server is busy: {what}. Send the request again in {max(1, math.ceil(seconds))} s."
