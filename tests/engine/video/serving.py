"""A small web server for the tests of streams: videos, whole or broken off, and a camera that sends one JPEG after the
other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np


@contextmanager
def serving(videos, pictures=(), pause=0.0) -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it was asked for.

    Args:
        videos: by path, the bytes that are sent and the length that is stated.
        pictures: RGB pictures that `/camera` sends, after which it ends.
        pause: seconds between these.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/camera"):
                return self.send_camera()
            data, stated = videos[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "video/webm")
            self.send_header("Content-Length", str(stated))
            self.end_headers()
            self.wfile.write(data)
            return None

        def send_camera(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            for picture in pictures:
                jpeg = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
                head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    self.wfile.flush()
                except OSError:
                    return
                stopped.wait(pause)

        def log_message(self, *_):
            pass

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
