"""A server in a thread of the test's process, on a port of its own, and requests to it."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from deployment.serving.app import Served, Service
from deployment.serving.command import bound, server_for
from deployment.serving.limits import Limits
from detection.prediction.found import Found
from engine.reading.pixels import pixels_of
from tests.deployment.networks import picture


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)


class Server(NamedTuple):
    """A running server: its port, and what stops it."""

    port: int
    server: object
    thread: threading.Thread

    def send(self, method="POST", path="/predict", body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers or {})
        got = connection.getresponse()
        reply = Reply(got.status, got.headers, got.read())
        connection.close()
        return reply

    def raw(self, *pieces, pause=0.0):
        """What comes back for bytes as they are, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    break
                time.sleep(pause)
            return rest(connection)

    def metrics(self):
        from prometheus_client.parser import text_string_to_metric_families

        text = self.send("GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


def rest(connection):
    found = b""
    try:
        while more := connection.recv(65536):
            found += more
    except ConnectionResetError:
        pass
    return found


@contextmanager
def running(work, task="detection", **limits):
    """A server of this work."""
    some = Limits(**{"wait_ms": 5, "client_seconds": 10, **limits})
    listener = bound("127.0.0.1", 0)
    server = server_for(Service(Served(task, "tiny.ckpt", "0.0"), work, some).app(), some)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    ours = Server(listener.getsockname()[1], server, thread)
    try:
        yield ours
    finally:
        ours.stop()


class Sizes:
    """Finds one object in each image, which fills it; the network can be held."""

    def __init__(self):
        self.batches = []
        self.free = threading.Event()
        self.free.set()
        self.begun = threading.Event()

    def prepare(self, content):
        return pixels_of(content)

    def pixels(self, prepared):
        return prepared.shape[0] * prepared.shape[1]

    def compute(self, images):
        self.batches.append(len(images))
        self.begun.set()
        assert self.free.wait(20)
        return [whole(image.shape[:2]) for image in images]


def whole(size_hw):
    box = np.array([[0, 0, size_hw[1], size_hw[0]]], np.float32)
    one = np.ones(1)
    return Found(box, one.astype(np.float32), ["thing"], one.astype(np.int64), one.astype(np.int64), size_hw)


def photo(height=48, width=64, kind="JPEG", seed=0, **options):
    """The bytes of a picture's file."""
    file = io.BytesIO()
    Image.fromarray(picture(height, width, seed)).save(file, kind, **options)
    return file.getvalue()


def form(*files, boundary="edge"):
    """A body and headers with files."""
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n%b\r\n'
        % (boundary.encode(), file)
        for file in files
    )
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}
