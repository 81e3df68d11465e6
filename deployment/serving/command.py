"""`python -m deployment serve`: a network behind HTTP."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deployment.serving.limits import Limits
from engine.cli.commands import installed_version, parse_function, program, run_command
from engine.errors import InputError
from engine.exports.extras import needed
from engine.numbers import Port, ZeroToBelowOne

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI


def serve(
    ckpt_path: str,
    task: Literal["detection", "segmentation", "joint", "classification"] | None = None,
    host: str = "127.0.0.1",
    port: Port = 8000,
    device: str = "cpu",
    score_threshold: ZeroToBelowOne | None = None,
    limits: Limits = Limits(),
) -> None:
    """Answer requests over HTTP: POST /predict takes an image; `/` is a page that shows the answer in a browser.

    Ends with SIGTERM or Ctrl-C, after the requests that it has taken are answered. It knows no passwords and no
    encryption: beyond this machine, put it behind a server that does.

    Args:
        ckpt_path: checkpoint; `best` or `last` of the latest run of `task`; the name of a published detector; a weight
            file; or a file that `export` wrote.
        task: the task, where the file does not say.
        host: address that is listened on; 0.0.0.0 is every one of this machine.
        port: port that is listened on; 0 takes a free one.
        device: where a checkpoint computes, such as cuda:0; exported files compute on the CPU.
        score_threshold: boxes above this score are answers; null is 0.3. Not for segmentation or classification.
        limits: how much is taken at a time.
    """
    needed("fastapi", "uvicorn", "python_multipart", "prometheus_client", extra="serve")
    with bound(host, port) as listener:  # a port that is taken is told before the network is loaded
        from deployment.serving.app import Served, service_of
        from deployment.serving.predicting import open_predictor

        predictor, known = open_predictor(ckpt_path, task, device, score_threshold)
        served = Served(known, Path(ckpt_path).name, installed_version().partition(":")[0])
        service = service_of(served, predictor, limits)
        address = f"[{host}]" if ":" in host else host

        def tell() -> None:
            sys.stdout.write(f"{known} with '{ckpt_path}' on http://{address}:{listener.getsockname()[1]}\n")
            sys.stdout.flush()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn raises a signal again once it has ended for it
        server_for(service.app(), limits, tell).run(sockets=[listener])


def server_for(app: FastAPI, limits: Limits, tell: Callable[[], object] = lambda: None) -> uvicorn.Server:
    """The server of an application.

    Args:
        app: the application.
        limits: see `Limits`.
        tell: called when clients can connect.
    """
    import uvicorn

    from deployment.serving.connections import TellingServer, protocol_with

    config = uvicorn.Config(
        app, http=protocol_with(limits), ws="none", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=round(limits.client_seconds + limits.answer_seconds) + 5,
    )  # fmt: skip
    return TellingServer(config, tell)


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address; nobody can connect until it listens."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, str(port), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        msg = f"cannot listen on {host}, port {port}: {error.strerror or error}. Give another --host or --port."
        raise InputError(msg) from error
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns 2 after one short line of error, else 0."""

    def act() -> None:
        description = (serve.__doc__ or "").partition("\n\n    Args:")[0]
        command = f"{program('deployment')} serve"
        serve(**parse_function(serve, command, argv, description, groups={"limits": Limits}))

    return run_command(act)
