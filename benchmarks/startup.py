"""How long commands that need no torch take, and what a training imports besides torch and Lightning.

python benchmarks/startup.py [--root CHECKOUT] [--repeats 5]

Each command is run separately, several times, after one run that writes the bytecode; the output is the least and the
median wall time, and the least processor time. The second table is the time to import every module that a training
of one step has imported when it ends, after `import torch, lightning.pytorch.cli`: wall time, processor time, and the
packages that take most of the latter. Use --root to measure another checkout, such as that of an earlier commit.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASKS = ("detection", "segmentation", "joint")
COMMANDS = (
    ("detection", "--help"),
    ("detection", "--version"),
    ("detection", "fit", "--help"),
    ("segmentation", "predict", "--help"),
    ("joint", "validate", "--help"),
    ("detection", "fit", "--config", "configs/detection/gone.yaml"),
    ("detection", "fitt"),
    ("detection", "--model.member", "d0", "fit"),
    ("detection", "validate", "--config", "configs/detection/demo.yaml", "--ckpt_path", "gone.ckpt"),
)
SMALL = {
    "detection": ["--model.architecture.image_size", "[128, 128]"],
    "segmentation": ["--data.crop_size", "64"],
    "joint": ["--data.canvas_size", "128"],
}
MARK = "=== torch and lightning are imported"
TRAIN = f"""
import runpy, sys
import torch, lightning.pytorch, lightning.pytorch.cli
sys.stderr.write("{MARK}\\n")
sys.argv[0] = sys.argv.pop(1)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
IMPORT = """
import collections, importlib, sys, time
import torch, lightning.pytorch, lightning.pytorch.cli
wall, used, each = time.perf_counter(), time.process_time(), collections.Counter()
for name in open(sys.argv[1]).read().split():
    start = time.process_time()
    try:
        importlib.import_module(name)
    except Exception:
        continue
    each[name.partition(".")[0]] += time.process_time() - start
most = ", ".join(f"{name} {seconds:.2f}" for name, seconds in each.most_common(8))
sys.stderr.write(f"\\n{time.perf_counter() - wall} {time.process_time() - used} {most}\\n")
"""


def run(command: list[str], root: Path, folder: Path) -> tuple[float, float, str]:
    """Wall and processor seconds of a command, and what it wrote to stderr."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(root), "NO_ALBUMENTATIONS_UPDATE": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, done.stderr


def modules(text: str) -> list[str]:
    """The modules that were imported after the mark, in their order."""
    lines = text.partition(MARK)[2].splitlines()
    found = (re.match(r"import time:\s+\d+ \|\s+\d+ \|\s+([\w.]+)$", line) for line in lines)
    return [match[1] for match in found if match]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    root = given.root.resolve()
    print(f"{'command':<78} {'least':>7} {'median':>7} {'cpu':>7}  (s)")
    for task, *words in COMMANDS:
        runs = [run(["-m", task, *words], root, root) for _ in range(given.repeats + 1)][1:]
        walls, used = [wall for wall, _, _ in runs], min(used for _, used, _ in runs)
        print(
            f"{' '.join((task, *words)):<78} {min(walls):7.2f} {statistics.median(walls):7.2f} {used:7.2f}", flush=True
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classes = '["person", "rider", "car", "truck", "bus", "bicycle", "traffic sign"]'
        scenes = ["demo-data", "--train", "8", "--val", "2", "--height", "128", "--width", "256", "--classes", classes]
        run(["-m", "engine.scenes", *scenes], root, folder)
        print("\nimports of a training of one step, beside torch and lightning: least, median, cpu (s)")
        for task in TASKS:
            words = ["fit", "--config", str(root / f"configs/{task}/demo.yaml"), "--model.backbone_weights", "null"]
            words += ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.accelerator", "cpu"]
            words += ["--trainer.enable_progress_bar", "false", "--data.batch_size", "2", *SMALL[task]]
            said = run(["-X", "importtime", "-c", TRAIN, task, *words], root, folder)[2]
            assert "Results are in" in said, said[-500:]
            names = folder / "names"
            names.write_text("\n".join(modules(said)))
            runs = [run(["-c", IMPORT, str(names)], root, folder)[2] for _ in range(given.repeats)]
            rows = sorted(text.splitlines()[-1].split(maxsplit=2) for text in runs)
            walls, used = [float(row[0]) for row in rows], min(float(row[1]) for row in rows)
            print(f"{task:<14} {min(walls):6.2f} {statistics.median(walls):6.2f} {used:6.2f}  {rows[0][2]}", flush=True)


if __name__ == "__main__":
    main()
