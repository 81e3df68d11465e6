"""Time a training step under several settings of OpenMP's waiting threads, on an idle and on a busy machine.

    python benchmarks/threads.py

A worker process for each setting holds an EfficientDet-Lite0 on CPU; they take turns, first with nothing else running,
then beside one busy process for each core. The output is the minimum and the median time of a step, and each setting's
ratio to the default of OpenMP in the same condition (below 1: faster). Beside as many busy processes as cores, half of
the processor's time is available, so that a fair slow-down is about 2.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each turn")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), help="height and width of the images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.size, given.batch, given.steps)
        return
    options = ["--worker", "--steps", str(given.steps), "--batch", str(given.batch), "--size", *map(str, given.size)]
    workers = {name: start(setting, options) for name, setting in SETTINGS.items()}
    print(f"{processor()}; {os.cpu_count()} cores; a step of {given.batch} images of {given.size[0]} x {given.size[1]}")
    for condition, busy in (("idle", 0), ("busy", os.cpu_count() or 1)):
        others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(given.rounds):
            for name, worker in workers.items():
                seconds[name] += turn(worker)
        for other in others:
            other.terminate()
        print(f"\n{condition}: {busy} other processes")
        print(f"  {'setting':12} {'minimum':>9} {'median':>9}   ratio to the default")
        usual = seconds["default"]
        for name, values in seconds.items():
            low, middle = min(values), statistics.median(values)
            ratios = f"{low / min(usual):.2f} / {middle / statistics.median(usual):.2f}"
            print(f"  {name:12} {1000 * low:6.0f} ms {1000 * middle:6.0f} ms   {ratios}", flush=True)
    for worker in workers.values():
        worker.kill()


def start(setting: dict[str, str], options: list[str]) -> subprocess.Popen[str]:
    """Start a worker process and wait until it has warmed up."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {**setting, "PYTHONPATH": str(HERE)}
    command = [sys.executable, __file__, *options]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    turn(worker)
    return worker


def turn(worker: subprocess.Popen[str]) -> list[float]:
    """Seconds of each step of one turn."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return [float(word) for word in worker.stdout.readline().split()]


def work(size_hw: tuple[int, int], batch: int, steps: int) -> None:
    """Run training steps for each line on standard input."""
    import torch

    from detection.data.batch import DetectionBatch
    from detection.network.loss_settings import DetectionLoss
    from detection.network.model import EfficientDet

    torch.manual_seed(0)
    detector = EfficientDet("lite0", num_classes=7, image_size=tuple(size_hw)).train()
    detector = detector.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-4, momentum=0.9)
    boxes = torch.tensor([[10.0, 10.0, 90.0, 80.0], [100.0, 40.0, 180.0, 120.0]]).expand(batch, 2, 4)
    images = torch.randint(0, 256, (batch, 3, *size_hw), dtype=torch.uint8)
    class_ids, ones = torch.zeros(batch, 2, dtype=torch.int64), torch.ones(batch)
    data = DetectionBatch(images, boxes, class_ids, torch.arange(batch), ones, torch.tensor([size_hw] * batch))
    for _ in sys.stdin:
        seconds = []
        for _ in range(steps):
            begin = time.perf_counter()
            losses = detector.losses(data, DetectionLoss())
            optimizer.zero_grad()
            losses.total(losses.positives + 1, 50.0).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - begin)
        print(*seconds, flush=True)


def spin() -> None:
    """Keep one core busy."""
    while True:
        pass


def processor() -> str:
    """The processor's name and the vector instructions that it has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    known = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = known.get("flags", "").split()
    vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in flags]
    return f"{known.get('model name', 'unknown processor')} ({', '.join(vectors)})"


if __name__ == "__main__":
    main()
