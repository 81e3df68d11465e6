"""Huge, truncated, wrong and slow input gets a clear error, and the others their answers meanwhile."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import struct
import threading
import time
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image

from deployment.serving.limits import Limits
from tests.deployment.serving.running import Sizes, form, photo, rest, running

SMALL = {"max_bytes": 40_000, "max_pixels": 100_000, "client_seconds": 1.0, "queue": 6}


@pytest.fixture(scope="module")
def work():
    return Sizes()


@pytest.fixture(scope="module")
def server(work):
    with running(work, **SMALL) as ours:
        yield ours
        said = ours.send(body=photo())  # after all that these tests have sent
        assert said.status == 200
        assert said.json()["size_hw"] == [48, 64]
        assert ours.send("GET", "/health").status == 200
        assert ours.metrics()["effdense_held_bytes",] == 0


def bomb(width, height):
    """A PNG of some hundred bytes that states any size."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def scans(count):
    """A progressive JPEG with scans that add nothing, each of which the decoder walks through."""
    content = photo(64, 64, progressive=True)
    place = content.rindex(b"\xff\xda")
    return content[:place] + content[place:-2] * count + b"\xff\xd9"


def tiff_tiles(side):
    """A small TIFF that states one tile of this side."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "TIFF", compression="tiff_deflate", tiffinfo={322: side, 323: side})
    return file.getvalue()


def pieces(kind):
    """A file of a megabyte that is almost all header, of which Pillow reads some bytes at a time."""
    content = photo(8, 8, kind)
    filling, place = {
        "PNG": (bytes(4) + b"aaAa" + struct.pack(">I", zlib.crc32(b"aaAa")), 33),
        "JPEG": (b"\xff\xe5\x00\x02", 2),
        "GIF": (b"\x21\xfe\x01a\x00", 13 + 3 * 2 ** (1 + (content[10] & 7))),
    }[kind]
    return content[:place] + filling * (1_000_000 // len(filling)) + content[place:]


def idats():
    """A PNG whose pixels stand in chunks of a byte each, which are read when it is decoded."""
    content = photo(200, 300, "PNG")
    place = content.index(b"IDAT") - 4
    length = struct.unpack(">I", content[place : place + 4])[0]
    data, rest = content[place + 8 : place + 8 + length], content[place + 12 + length :]
    small = b"".join(
        struct.pack(">I", 1) + b"IDAT" + data[at : at + 1] + struct.pack(">I", zlib.crc32(b"IDAT" + data[at : at + 1]))
        for at in range(length)
    )
    return content[:place] + small + rest


def numbers():
    """A TIFF of floats, which have no agreed range."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(file, "TIFF")
    return file.getvalue()


def webp(side):
    """A small lossless WebP that states another size: 14 bits each, less one (RFC 9649, 3.4)."""
    content = bytearray(photo(32, 32, "WEBP", lossless=True))
    place = content.index(b"VP8L") + 9
    content[place : place + 4] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    return bytes(content)


