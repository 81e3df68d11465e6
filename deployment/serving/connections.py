"""Connections that do not get stuck: a client that sends no request, or does not fetch its answer, is let go.

Uvicorn bounds how long a connection is idle between requests, and neither a head that comes byte by byte nor an answer
that nobody reads.
"""

from __future__ import annotations

import asyncio
import json

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from deployment.serving.limits import Limits, RefusedError, busy


class PatientProtocol(H11Protocol):
    """Uvicorn's protocol with a limit of time for all that is not a request in progress, and one of connections."""

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request; one connection too many is told so, and of many too many none is taken."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()
        elif len(self.connections) > self.limits.connections:
            self.app = _crowded
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come; the time for a head ends with it."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the answer to be fetched and for another request."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._rest()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.limits.client_seconds, self._expired)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        begun = bool(self.conn.trailing_data[0])  # after a fetched answer it says so too
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        if begun:
            msg = f"the request's head did not come within {self.limits.client_seconds:g} s. Send it faster."
            body = _json(408, msg)
            head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()


def protocol_with(limits: Limits) -> type[PatientProtocol]:
    """The protocol with these limits."""
    return type("LimitedProtocol", (PatientProtocol,), {"limits": limits})


async def _crowded(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """The answer to a client for which there is no connection."""
    refused = RefusedError(503, busy("it has as many connections as it takes"), retry_seconds=1, close=True)
    body = _json(refused.status, str(refused))
    headers = {**refused.headers, "content-type": "application/json", "content-length": str(len(body))}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _json(status: int, message: str) -> bytes:
    return json.dumps({"status": status, "error": message}).encode()
