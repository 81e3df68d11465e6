"""Time int8 files beside the float32 file of the same network and runtime.

    python benchmarks/int8.py lite0.onnx lite0_int8.onnx lite0.xml lite0_int8.xml --picture photograph.jpg --profile

`python -m deployment export` writes the float32 files, `quantize` the others. The first file of each suffix must be in
float32: the ratios are to it, below 1: int8 is faster. All are in one process; each round visits them in a shuffled
order, one run of each that is counted after some that are not.

- network alone: up to the results of the last layers, which is what int8 changes.
- to boxes (or classes): the file's own predictor, from an array to boxes in its pixels or classes.

Of a `.pt2` file (without a suppression) the network alone is all that the file computes. One in int8 is compiled; one
in float32 is computed as it is, and compiled as well. That takes minutes at first, and less at a second start.

Time is that of the process on all threads (`--clock wall` for the clock on the wall): other programs at work on the
processor add little to it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from deployment.compare import patches
from deployment.precision.formats import onnx_int8, openvino_int8
from deployment.precision.layers import last_layers
from deployment.running.inductor import COMPILE_NAME, by_inductor
from engine.exports.files import About, open_exported
from engine.hardware.machine import in_words, load, machine

CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}
OPEN_HW = (256, 256)  # for a file of any size


class Contender(NamedTuple):
    """A file: what it computes, its name, a function that computes it, and how."""

    what: str
    path: Path
    call: Callable[[], object]
    how: str = ""


def about_of(path: Path) -> About:
    """What a file says of itself."""
    from deployment.running.onnx_file import OnnxFile
    from deployment.running.openvino_file import OpenvinoFile

    if path.suffix == ".pt2":
        return open_exported(path).about
    return (OnnxFile if path.suffix == ".onnx" else OpenvinoFile)(path).about


def onnx_network(path: Path):  # noqa: ANN201
    """An ONNX file up to its last layers."""
    import onnx

    model = onnx.load(path)
    makers = {node.name: node for node in model.graph.node}
    wanted = [makers[name].output[0] for name in last_layers(onnx_int8.operations(model))]
    needed, kept = set(wanted), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    kept.reverse()
    parts = {
        "node": kept,
        "initializer": [entry for entry in model.graph.initializer if entry.name in needed],
        "input": [entry for entry in model.graph.input if entry.name in needed],
        "output": [onnx.helper.make_empty_tensor_value_info(name) for name in wanted],
    }
    for name, entries in parts.items():
        entries = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        del getattr(model.graph, name)[:]
        getattr(model.graph, name).extend(entries)
    return model


def onnx_session(path: Path, threads: int, profile: str = ""):  # noqa: ANN201
    """ONNX Runtime's session on the network alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_profiling = bool(profile)
    if profile:
        options.profile_file_prefix = profile
    content = onnx_network(path).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def openvino_network(path: Path, about: About, threads: int, profile: bool = False):  # noqa: ANN201
    """A compiled file of OpenVINO up to its last layers."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    ends = [nodes[name].output(0) for name in last_layers(openvino_int8.operations(model))]
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if about.precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": "YES" if profile else "NO",
    }
    return core.compile_model(openvino.Model(ends, model.get_parameters(), "network"), "CPU", hints)


def torch_networks(path: Path, about: About, images: np.ndarray) -> list[Contender]:
    """What a .pt2 file computes, as it is where it is in float32, and compiled."""
    given, runtime = torch.from_numpy(images), open_exported(path)
    if about.precision == "int8":  # compiled, as the environment says
        return [Contender("network alone", path, lambda: runtime.run(given, torch.zeros(0)), "compiled")]
    compute = by_inductor(torch.export.load(path).module(), given)
    return [
        Contender("network alone", path, lambda: runtime.run(given, torch.zeros(0))),
        Contender("network alone", path, lambda: compute(given), "compiled"),
    ]


def contenders(path: Path, image: np.ndarray | None, threads: int) -> list[Contender]:
    """The network alone of a file, and all of it."""
    import detection
    import joint
    import segmentation

    about = about_of(path)
    size_hw = about.image_hw or about.canvas_hw or (OPEN_HW if image is None else image.shape[:2])
    shown = patches(1, size_hw)[0].permute(1, 2, 0).contiguous().numpy() if image is None else image
    images = patches(1, size_hw).numpy()
    given = {"images": images, "sizes_hw": np.array([size_hw], dtype=np.float32)}
    if path.suffix == ".pt2":
        alone = torch_networks(path, about, images)
    elif path.suffix == ".onnx":
        session = onnx_session(path, threads)
        inputs = {entry.name: given[entry.name] for entry in session.get_inputs()}
        alone = [Contender("network alone", path, lambda: session.run(None, inputs))]
    else:
        compiled = openvino_network(path, about, threads)
        request = compiled.create_infer_request()
        values = {entry.any_name: given[entry.any_name] for entry in compiled.inputs}
        alone = [Contender("network alone", path, lambda: request.infer(values, share_inputs=True))]
    load_file = {"detection": detection.load, "segmentation": segmentation.load, "joint": joint.load}[about.task]
    predictor = load_file(str(path))
    how = "compiled" if path.suffix == ".pt2" and about.precision == "int8" else ""
    return [*alone, Contender("to the answer", path, lambda: predictor.predict(shown), how)]


def measure(sides: list[Contender], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds of all rounds of each."""
    seconds: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.call()
        side.call()
    for number in range(rounds):
        order = list(range(len(sides)))
        random.Random(number).shuffle(order)
        for place in order:
            sides[place].call()
            start = clock()
            sides[place].call()
            seconds[place].append(clock() - start)
    return seconds


