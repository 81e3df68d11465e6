"""Time our exported files beside effdet and smp in PyTorch, and a network beside what its products cost.

    python benchmarks/deployment_speed.py --threads 1 2 --profile

All contenders have the same weights and the same picture. Each has a process of its own, in which nothing else spins,
and each round visits them in a shuffled order: one run that is not counted, then one that is. The ratios are ours to
theirs, below 1: ours is faster.

- image to boxes: a 512 x 512 array to boxes in its pixels. Ours is `detection.load(FILE).predict`, effdet's is
  `DetBenchPredict` after its normalisation; both give 5,000 candidates to the suppression.
- image to classes: a 512 x 1024 array to the class of each pixel, with DeepLabv3+.
- network alone: the same detector exported without the suppression, beside its multiply-accumulates at the rate of
  a product of two matrices of 1024 x 1024 with as many threads, by the fastest of the libraries that are there: on a
  processor that its maker's rival did not tune for, PyTorch's own is not it.

Do not set OMP_WAIT_POLICY: PASSIVE slows PyTorch, and with it the peers, where there are several threads.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from backbones.study.cost import count
from deployment.compare import patches
from deployment.export.options import SUFFIXES, Format, Options
from deployment.export.write import export
from deployment.networks import Loaded
from detection.network.model import EfficientDet
from detection.weights.published import PUBLISHED
from engine.exports.files import open_exported
from engine.hardware.machine import in_words, load, machine

CLASSES = 19
SEGMENTED_HW = (512, 1024)
SIDE = 1024  # of the matrices
LIBRARIES = ("torch", "numpy", "onnxruntime")
FORMATS: tuple[Format, ...] = ("onnx", "openvino")
Call = Callable[[], object]


def detector(member: str, size: int) -> EfficientDet:
    """Our detector with effdet's settings and random weights, the same at each call."""
    torch.manual_seed(0)
    return EfficientDet(member, image_size=size, **PUBLISHED[f"tf_efficientdet_{member}"].overrides).eval()


def write_files(folder: Path, member: str, size: int) -> None:
    """Export what is timed, unless it is there."""
    from beside_smp import networks

    ours, _ = networks("tf_efficientnet_b0")
    found = {
        "boxes": (Loaded(detector(member, size), "detection", {}, member, "", ""), Options(size, 1)),
        "network": (Loaded(detector(member, size), "detection", {}, member, "", ""), Options(size, 1, nms="outside")),
        "classes": (Loaded(ours, "segmentation", {}, "b0", "", ""), Options(SEGMENTED_HW, 1)),
    }
    for name, (loaded, options) in found.items():
        for file_format in FORMATS:
            path = folder / f"{name}{SUFFIXES[file_format]}"
            if not path.is_file():
                settings = loaded.network.settings()
                export(loaded._replace(model=settings), path, file_format, options)


def our_boxes(source: str, size: int) -> Call:
    """A file from array to boxes."""
    from detection import load as load_detector

    predictor = load_detector(source)
    image = _array((size, size))
    return lambda: predictor.predict(image, score_threshold=0.001)


def our_torch(member: str, size: int) -> Call:
    """Our network in PyTorch, folded."""
    from detection.network.postprocess import Postprocess
    from detection.prediction.predictor import DetectionPredictor

    predictor = DetectionPredictor(detector(member, size).fold(), Postprocess())
    image = _array((size, size))
    return lambda: predictor.predict(image)


def effdet_boxes(member: str, size: int) -> Call:
    """Effdet in PyTorch, with the same weights."""
    import effdet
    from effdet.bench import DetBenchPredict
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from detection.weights.effdet_layout import export_effdet

    name = f"tf_efficientdet_{member}"
    config = effdet.get_efficientdet_config(name)
    config.image_size = (size, size)
    ours = detector(member, size)
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    theirs.load_state_dict(export_effdet(ours, redundant_bias=PUBLISHED[name].redundant_bias))
    mean = 255 * torch.tensor(config.get("mean", IMAGENET_DEFAULT_MEAN)).view(3, 1, 1)
    std = 255 * torch.tensor(config.get("std", IMAGENET_DEFAULT_STD)).view(3, 1, 1)
    pixels = torch.from_numpy(_array((size, size)))
    images = pixels.permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = torch.cat([level.permute(0, 2, 3, 1).flatten() for level in theirs((images - mean) / std)[0]])
        expected = torch.cat([level.permute(0, 2, 3, 1).flatten() for level in ours(images)[0]])
        assert (logits - expected).abs().max() < 1e-3 * expected.abs().max(), "the weights do not agree"
    bench = DetBenchPredict(theirs).eval()
    info = {"img_scale": torch.ones(1), "img_size": torch.tensor([[float(size), float(size)]])}
    return torch.no_grad()(lambda: bench((pixels.permute(2, 0, 1)[None] - mean) / std, info))