CASES = {
    "no body": (b"", 400, "has no image"),
    "text": (b"hello " * 50, 415, "no image of a known kind; allowed: AVIF"),
    "json": (b'{"image": "..."}', 415, "no image of a known kind"),
    "a page": (b"<html>" * 20, 415, "no image"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no image"),
    "zeros": (bytes(5000), 415, "no image"),
    "half a JPEG": (photo(200, 300)[:4000], 400, "truncated"),
    "a JPEG's first bytes": (photo()[:20], 415, "no image"),
    "half a PNG": (photo(60, 60, "PNG")[:900], 400, "."),
    "a PNG without a width": (bomb(0, 10), 415, "no image"),
    "a bomb": (bomb(60_000, 60_000), 413, "60000 x 60000 pixels, 3,600,000,000 in all; allowed: 100,000"),
    "a bomb beyond 32 bits": (bomb(2**31 - 1, 2**31 - 1), 413, "pixels"),
    "one pixel row too many": (photo(1001, 100, quality=10), 413, "100 x 1001 pixels"),
    "scans": (scans(300), 400, "scans; allowed: 100"),
    "too many bytes": (bytes(50_000), 413, "50,000 bytes; allowed: 40,000"),
    "a TIFF without tags": (b"II*\0" + bytes(40), 415, "no image"),
    "a TIFF of numbers": (numbers(), 400, "float pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_wrong_images(server, name):
    content, status, words = CASES[name]
    began = time.monotonic()
    reply = server.send(body=content)
    assert time.monotonic() - began < 5
    said = reply.json()
    assert (reply.status, said["status"]) == (status, status), said
    assert words in said["error"]
    assert set(said) == {"status", "error"}
    assert not re.search(r"Traceback|0x|/usr|\.py", said["error"])
    assert len(said["error"]) < 300


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (*form(photo(), photo()), "Too many files"),
        (*form(), "has no image"),
        (*form(b""), "has no image"),
        (b"nonsense", {"Content-Type": "multipart/form-data; boundary=edge"}, "."),
        (b"nonsense", {"Content-Type": "multipart/form-data"}, "boundary"),
        (form(photo())[0][:300], form()[1], "."),
        (b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n", form()[1], "name"),
    ],
)
def test_wrong_forms(server, body, headers, words):
    reply = server.send(body=body, headers=headers)
    assert reply.status == 400
    assert words in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/predict?as=xml", 400, "as is 'xml'"),
        ("POST", "/predict?masks=all", 400, "masks is 'all'"),
        ("GET", "/predict", 405, "POST /predict"),
        ("GET", "/../../etc/passwd", 404, "no such address"),
        ("PUT", "/nothing", 404, "no such address"),
    ],
)
def test_wrong_addresses(server, method, path, status, words):
    reply = server.send(method, path, body=photo())
    assert reply.status == status
    assert words in reply.json()["error"]


def test_a_body_far_beyond_the_limit_is_not_read_to_its_end(server):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000000\r\n\r\n"
    began = time.monotonic()
    assert b" 413 " in server.raw(head)
    assert time.monotonic() - began < 1
    with_question = b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 50000\r\n\r\n"
    assert server.raw(with_question).startswith(b"HTTP/1.1 413 ")  # no 100 before it: the body is not sent
    chunks = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    before = server.metrics()["effdense_requests_total", "413"]
    server.raw(chunks, *(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(1000)))  # its answer may be lost
    assert server.metrics()["effdense_requests_total", "413"] == before + 1
    assert server.send(body=photo()).status == 200


def test_a_slow_body_and_a_slow_head(server):
    content = photo()
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    began = time.monotonic()
    replies = {}

    def trickle(name, start, drops):
        replies[name] = server.raw(start, *drops, pause=0.15)

    threads = [
        threading.Thread(target=trickle, args=("body", head + content[:50], [content[50:51]] * 30)),
        threading.Thread(target=trickle, args=("head", b"POST /predict HTTP/1.1\r\n", [b"X: y\r\n"] * 30)),
        threading.Thread(target=trickle, args=("nothing", b"", [])),
    ]
    for thread in threads:
        thread.start()
    assert server.send(body=content).status == 200  # meanwhile
    for thread in threads:
        thread.join(15)
    assert time.monotonic() - began < 10
    assert b" 408 " in replies["body"]
    assert b"of the body had come" in replies["body"]
    assert b" 408 " in replies["head"]
    assert b"head did not come" in replies["head"]
    assert replies["nothing"] == b""


def test_a_second_request_on_a_connection_may_not_be_slow_either(server):
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"G")
                time.sleep(0.1)
        assert time.monotonic() - began < 3


def test_nonsense_instead_of_http(server):
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"\r\n" * 50,
        b"A" * 100_000,
    ):
        said = server.raw(nonsense)
        assert not said or said.startswith(b"HTTP/1.1 4")


def test_an_answer_that_nobody_fetches_is_dropped():
    with running(Sizes(), client_seconds=1.0, max_pixels=9_000_000) as server:
        noise, file = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=50)
        content = file.getvalue()  # as PNG more than the system's own buffers take
        head = "POST /predict?as=picture HTTP/1.1\r\nAccept: image/png\r\nHost: a\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head.encode() + content)
            until = time.monotonic() + 15
            while ("effdense_requests_total", "200") not in server.metrics():
                assert time.monotonic() < until
                time.sleep(0.1)
            time.sleep(1.5)
            assert len(server.server.server_state.connections) == 0


