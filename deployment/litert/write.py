"""A network as a .tflite file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from deployment.export.compare import difference, patches
from deployment.litert.environment import run_script
from deployment.litert.graph import LitertGraph
from deployment.networks import Network
from detection.network.anchors import make_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from engine.exports.files import About
from joint.network.model import JointNetwork


def write_litert(network: Network, path: Path, about: About, postprocess: Postprocess | None) -> float:
    """Write a network for one image of one size.

    The work is done in three steps: this project writes the network as a .pt2 file; the converter, in an environment of
    its own, makes a .tflite file of it; and there the suppression and MediaPipe's metadata are added.

    Args:
        network: the network.
        path: the file.
        about: what it says of itself; its `image_hw` is the size.
        postprocess: settings of the suppression inside the file; None leaves it to MediaPipe or to the reader.

    Returns:
        The largest difference between the converted network's outputs and the network's own.

    Raises:
        InputError: the environment of the converter cannot be made, or it fails.
    """
    assert about.image_hw is not None
    graph = LitertGraph(network, argmax=about.argmax)
    images = torch.zeros((1, 3, *about.image_hw), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(graph, (images,))
    raw, plain, said = (path.with_suffix(suffix) for suffix in (".pt2", ".raw.tflite", ".json"))
    torch.export.save(program, raw)
    run_script("converting", raw, plain)
    difference = _difference(plain, graph, about.image_hw)
    said.write_text(json.dumps({**_settings(network, about, postprocess), "about": about.to_json()}))
    run_script("finishing", plain, path, said)
    for part in (raw, plain, said):
        part.unlink()
    return difference


def _difference(plain: Path, graph: LitertGraph, image_hw: tuple[int, int]) -> float:
    """The largest difference of scores and deltas, or the share of pixels whose class is another."""
    from ai_edge_litert.interpreter import Interpreter

    images = patches(1, image_hw)
    interpreter = Interpreter(str(plain))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images.permute(0, 2, 3, 1).contiguous().numpy())
    interpreter.invoke()
    found = [torch.from_numpy(interpreter.get_tensor(each["index"])) for each in interpreter.get_output_details()]
    with torch.no_grad():
        expected = graph(images)
    pairs = zip(found, expected, strict=True)
    return max(difference(one, other) for one, other in pairs)


def _settings(network: Network, about: About, postprocess: Postprocess | None) -> Mapping[str, object]:
    """What `finishing.py` has to know of a detector; nothing for others."""
    detector = network.detector if isinstance(network, JointNetwork) else network
    if not isinstance(detector, EfficientDet) or about.image_hw is None:
        return {}
    boxes = make_anchors(about.image_hw, detector.config).double()
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    height, width = about.image_hw
    shares = torch.cat([centres.flip(-1), sizes.flip(-1)], dim=1) / torch.tensor([height, width, height, width])
    settings: dict[str, object] = {"operator": postprocess is not None, "anchors": shares.tolist()}
    settings["classes"] = len(detector.classes)
    if postprocess is not None:
        settings |= {
            "max_detections": postprocess.max_detections,
            "score_threshold": postprocess.score_threshold,
            "iou_threshold": postprocess.iou_threshold,
            "by_class": not postprocess.class_agnostic,
        }
    if isinstance(network, EfficientDet):  # MediaPipe knows no other networks
        # The graph normalises; these are what was subtracted and divided by, for all channels on average.
        settings["labels"] = list(detector.classes.names)
        settings["mean"], settings["std"] = (float(part.mean()) for part in (detector.mean, detector.std))
    return settings
