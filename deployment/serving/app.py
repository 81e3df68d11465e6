"""The addresses of the server: the page, the answers, health and counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deployment.serving.answers import Form, Masks, document_of, form_of, picture_of, with_picture
from deployment.serving.batches import Batcher, Work
from deployment.serving.bodies import Bodies
from deployment.serving.limits import Limits, RefusedError
from deployment.serving.metrics import TEXT, Metrics
from deployment.serving.pictures import check_header
from deployment.serving.predicting import AnyAnswer, AnyPredictor, PredictorWork, TiledWork, is_tiled
from engine.errors import InputError

GONE = 499  # nginx's status for a client that did not wait; nobody reads it but the counts
DRAWERS = 2  # threads that read headers, draw, and pack masks
Prepared = TypeVar("Prepared")
Value = TypeVar("Value")
_log = logging.getLogger(__name__)
# The page holds its script and style, and shows pictures that it made itself; nothing comes from elsewhere.
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": _FILE}, "required": ["image"]}
            },
        },
    }
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    """What is served.

    Attributes:
        task: its task.
        name: the file's name.
        version: of this program.
    """

    task: str
    name: str
    version: str


class Service:
    """One network and the requests for it.

    Args:
        served: what it is.
        work: what is done with images.
        limits: how much is taken.
    """

    def __init__(self, served: Served, work: Work[Prepared, AnyAnswer], limits: Limits) -> None:
        self._served = served
        self._limits = limits
        self._bodies = Bodies(limits)
        self._drawers = ThreadPoolExecutor(DRAWERS, "drawer")
        self._batcher = Batcher(work, limits, lambda images, seconds: self._metrics.batch(images, seconds))
        self._metrics = Metrics(lambda: self._batcher.waiting, lambda: self._bodies.held_bytes)
        self._page = files("deployment.serving").joinpath("page/index.html").read_text("utf-8")

    def app(self) -> FastAPI:
        """The application."""
        app = FastAPI(
            title=f"EffDense: {self._served.task}", version=self._served.version, lifespan=self._running,
            docs_url=None, redoc_url=None,
        )  # fmt: skip
        app.add_api_route("/", self.page, methods=["GET"], response_class=HTMLResponse)
        app.add_api_route("/predict", self.predict, methods=["POST"], response_class=Response, openapi_extra=_BODY)
        app.add_api_route("/health", self.health, methods=["GET"], response_class=JSONResponse)
        app.add_api_route("/metrics", self.counts, methods=["GET"], response_class=Response)
        app.add_exception_handler(HTTPException, _other)
        app.add_exception_handler(RequestValidationError, _invalid)
        return app

    @asynccontextmanager
    async def _running(self, _: FastAPI) -> AsyncIterator[None]:
        self._batcher.start()
        yield
        await asyncio.to_thread(self._batcher.stop)
        self._drawers.shutdown()

    async def page(self) -> Response:
        """The page that takes a picture and shows the answer."""
        return HTMLResponse(self._page, headers=_PAGE_HEADERS)

    async def health(self) -> Response:
        """Whether images are taken: 200, or 503."""
        alive = self._batcher.alive
        said = {
            "status": "ok" if alive else "down", "task": self._served.task, "network": self._served.name,
            "version": self._served.version,
        }  # fmt: skip
        return JSONResponse(said, 200 if alive else 503)

    async def counts(self) -> Response:
        """What the server counts, for Prometheus."""
        return Response(self._metrics.text(), media_type=TEXT)

    async def predict(
        self,
        request: Request,
        as_: Annotated[Literal["json", "picture"] | None, Query(alias="as")] = None,
        masks: Masks = "rle",
        draw: bool = False,
    ) -> Response:
        """The answer for one image.

        Args:
            request: its body is the image's file, or a form with one file.
            as_: JSON, or the image with the answer drawn on it; by default what the header `Accept` asks for.
            masks: masks in the JSON as run lengths of COCO, as PNG in base64, or left out.
            draw: put the drawn picture into the JSON too.
        """
        started = time.monotonic()
        try:
            form = form_of(as_, request.headers.get("accept", ""))
            async with self._bodies.image(request) as content:
                reply = await self._reply(request, content, form, masks, draw=draw)
        except RefusedError as refused:
            reply = _error(refused.status, str(refused), refused.headers)
        except ClientDisconnect:
            reply = Response(status_code=GONE)
        except InputError as error:
            reply = _error(400, str(error).replace("'bytes'", "of the body"))
        except Exception:
            _log.exception("a request was not answered")
            reply = _error(500, "the image could not be computed; the server's log says why. Send another.")
        self._metrics.request(reply.status_code, time.monotonic() - started)
        return reply

    async def _reply(self, request: Request, content: bytes, form: Form, masks: Masks, *, draw: bool) -> Response:
        await self._aside(lambda: check_header(content, self._limits.max_pixels))
        answer = await self._answer(request, self._batcher.submit(content))

        def packed() -> Response:
            if form != "application/json":
                return Response(picture_of(answer, content, form), media_type=form)
            document = {"task": self._served.task, **document_of(answer, masks)}
            return JSONResponse(with_picture(document, answer, content) if draw else document)

        return await self._aside(packed)

    async def _answer(self, request: Request, answer: Future[AnyAnswer]) -> AnyAnswer:
        """The answer, as long as its client waits and not for longer than the limit."""
        waiting = asyncio.wrap_future(answer)
        gone = asyncio.ensure_future(_disconnected(request))
        seconds = self._limits.answer_seconds
        try:
            await asyncio.wait((waiting, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if gone.done():
                raise ClientDisconnect
            msg = (
                f"there was no answer within {seconds:g} s. Send the request again later, or start the server with "
                "--answer_seconds."
            )
            raise RefusedError(504, msg, retry_seconds=seconds)
        finally:
            gone.cancel()
            waiting.cancel()  # an image that nobody waits for is not computed

    async def _aside(self, act: Callable[[], Value]) -> Value:
        """What takes milliseconds is done by another thread than the one that serves all clients."""
        return await asyncio.get_running_loop().run_in_executor(self._drawers, act)


def service_of(served: Served, predictor: AnyPredictor, limits: Limits) -> Service:
    """The service of a predictor."""
    if is_tiled(predictor):
        return Service(served, TiledWork(predictor), limits)
    return Service(served, PredictorWork(predictor), limits)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"status": status, "error": message}, status, headers)


async def _other(_: Request, error: Exception) -> Response:
    """Addresses and methods that there are not."""
    assert isinstance(error, HTTPException)
    said = {404: "there is no such address", 405: "there is no such method here"}.get(error.status_code, error.detail)
    text = f"{said}. Use POST /predict, GET /health, GET /metrics, or GET / for the page."
    return _error(error.status_code, text, dict(error.headers or {}))


async def _invalid(_: Request, error: Exception) -> Response:
    """Options in the address that are not allowed."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _error(400, f"{first['loc'][-1]} is {first['input']!r:.40}: {first['msg']}. Correct it, or leave it out.")