def print_table(sides: list[Contender], seconds: list[list[float]]) -> None:
    """Minimum and median of each, and the ratios to the first of the same suffix."""
    print(f"{'':52}{'min ms':>9}{'median':>9}{'ratio min':>11}{'median':>9}")
    bases: dict[tuple[str, str], list[float]] = {}
    for side, times in zip(sides, seconds, strict=True):
        base = bases.setdefault((side.what, side.path.suffix), times)
        low, mid = 1e3 * min(times), 1e3 * statistics.median(times)
        shares = f"{min(times) / min(base):11.2f}{statistics.median(times) / statistics.median(base):9.2f}"
        print(f"{side.what:16}{f'{side.path.name} {side.how}':36}{low:9.1f}{mid:9.1f}{shares}")


def profile_onnx(path: Path, threads: int, runs: int = 10) -> None:
    """Where ONNX Runtime spends the time of the network alone."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        session = onnx_session(path, threads, f"{folder}/profile")
        about = about_of(path)
        size_hw = about.image_hw or about.canvas_hw or OPEN_HW
        given = {"images": patches(1, size_hw).numpy(), "sizes_hw": np.array([size_hw], dtype=np.float32)}
        for _ in range(runs):
            session.run(None, {entry.name: given[entry.name] for entry in session.get_inputs()})
        for entry in json.loads(Path(session.end_profiling()).read_text()):
            if entry.get("cat") == "Node" and entry["name"].endswith("_kernel_time"):
                spent[entry["args"]["op_name"], entry["name"]].append(entry["dur"] / 1e3)
    print_profile(path, spent)


def profile_openvino(path: Path, threads: int, runs: int = 10) -> None:
    """Where OpenVINO spends the time of the network alone."""
    about = about_of(path)
    compiled = openvino_network(path, about, threads, profile=True)
    size_hw = about.image_hw or about.canvas_hw or OPEN_HW
    given = {"images": patches(1, size_hw).numpy(), "sizes_hw": np.array([size_hw], dtype=np.float32)}
    request = compiled.create_infer_request()
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(runs + 1):
        request.infer({entry.any_name: given[entry.any_name] for entry in compiled.inputs})
        for entry in request.get_profiling_info() if number else []:
            kind = f"{entry.node_type} ({entry.exec_type})"
            spent[kind, entry.node_name].append(1e3 * entry.real_time.total_seconds())
    print_profile(path, spent)


def print_profile(path: Path, runs: dict[tuple[str, str], list[float]]) -> None:
    """The kinds of operators that take the most, by the fastest run of each operator, as other programs are at work."""
    spent: dict[str, float] = defaultdict(float)
    for (kind, _), times in runs.items():
        spent[kind] += min(times)
    total = sum(spent.values())
    print(f"\n{path.name}, network alone: {total:.1f} ms in kernels")
    for kind, milliseconds in sorted(spent.items(), key=lambda item: -item[1])[:10]:
        print(f"  {kind:<48}{milliseconds:8.2f} ms{100 * milliseconds / total:7.1f} %")


def main() -> None:
    """Open the files, run the rounds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path, help="what the answer is for; by default noise")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    parser.add_argument("--profile", action="store_true", help="where the time of the network alone goes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ[COMPILE_NAME] = "1"
    image = None
    if given.picture:
        image = np.array(Image.open(given.picture).convert("RGB"))
    print(in_words(machine()), f"load {load()}")
    sides = [side for path in given.files for side in contenders(path, image, given.threads)]
    sides.sort(key=lambda side: side.what)
    print_table(sides, measure(sides, given.rounds, CLOCKS[given.clock]))
    for path in [each for each in given.files if each.suffix != ".pt2"] if given.profile else []:
        (profile_onnx if path.suffix == ".onnx" else profile_openvino)(path, given.threads)


if __name__ == "__main__":
    main()