def test_a_full_queue_is_503_with_a_time_and_a_late_answer_504():
    work = Sizes()
    work.free.clear()
    with running(work, batch_size=1, queue=2, answer_seconds=2.0) as server:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(server.send(body=photo()))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {503, 504}
        assert 3 <= statuses.count(504) <= 6  # the network's, the queue, the ready one, the readers
        for reply in replies:
            assert int(reply.headers["retry-after"]) >= 1
            assert ("is busy" if reply.status == 503 else "no answer within 2 s") in reply.json()["error"]
        assert server.send("GET", "/health").status == 200
        work.free.set()
        until = time.monotonic() + 20  # those that were given up leave the queue one after the other
        while (status := server.send(body=photo()).status) == 503 and time.monotonic() < until:
            time.sleep(0.05)
        assert status == 200
        assert sum(work.batches) == 2  # those that were given up were not computed


def test_a_client_that_is_gone_costs_no_computing():
    work = Sizes()
    work.free.clear()
    with running(work, batch_size=1) as server:
        first = threading.Thread(target=server.send, kwargs={"body": photo()})
        first.start()
        assert work.begun.wait(10)
        content = photo()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
            )
            time.sleep(0.3)
        time.sleep(0.3)
        work.free.set()
        first.join(10)
        assert server.send(body=photo()).status == 200
        assert sum(work.batches) == 2
        assert server.metrics()["effdense_requests_total", "499"] == 1


def test_bodies_of_all_requests_have_a_common_limit():
    with running(Sizes(), queue=1, max_bytes=50_000) as server:
        assert Limits(queue=1, max_bytes=50_000).held_bytes == 50_000
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + bytes(39_000))
            time.sleep(0.3)
            reply = server.send(body=photo(200, 300, quality=95))
            assert reply.status == 503
            assert "hold all memory" in reply.json()["error"]
        time.sleep(0.3)
        assert server.send(body=photo(200, 300, quality=95)).status == 200


def test_one_connection_too_many_is_503():
    with running(Sizes(), connections=3) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        time.sleep(0.2)
        reply = server.send("GET", "/health")
        assert reply.status == 503
        assert reply.headers["retry-after"]
        assert "connections" in reply.json()["error"]
        more = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        more[-1].settimeout(5)
        assert rest(more[-1]) == b""  # of many too many, none is kept
        for connection in (*idle, *more):
            connection.close()
        time.sleep(0.3)
        assert server.send("GET", "/health").status == 200


def test_a_network_that_fails_says_so_and_goes_on():
    class Failing(Sizes):
        def compute(self, images):
            if any(image.shape[0] == 13 for image in images):
                raise RuntimeError("out of memory in /usr/lib")
            return super().compute(images)

    with running(Failing()) as server:
        reply = server.send(body=photo(13, 20))
        assert reply.status == 500
        assert "/usr" not in reply.json()["error"]
        assert server.send(body=photo()).status == 200


@pytest.mark.parametrize("content", [pieces("PNG"), pieces("JPEG"), pieces("GIF"), idats()])
def test_a_file_of_many_pieces_is_not_read_to_its_end(content):
    with running(Sizes()) as server:
        began = time.process_time()
        reply = server.send(body=content)
        assert reply.status == 400
        assert "cut into more than 20,000 pieces" in reply.json()["error"]
        assert time.process_time() - began < 1.5


def test_bombs_take_no_memory(server):
    """Formats whose decoders prepare memory when a file is opened, beyond Pillow's check."""
    process = psutil.Process()
    before = process.memory_info().rss
    peak, ended = [before], threading.Event()

    def watch():
        while not ended.wait(0.002):
            peak.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for content in (webp(16_000), bomb(40_000, 40_000), tiff_tiles(30_000)):
        assert server.send(body=content).status in (200, 400, 413)
    ended.set()
    watcher.join()
    assert max(peak) - before < 100e6
