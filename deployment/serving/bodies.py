"""The image of a request: the body itself or the one file of a form, within limits of bytes and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deployment.serving.limits import Limits, RefusedError, busy

_EMPTY = "the request has no image. Send a file's bytes as the body, or a form with one file."
READ_ON = 8  # times the limit: as much of a body that is too large is read, so that its client gets to read the answer


class Bodies:
    """Reads bodies; those of all requests together are bounded too.

    Args:
        limits: bytes and seconds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @asynccontextmanager
    async def image(self, request: Request) -> AsyncIterator[bytes]:
        """The image's file, for as long as the block lasts.

        Raises:
            RefusedError: it is too large, too slow, missing or no form; or bodies hold all that they may.
            ClientDisconnect: the client is gone.
        """
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._limits.client_seconds):
                    await self._read(request, body)
            except TimeoutError:
                raise RefusedError(408, _slow(len(body), self._limits.client_seconds), close=True) from None
            yield await self._unpacked(request.headers, bytes(body))
        finally:
            self.held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        most = self._limits.max_bytes
        stated = _stated_length(request.headers)
        asks_first = request.headers.get("expect", "").lower() == "100-continue"
        if stated > most and (asks_first or stated > READ_ON * most):
            raise RefusedError(413, _too_large(stated, most), close=True)
        left_out = 0
        async for chunk in request.stream():
            if left_out or len(body) + len(chunk) > most:
                left_out += len(chunk)
                if len(body) + left_out > READ_ON * most:
                    raise RefusedError(413, _too_large(0, most), close=True)
                continue
            if self.held_bytes + len(chunk) > self._limits.held_bytes:
                what = "other requests hold all memory for images"
                raise RefusedError(503, busy(what), retry_seconds=1, close=True)
            body += chunk
            self.held_bytes += len(chunk)
        if left_out:
            raise RefusedError(413, _too_large(len(body) + left_out, most))
        if not body:
            raise RefusedError(400, _EMPTY)

    async def _unpacked(self, headers: Headers, body: bytes) -> bytes:
        """The body, or the file in it."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            return body
        parser = MultiPartParser(headers, _once(body), max_files=1, max_fields=8)
        parser.spool_max_size = len(body) + 1  # in memory
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise RefusedError(400, _no_form(error.message)) from error
        sent = [entry for _, entry in form.multi_items() if isinstance(entry, UploadFile)]
        content = await sent[0].read() if sent else b""
        await form.close()
        if not content:
            raise RefusedError(400, _EMPTY)
        return content


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _stated_length(headers: Headers) -> int:
    """The length that a request states; 0 without one."""
    stated = headers.get("content-length", "0")
    return int(stated) if stated.isdecimal() else 0


def _too_large(count: int, most: int) -> str:
    given = f"{count:,} bytes" if count else "more bytes than are read"
    return f"the body has {given}; allowed: {most:,}. Send a smaller image, or start the server with --max_bytes."


def _slow(count: int, seconds: float) -> str:
    return (
        f"after {seconds:g} s {count:,} bytes of the body had come, and not all. Send it faster, or start the server "
        "with --client_seconds."
    )


def _no_form(reason: str) -> str:
    return f"the body is no form with one file: {reason.rstrip('.')}. Send one, or a file's bytes as the body."
