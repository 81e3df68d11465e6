"""From a network to a .tflite file: exported here, converted in an environment of its own, and finished here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deployment.compare import LARGEST, difference, patches
from deployment.litert.calibration import write_canvases
from deployment.litert.editing import INPUT, SUPPRESSED_KEYS, append_suppression, give_floats, take_pixels
from deployment.litert.mediapipe import NAME, object_detector, with_labels
from deployment.litert.model import Model
from deployment.litert.network import LitertNetwork, Network, detector_of, usual_hw
from deployment.litert.options import LitertOptions
from deployment.setup.environment import LITERT, tell_user
from detection.network.detector import Detector
from detection.network.model import EfficientDet
from engine.errors import InputError
from engine.exports.extras import needed
from engine.exports.files import KEY
from engine.outputs import atomic_path, make_folder, write_text

SCRIPT = Path(__file__).with_name("converting_script.py")
LABELS_SUFFIX = ".labels.txt"


def write_tflite(
    network: Network,
    path: Path,
    *,
    metadata: Mapping[str, object],
    options: LitertOptions = LitertOptions(),
    tell: Callable[[str], None] = tell_user,
) -> Path:
    """Write a network as a .tflite file, and the names of its box classes beside it as `<name>.labels.txt`.

    The file takes one image, `images` (1, H, W, 3) uint8 RGB of 0..255. A float32 file is compared with the network
    before it replaces another of its name.

    Args:
        network: in evaluation mode, folded or not.
        path: the file.
        metadata: plain values that the file keeps as JSON, see `deployment.running.litert_file.LitertFile.metadata`.
        options: what the file holds.
        tell: takes a line about what takes minutes.

    Raises:
        InputError: the options do not fit the network, a package is missing, the converter refuses the network, or the
            path cannot be written.
    """
    if path.suffix != ".tflite":
        msg = f"a file of LiteRT ends in .tflite; '{path}' does not. Rename it."
        raise InputError(msg)
    needed("ai_edge_litert", extra="litert")
    folder = make_folder(path.parent)
    image_hw = options.image_hw or usual_hw(network)
    integers = options.precision == "int8"
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.stem}.") as beside:
        images = Path(beside, "images.npy")
        if integers:
            write_canvases(images, options.calibration, network, image_hw)
        graph = LitertNetwork(network, image_hw, argmax=options.argmax, integers=integers).eval()
        program, converted = Path(beside, "network.pt2"), Path(beside, "network.tflite")
        sample = torch.zeros((1, *image_hw, 3), dtype=torch.float32 if integers else torch.uint8)
        with torch.no_grad():
            torch.export.save(torch.export.export(graph, (sample,)), program)
        LITERT.make(tell)
        arguments = [program, converted, options.precision, *([images] if integers else [])]
        LITERT.run(SCRIPT, arguments, {"JAX_PLATFORMS": "cpu"})
        model = Model.read(converted)
        if options.precision == "float32":
            _check_same(converted, graph, image_hw)
    licence = metadata.get("licence", "")
    _finish(model, graph, network, image_hw, options, licence if isinstance(licence, str) else "")
    model.add_metadata(KEY, json.dumps(dict(metadata)).encode())
    content = model.to_bytes()
    detector = detector_of(network)
    labels = "" if detector is None else labels_of(detector)
    if labels:
        content = with_labels(content, labels)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    if labels:
        write_text(path.with_suffix(LABELS_SUFFIX), labels)
    return path


def labels_of(detector: Detector) -> str:
    """A line for each row of the class list: its name, or `???` for a row that no category uses."""
    return "".join(f"{' '.join(name.split()) or '???'}\n" for name in detector.classes.names)


def _finish(
    model: Model,
    graph: LitertNetwork,
    network: Network,
    image_hw: tuple[int, int],
    options: LitertOptions,
    licence: str,
) -> None:
    """Give a converted model its input, its outputs and what MediaPipe reads."""
    if options.precision == "int8":
        model.set_int8_versions()
        take_pixels(model)
        give_floats(model)
    keep = [entry for entry in model.tree.metadata or [] if entry.name == b"min_runtime_version"]
    model.tree.metadata = keep
    keys = graph.outputs.names
    detector, anchors = detector_of(network), graph.outputs.anchors_xyxy
    if detector is not None and anchors is not None:
        anchors_yxhw = fractions(anchors, image_hw)
        if options.nms == "op":
            append_suppression(model, anchors_yxhw, len(detector.classes), options)
            keys = (*SUPPRESSED_KEYS, *keys[2:])
        if isinstance(network, EfficientDet):  # MediaPipe's detector takes no further output
            model.add_metadata(NAME, object_detector(detector.classes.names, anchors_yxhw, options, licence))
    model.name_ends((INPUT,), keys)


def fractions(anchors_xyxy: Tensor, image_hw: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Anchors (R, 4) in pixels as centre and size, in the order y, x, height, width, in fractions of an image."""
    low, high = anchors_xyxy[:, :2].double(), anchors_xyxy[:, 2:].double()
    size = torch.tensor(image_hw, dtype=torch.float64)
    parts = ((low + high).flip(1) / 2 / size, (high - low).flip(1) / size)
    return torch.cat(parts, dim=1).float().numpy()


@torch.no_grad()
def _check_same(converted: Path, graph: LitertNetwork, image_hw: tuple[int, int]) -> None:
    """Compute patches of random colours by the file and by the network.

    Raises:
        InputError: LiteRT cannot compute the file, or the answers differ by more than rounding.
    """
    from ai_edge_litert.interpreter import Interpreter

    image = patches(1, image_hw).permute(0, 2, 3, 1).contiguous()
    try:
        interpreter = Interpreter(str(converted), num_threads=torch.get_num_threads())
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image.numpy())
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no reason is given"])[0].rstrip(".")
        msg = f"LiteRT refuses what its converter made: {reason}. Use another format, and report this with the command."
        raise InputError(msg) from error
    for name, detail, expected in zip(graph.outputs.names, interpreter.get_output_details(), graph(image), strict=True):
        found = torch.from_numpy(interpreter.get_tensor(detail["index"]))
        apart = difference(found, expected)
        if not apart <= LARGEST:  # nor if it is no number
            msg = (
                f"the file's {name} differ from the network's by {apart:.3g}, which is more than rounding. It is "
                "not written. Use another format, and report this with the command."
            )
            raise InputError(msg)
