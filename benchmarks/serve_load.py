"""The server under load: many clients on loopback for minutes, beside the predictor alone at the batch it reaches.

    python benchmarks/serve_load.py --ckpt_path bccd_lite0.ckpt --images BCCD/images

The load comes from wrk where it is installed (`apt-get install wrk`), and else from this script, whose clients compare
each answer with the predictor's own; `--client python` asks for those. The predictor alone is given the bytes of the
same files, before the load and after it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.hardware.machine import in_words, machine
from engine.threads import set_up_threads

ROUNDS, ROUND_SECONDS = 3, 10.0
HEAD = "POST /predict?masks=none HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
WRK = """
local bodies = {%s}
local place = 0
function request()
  place = place %% #bodies + 1
  return wrk.format("POST", "/predict?masks=none", nil, bodies[place])
end
function done(summary, latency, requests)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('{"answered": %%d, "seconds": %%.3f, "not_ok": %%d, "broken": %%d, ',
    summary.requests, summary.duration / 1e6, errors.status, broken))
  io.write(string.format('"median": %%.3f, "p99": %%.3f}', latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt_path", default="tf_efficientdet_lite0", help="what `serve` takes")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs; the first 40 are sent")
    parser.add_argument("--task", default="detection")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--client", choices=("wrk", "python"), default="wrk" if shutil.which("wrk") else "python")
    args = parser.parse_args()
    set_up_threads()
    from deployment.serving.predicting import open_predictor

    contents = [path.read_bytes() for path in sorted(args.images.iterdir())[:40] if path.is_file()]
    predictor, task = open_predictor(args.ckpt_path, args.task, "cpu", None)
    print(in_words(machine()))
    print(f"{len(contents)} images of {statistics.mean(map(len, contents)) / 1e3:.0f} kB; {args.client}")
    predictor.predict_many(contents[: args.batch_size], batch_size=args.batch_size)
    before = [alone(predictor, contents, args.batch_size) for _ in range(ROUNDS)]
    expected = answers(predictor, contents, task) if args.client == "python" else []

    command = f"-m deployment serve --ckpt_path {args.ckpt_path} --task {task} --port 0 --batch_size {args.batch_size}"
    server = subprocess.Popen([sys.executable, *command.split()], stdout=subprocess.PIPE, text=True)
    address = server.stdout.readline().split()[-1]
    memory = Memory(server.pid)
    try:
        ask(address, contents[0])
        memory.start()
        if args.client == "wrk":
            load = with_wrk(address, contents, args.clients, args.seconds)
        else:
            load = asyncio.run(with_python(address, contents, expected, args.clients, args.seconds))
        memory.stop()
        counts = metrics(address)
    finally:
        server.send_signal(signal.SIGTERM)
    print(f"the server ended with status {server.wait(90)}")
    reached = counts["effdense_batch_images_sum"] / counts["effdense_batch_images_count"]
    after = [alone(predictor, contents, round(reached)) for _ in range(ROUNDS)]

    rate, own = load["answered"] / load["seconds"], [*before, *after]
    print(f"load        {json.dumps(load)}")
    statuses = {name: count for name, count in counts.items() if name.startswith("effdense_requests_total")}
    print(f"statuses    {statuses}")
    print(f"batch       {reached:.2f} images on average, of {args.batch_size}")
    print(f"memory      {memory.text()}")
    print(f"server      {rate:.2f} images/s")
    rounds = ", ".join(f"{one:.2f}" for one in own)
    print(f"alone       minimum {min(own):.2f}, median {statistics.median(own):.2f} images/s; rounds {rounds}")
    print(f"ratio       {rate / statistics.median(own):.3f} of the median, {rate / max(own):.3f} of the best round")


def alone(predictor: object, contents: list[bytes], batch_size: int) -> float:
    """Images a second of the predictor without a server."""
    images = itertools.cycle(contents)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < ROUND_SECONDS:
        count += len(predictor.predict_many(list(itertools.islice(images, batch_size)), batch_size=batch_size))
    return count / (time.perf_counter() - started)


def answers(predictor: object, contents: list[bytes], task: str) -> list[dict[str, object]]:
    """What the server has to say of each image, computed one by one."""
    from deployment.serving.answers import document_of

    return [{"task": task, **document_of(predictor.predict(content), "none")} for content in contents]


def ask(address: str, content: bytes) -> None:
    """One request, after which everything is loaded; the listener may be some milliseconds away."""
    for _ in range(50):
        try:
            urllib.request.urlopen(f"{address}/predict", content, timeout=60).read()
            return
        except ConnectionError:
            time.sleep(0.1)
        except urllib.error.URLError:
            time.sleep(0.1)


def metrics(address: str) -> dict[str, float]:
    """The server's counts."""
    text = urllib.request.urlopen(f"{address}/metrics").read().decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@dataclass
class Memory:
    """Resident memory of a process, in megabytes, once a second."""

    pid: int
    samples: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        process = psutil.Process(self.pid)
        while True:
            self.samples.append(process.memory_info().rss / 1e6)
            if self._ended.wait(1):
                return

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def text(self) -> str:
        """The first sample, the middle one, the last and the largest."""
        some = self.samples
        quarters = [round(some[len(some) * part // 4]) for part in (1, 3)]
        return (
            f"start {some[0]:.0f} MB, quarter {quarters[0]}, middle {some[len(some) // 2]:.0f}, three quarters "
            f"{quarters[1]}, end {some[-1]:.0f}, largest {max(some):.0f}"
        )


def with_wrk(address: str, contents: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    """The load by wrk."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        # Lua takes any byte as a number after a backslash.
        bodies = ",".join('"' + "".join(f"\\{byte:03d}" for byte in content) + '"' for content in contents)
        script.write(WRK % bodies)
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "-s", script.name, address]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(said[said.rindex('{"answered"') :])


async def with_python(
    address: str, contents: list[bytes], expected: list[dict[str, object]], clients: int, seconds: float
) -> dict[str, float]:
    """The load by clients of this process, each with a connection that stays open."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    until, places = time.perf_counter() + seconds, itertools.count()
    latencies: list[float] = []
    bad = {"not_ok": 0, "broken": 0, "other_answers": 0}

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < until:
            place, started = next(places) % len(contents), time.perf_counter()
            try:
                writer.write(HEAD.format(len(contents[place])).encode() + contents[place])
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
            except (OSError, EOFError):
                bad["broken"] += 1
                reader, writer = await asyncio.open_connection(host, int(port))
                continue
            latencies.append(time.perf_counter() - started)
            bad["not_ok"] += " 200 " not in head.partition("\r")[0]
            bad["other_answers"] += not same(json.loads(body), expected[place])
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    ordered = sorted(latencies)
    spent = {"median": round(statistics.median(ordered), 3), "p99": round(ordered[int(0.99 * len(ordered))], 3)}
    return {"answered": len(ordered), "seconds": round(time.perf_counter() - started, 3), **bad, **spent}


def same(found: dict[str, object], expected: dict[str, object]) -> bool:
    """Whether two answers have the same objects; a batch rounds other than a single image does."""

    def rounded(answer: dict[str, object]) -> list[object]:
        return [(one["label"], round(one["score"], 2)) for one in answer.get("objects", [])]

    pairs = zip(rounded(found), rounded(expected), strict=False)
    same_objects = len(found.get("objects", [])) == len(expected.get("objects", []))
    return same_objects and all(abs(one[1] - other[1]) <= 0.011 for one, other in pairs)


if __name__ == "__main__":
    main()
