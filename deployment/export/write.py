"""From a network to a file that another runtime computes, compared with the network before it takes its place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from classification.network.model import Classifier
from deployment.compare import LARGEST, LARGEST_RESIZED, difference, patches
from deployment.export.fitting import detector_in, segmenter_in, settled
from deployment.export.formats.onnx_file import write_onnx
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.formats.torch_file import write_torch
from deployment.export.graphs import graph_of
from deployment.export.kinds.contract import Form, Graph
from deployment.export.letterbox import picture_graph
from deployment.export.lowering.convert import write_pte
from deployment.export.options import Format, Options, check_suffix
from deployment.export.trace import program_of
from deployment.litert.convert import LABELS_SUFFIX, labels_of, write_tflite
from deployment.litert.options import LitertOptions
from deployment.networks import Loaded
from detection.data.classes import BoxClasses
from detection.network.detector import Detector
from detection.network.heads.detector import HeadedDetector
from detection.network.postprocess import Postprocess
from engine.errors import InputError, OutputError
from engine.exports.extras import needed
from engine.exports.files import About, boxes_of_rows, computed, open_exported
from engine.outputs import make_folder, write_text
from engine.training.checkpoints import versions

# All files of a format; those of weights come first.
_FILES: Mapping[Format, tuple[str, ...]] = {
    "onnx": (LABELS_SUFFIX, ".onnx"),
    "openvino": (LABELS_SUFFIX, ".bin", ".xml"),
    "litert": (LABELS_SUFFIX, ".tflite"),
    "executorch": (".pte",),
    "torch": (".pt2",),
}
_PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "litert": ("ai_edge_litert",),
    "executorch": (),
    "torch": (),
}


class Written(NamedTuple):
    """An exported file.

    Attributes:
        path: the file.
        about: what it says of itself.
        difference: the largest difference of scores, logits or shares of pixels from the network's own.
    """

    path: Path
    about: About
    difference: float


def export(loaded: Loaded, path: str | Path, file_format: Format, options: Options = Options()) -> Written:
    """Write a network as a file of another runtime.

    The file is computed and compared with the network before it replaces another of its name.

    Args:
        loaded: the network.
        path: the file.
        file_format: its format.
        options: what it holds.

    Raises:
        InputError: the options do not fit the network or the format, a package is missing, or the path cannot be
            written.
    """
    path = Path(path)
    check_suffix(path, file_format)
    needed(*_PACKAGES[file_format], extra=file_format)  # before the minutes that the rest may take
    folder = make_folder(path.parent)
    network = loaded.network
    options = settled(loaded, file_format, options)
    postprocess = _postprocess(loaded, options)
    form = Form(postprocess, options.argmax is not False, options.image_hw, options.layout)
    graph = (picture_graph if options.takes_pictures else graph_of)(network, form)
    open_hw = None if options.takes_pictures else form.image_hw
    about = about_of(loaded, options, graph, postprocess)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.stem}.") as beside:
        made = Path(beside, path.name)
        if file_format == "litert":
            assert not isinstance(network, HeadedDetector | Classifier)  # as `settled` has refused
            said: dict[str, object] = json.loads(about.to_json())
            write_tflite(network, made, metadata=said, options=_litert(options, about, postprocess))
        elif file_format == "executorch":
            write_pte(graph, made, about)
        elif file_format == "torch":
            write_torch(program_of(graph, open_hw, options.batch_size), made, about)
        else:
            program = program_of(graph, open_hw, options.batch_size)
            onnx_file = made.with_suffix(".onnx")
            write_onnx(program, onnx_file, about, graph.inputs, graph.outputs)
            if file_format == "openvino":
                write_openvino(onnx_file, made, about)
                onnx_file.unlink()
        if options.layout == "frigate":
            assert isinstance(network, Detector)
            write_text(made.with_suffix(LABELS_SUFFIX), labels_of(network))
        largest = compared(made, graph, about)
        try:
            # Weights first: a reader of the older .xml may then fail, but never reads half a file.
            for suffix in _FILES[file_format]:
                if made.with_suffix(suffix).exists():
                    os.replace(made.with_suffix(suffix), path.with_suffix(suffix))
        except OSError as error:
            msg = f"cannot write '{path}': {error.strerror or error}. Give a path that can be written."
            raise OutputError(msg) from error
    return Written(path, about, largest)


def about_of(loaded: Loaded, options: Options, graph: Graph, postprocess: Postprocess | None) -> About:
    """What a file says of itself."""
    detector, segmenter = detector_in(loaded.network), segmenter_in(loaded.network)
    classes: BoxClasses | None = None if detector is None else detector.classes
    canvas_hw = None if detector is None else detector.config.image_size
    if detector is not None and options.takes_pictures:
        canvas_hw = options.image_hw
    network = loaded.network
    source = network if isinstance(network, Classifier) else detector or segmenter
    assert source is not None
    names = () if classes is None else tuple(classes.names)
    return About(
        task=loaded.task,
        model=loaded.model,
        batch=options.batch_size,
        image_hw=None if options.takes_pictures else options.image_hw,
        multiple=graph.multiple,
        canvas_hw=canvas_hw,
        letterbox=options.letterbox or "outside",
        postprocess=None if postprocess is None else asdict(postprocess),
        argmax=segmenter is not None and options.argmax is not False,
        precision=options.precision,
        layout=options.layout,
        mean=tuple(float(value) / 255 for value in source.mean.flatten()),
        std=tuple(float(value) / 255 for value in source.std.flatten()),
        fill_color=source.fill_color,
        names=tuple(network.classes.names) if isinstance(network, Classifier) else names,
        category_ids=() if classes is None else tuple(classes.category_ids),
        pixel_names=() if segmenter is None else tuple(segmenter.classes.names),
        licence=loaded.licence,
        checkpoint=loaded.name,
        sha256=loaded.sha256,
        versions=versions(),
    )


def compared(path: Path, graph: Graph, about: About) -> float:
    """The largest difference between a file's outputs and those of the graph, for images of random colours.

    Raises:
        InputError: for a file in float32 with our suppression or none, it is larger than rounding explains, or the
            network gives no numbers.
    """
    step, canvas_hw = graph.multiple, about.canvas_hw if about.takes_pictures else None
    height_width = about.image_hw or canvas_hw or (-(-256 // step) * step, -(-288 // step) * step)
    largest = _apart(path, graph, about, height_width)
    if canvas_hw is not None:
        # The runtimes' resampling is Pillow's but for some pixels that are rounded otherwise (one of 255).
        resized = _apart(path, graph, about, (canvas_hw[0] * 5 // 4, canvas_hw[1] * 3 // 2))
        largest = largest if resized <= LARGEST_RESIZED else resized
    # TensorFlow Lite's operator suppresses boxes before they are cut at the canvas, and so gives others at its edges;
    # the writer of such a file has compared what goes into the operator.
    own_suppression = path.suffix == ".tflite" and about.postprocess is not None
    if about.precision == "float32" and not own_suppression and not largest <= LARGEST:  # nor if it is no number
        msg = (
            f"the file's answers differ from the network's by {largest:.3g}, which is more than rounding. It is not "
            "written. Use another format, and report this with the command."
        )
        raise InputError(msg)
    return largest


def _apart(path: Path, graph: Graph, about: About, image_hw: tuple[int, int]) -> float:
    """The largest difference for images of one size."""
    count = about.batch or 2
    images = patches(count, image_hw)
    sizes_hw = torch.tensor([image_hw] * count, dtype=torch.float32)
    given: dict[str, Tensor] = {"images": images, "sizes_hw": sizes_hw}
    with torch.no_grad():
        expected = dict(zip(graph.outputs, graph(**{name: given[name] for name in graph.inputs}), strict=True))
    if "detections" in expected:
        expected = boxes_of_rows(expected["detections"], sizes_hw)
    found = computed(open_exported(path, about.task), images, sizes_hw)
    if "class_logits" in expected:  # some files hold scores, and give logits that are made of these
        for each in (found, expected):
            each["class_logits"] = each["class_logits"].sigmoid()
    return max(difference(found[name], expected[name]) for name in expected if name in _COMPARED)


# The order of boxes with equal scores, and with it their rows, may differ.
_COMPARED = ("scores", "class_logits", "box_deltas", "logits", "class_rows", "probabilities", "embeddings")


def _litert(options: Options, about: About, postprocess: Postprocess | None) -> LitertOptions:
    own = LitertOptions(
        about.image_hw,
        "none" if postprocess is None else "op",
        options.argmax is not False,
        options.precision,
        options.calibration,
    )
    if postprocess is None:
        return own
    return replace(
        own,
        score_threshold=postprocess.score_threshold,
        iou_threshold=postprocess.iou_threshold,
        max_detections=postprocess.max_detections,
        class_agnostic=postprocess.class_agnostic,
    )


def _postprocess(loaded: Loaded, options: Options) -> Postprocess | None:
    if detector_in(loaded.network) is None or options.nms == "outside":
        return None
    stored = loaded.model.get("postprocess", {})
    assert isinstance(stored, Mapping)
    make: Callable[..., Postprocess] = Postprocess
    return make(**{**stored, **options.suppression})