def our_classes(source: str) -> Call:
    """A file from array to the classes of pixels."""
    from segmentation import load as load_segmenter

    predictor = load_segmenter(source)
    image = _array(SEGMENTED_HW)
    return lambda: predictor.predict(image)


def smp_classes() -> Call:
    """Smp in PyTorch, with the same weights."""
    from beside_smp import networks

    ours, theirs = networks("tf_efficientnet_b0")
    mean, std = ours.mean.clone(), ours.std.clone()
    pixels = torch.from_numpy(_array(SEGMENTED_HW))
    return torch.inference_mode()(
        lambda: theirs(((pixels.permute(2, 0, 1)[None] - mean) / std).contiguous()).argmax(1).to(torch.uint8)
    )


def network_alone(source: str, size: int) -> Call:
    """A file without the suppression."""
    runtime = open_exported(source, "detection")
    images = patches(1, (size, size))
    return lambda: runtime.run(images, torch.tensor([[size, size]], dtype=torch.float32))


def gemm(library: str) -> Call:
    """A product of two matrices by one of the libraries that are there."""
    random_values = torch.Generator().manual_seed(0)
    left, right = (torch.rand(SIDE, SIDE, generator=random_values) for _ in range(2))
    if library == "torch":
        found = torch.empty(SIDE, SIDE)
        return lambda: torch.mm(left, right, out=found)
    one, other = left.numpy(), right.numpy()
    if library == "numpy":
        return lambda: one @ other
    import onnx
    import onnxruntime

    names = ("left", "right", "product")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [SIDE, SIDE]) for name in names]
    node = onnx.helper.make_node("MatMul", list(names[:2]), [names[2]])
    constant = onnx.numpy_helper.from_array(other, "right")  # packed once, as the weights of a network are
    graph = onnx.helper.make_graph([node], "gemm", values[:1], values[2:], [constant])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": one})


def _array(size_hw: tuple[int, int]):  # noqa: ANN202
    return patches(1, size_hw)[0].permute(1, 2, 0).contiguous().numpy()


def contenders(folder: Path, member: str, size: int) -> dict[str, dict[str, tuple[Callable[..., Call], tuple]]]:
    """By measurement: each side's function, with its arguments."""
    file = {name: f"{folder}/{name}" for name in ("boxes", "classes", "network")}
    return {
        "image to boxes": {
            **{each: (our_boxes, (file["boxes"] + SUFFIXES[each], size)) for each in FORMATS},
            "ours, torch": (our_torch, (member, size)),
            "effdet": (effdet_boxes, (member, size)),
        },
        "image to classes": {
            **{each: (our_classes, (file["classes"] + SUFFIXES[each],)) for each in FORMATS},
            "smp": (smp_classes, ()),
        },
        "network alone": {
            **{each: (network_alone, (file["network"] + SUFFIXES[each], size)) for each in FORMATS},
            **{f"product, {library}": (gemm, (library,)) for library in LIBRARIES},
        },
    }


def serve(connection: Connection, threads: int, make: Callable[..., Call], arguments: tuple) -> None:
    """The process of a contender: seconds of a run whenever it is asked."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    call = make(*arguments)
    call()
    connection.send(None)
    while connection.recv():
        call()
        start = time.perf_counter()
        call()
        connection.send(time.perf_counter() - start)


def measure(folder: Path, given: argparse.Namespace, threads: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of all rounds by measurement and contender."""
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)  # numpy's, in the processes that begin now
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, sides in contenders(folder, given.member, given.size).items():
        for side, (make, arguments) in sides.items():
            own, other = context.Pipe()
            processes.append(context.Process(target=serve, args=(other, threads, make, arguments), daemon=True))
            processes[-1].start()
            own.recv()
            pipes[name, side] = own
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in pipes}
    for number in range(given.rounds):
        order = list(pipes)
        random.Random(number).shuffle(order)
        for key in order:
            pipes[key].send(True)
            seconds[key].append(pipes[key].recv())
    for process in processes:
        process.terminate()
    return seconds


def print_table(seconds: dict[tuple[str, str], list[float]], macs: int) -> None:
    """Minimum and median of each, and the ratios to its peer."""
    # What the network's products take, at the rate of each library.
    for key in [key for key in seconds if key[1].startswith("product")]:
        seconds[key] = [macs / SIDE**3 * each for each in seconds[key]]
    peers = dict(seconds.keys())  # the last of each
    products = [side for name, side in seconds if side.startswith("product")]
    peers["network alone"] = min(products, key=lambda side: min(seconds["network alone", side]))
    print(f"{'':42}{'min ms':>9}{'median':>9}{'ratio min':>11}{'median':>9}")
    for (name, side), times in seconds.items():
        base = seconds[name, peers[name]]
        low, mid = 1e3 * min(times), 1e3 * statistics.median(times)
        shares = f"{min(times) / min(base):11.2f}{statistics.median(times) / statistics.median(base):9.2f}"
        print(f"{name:20}{side:22}{low:9.1f}{mid:9.1f}{shares}")
    rate = 2 * macs / min(seconds["network alone", peers["network alone"]]) / 1e9
    print(f"{macs / 1e9:.3f} billion multiply-accumulates; {peers['network alone']} reaches {rate:.0f} Gflop/s")


def profile_onnx(path: Path, size: int, threads: int, runs: int = 20) -> None:
    """Where ONNX Runtime spends its time, by its own profile."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = {"images": patches(1, (size, size)).numpy()}
        for _ in range(runs + 2):
            session.run(None, given)
        entries = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, float] = defaultdict(float)
    nodes: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.get("cat") == "Node" and entry["name"].endswith("_kernel_time"):
            kind = _kind(entry["args"])
            spent[kind] += entry["dur"]
            nodes[kind].add(entry["name"])
    total = sum(spent.values())
    print(f"ONNX Runtime, {threads} thread(s), network alone, {total / (runs + 2) / 1e3:.1f} ms in kernels:")
    for kind, time_spent in sorted(spent.items(), key=lambda item: -item[1])[:14]:
        print(f"  {kind:<34}{len(nodes[kind]):5} nodes{100 * time_spent / total:7.1f} %")


def _kind(args: dict) -> str:
    """An operator; a convolution with what it is."""
    kind = args["op_name"]
    shapes = [next(iter(each.values())) for each in args.get("input_type_shape", [])]
    if kind not in ("Conv", "FusedConv") or len(shapes) < 2:
        return kind
    _, inner, height, width = shapes[1]
    what = "depthwise" if inner == 1 and height > 1 else f"{height} x {width}"
    return f"{kind}, {what}"


def profile_openvino(path: Path, size: int, threads: int, runs: int = 20) -> None:
    """Where OpenVINO spends its time, by its own counters."""
    import openvino

    settings = {"PERF_COUNT": "YES", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    spent: dict[str, float] = defaultdict(float)
    for number in range(runs + 2):
        request.infer({"images": patches(1, (size, size)).numpy()})
        for entry in request.get_profiling_info() if number > 1 else []:
            spent[f"{entry.node_type} ({entry.exec_type})"] += entry.real_time.total_seconds()
    total = sum(spent.values())
    print(f"OpenVINO, {threads} thread(s), network alone, {1e3 * total / runs:.1f} ms in kernels:")
    for kind, time_spent in sorted(spent.items(), key=lambda item: -item[1])[:14]:
        print(f"  {kind:<50}{100 * time_spent / total:7.1f} %")


def main() -> None:
    """Export, run the rounds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", default="d0")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--profile", action="store_true", help="where the time of the network alone goes")
    parser.add_argument("--files", type=Path, help="folder that keeps the exported files")
    given = parser.parse_args()
    print(in_words(machine()), machine()["environment"], f"load {load()}")
    macs = count(detector(given.member, given.size).to("meta"), (given.size, given.size)).macs
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.files or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, given.member, given.size)
        for threads in given.threads:
            print(f"\n{given.member} at {given.size} px, {threads} thread(s), {given.rounds} rounds")
            print_table(measure(folder, given, threads), macs)
            if given.profile:
                profile_onnx(folder / "network.onnx", given.size, threads)
                profile_openvino(folder / "network.xml", given.size, threads)


if __name__ == "__main__":
    main()
