"""From a network to a file that another runtime computes, compared with the network before it takes its place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from deployment.export.compare import LARGEST, difference, patches
from deployment.export.graphs import Form, Graph, graph_of
from deployment.export.onnx_file import write_onnx
from deployment.export.openvino_file import write_openvino
from deployment.export.torch_file import write_torch
from deployment.export.trace import program_of
from deployment.litert.convert import LABELS_SUFFIX, labels_of, write_tflite
from deployment.litert.options import LitertOptions
from deployment.networks import Loaded, Network
from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from engine.checked import Checked
from engine.errors import InputError, OutputError
from engine.exports.extras import needed
from engine.exports.files import About, boxes_of_rows, computed, open_exported
from engine.numbers import AboveZeroToOne, PositiveInt, ZeroToBelowOne
from engine.outputs import make_folder, write_text
from engine.training.checkpoints import versions
from joint.network.model import JointNetwork
from segmentation.network.model import Segmenter

Format = Literal["onnx", "openvino", "litert", "torch"]
SUFFIXES: Mapping[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2"}
# All files of a format; those of weights come first.
_FILES: Mapping[Format, tuple[str, ...]] = {
    "onnx": (LABELS_SUFFIX, ".onnx"),
    "openvino": (LABELS_SUFFIX, ".bin", ".xml"),
    "litert": (LABELS_SUFFIX, ".tflite"),
    "torch": (".pt2",),
}
_PACKAGES: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "litert": ("ai_edge_litert",),
    "torch": (),
}


FRIGATE_READS = 20  # boxes of an image (frigate/detectors/plugins/onnx.py and openvino.py)


@dataclass(frozen=True)
class Options(Checked):
    """What a file holds.

    Attributes:
        image_size: height and width in pixels, or the side of a square, that the file is for; None leaves both open.
        batch_size: images at a time; None takes any number.
        nms: whether decoding and suppression are inside the file, or are left to whoever reads its logits.
        argmax: whether the file gives the class of each pixel, or the logits of all classes.
        score_threshold: boxes at or below it are not given; None is the checkpoint's.
        iou_threshold: overlap above which a box is dropped; None is the checkpoint's.
        max_detections: most boxes of an image; None is the checkpoint's, or 20, which is what Frigate reads.
        layout: `frigate` gives boxes as Frigate's detectors `onnx` and `openvino` read them (`model_type: yolonas`).
        precision: number type of the weights and the computation; only files of LiteRT have another than float32.
        calibration: images like those that the file will see, for int8.
    """

    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    batch_size: PositiveInt | None = None
    nms: Literal["inside", "outside"] = "inside"
    argmax: bool = True
    score_threshold: ZeroToBelowOne | None = None
    iou_threshold: AboveZeroToOne | None = None
    max_detections: PositiveInt | None = None
    precision: Literal["float32", "float16", "int8"] = "float32"
    calibration: tuple[Path, ...] = ()
    layout: Literal["own", "frigate"] = "own"

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Height and width."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


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
    if path.suffix != SUFFIXES[file_format]:
        msg = f"a file of {file_format} ends in {SUFFIXES[file_format]}; '{path}' does not. Rename it."
        raise InputError(msg)
    needed(*_PACKAGES[file_format], extra=file_format)  # before the minutes that the rest may take
    folder = make_folder(path.parent)
    network = loaded.network
    if options.precision != "float32" and file_format != "litert":
        msg = f"precision is {options.precision}, which export gives to litert only. Leave it out."
        raise InputError(msg)
    if (options.precision == "int8") != bool(options.calibration):
        msg = "calibration is for int8, which needs images like those that the file will see. Give both, or neither."
        raise InputError(msg)
    if options.layout == "frigate":
        options = _for_frigate(loaded, file_format, options)
    postprocess = _postprocess(loaded, options)
    if file_format in ("torch", "litert") and options.image_size is None:
        options = replace(options, image_size=_usual_hw(network))
    if file_format == "litert":
        if options.batch_size not in (None, 1):
            msg = f"batch_size is {options.batch_size}; a file of litert takes one image at a time. Leave it out."
            raise InputError(msg)
        options = replace(options, batch_size=1)
    form = Form(postprocess, options.argmax, options.image_hw, options.layout)
    graph = graph_of(network, form)
    about = about_of(loaded, options, graph, postprocess)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.stem}.") as beside:
        made = Path(beside, path.name)
        if file_format == "litert":
            said: dict[str, object] = json.loads(about.to_json())
            write_tflite(network, made, metadata=said, options=_litert(options, about, postprocess))
        elif file_format == "torch":
            write_torch(program_of(graph, form.image_hw, options.batch_size), made, about)
        else:
            program = program_of(graph, form.image_hw, options.batch_size)
            onnx_file = made.with_suffix(".onnx")
            write_onnx(program, onnx_file, about, graph.inputs, graph.outputs)
            if file_format == "openvino":
                write_openvino(onnx_file, made, about)
                onnx_file.unlink()
        if options.layout == "frigate":
            assert isinstance(network, EfficientDet)
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
    network = loaded.network
    detector = _detector(network)
    segmenter = (
        network if isinstance(network, Segmenter) else network.segmenter if isinstance(network, JointNetwork) else None
    )
    classes: BoxClasses | None = None if detector is None else detector.classes
    source = detector or segmenter
    assert source is not None
    return About(
        task=loaded.task,
        model=loaded.model,
        batch=options.batch_size,
        image_hw=options.image_hw,
        multiple=graph.multiple,
        canvas_hw=None if detector is None else detector.config.image_size,
        postprocess=None if postprocess is None else asdict(postprocess),
        argmax=segmenter is not None and options.argmax,
        precision=options.precision,
        layout=options.layout,
        mean=tuple(float(value) / 255 for value in source.mean.flatten()),
        std=tuple(float(value) / 255 for value in source.std.flatten()),
        fill_color=source.fill_color,
        names=() if classes is None else tuple(classes.names),
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
    step = graph.multiple
    height, width = about.image_hw or (-(-256 // step) * step, -(-288 // step) * step)
    count = about.batch or 2
    images = patches(count, (height, width))
    sizes_hw = torch.tensor([(height, width)] * count, dtype=torch.float32)
    given: dict[str, Tensor] = {"images": images, "sizes_hw": sizes_hw}
    with torch.no_grad():
        expected = dict(zip(graph.outputs, graph(**{name: given[name] for name in graph.inputs}), strict=True))
    if "detections" in expected:
        expected = boxes_of_rows(expected["detections"], sizes_hw)
    found = computed(open_exported(path, about.task), images, sizes_hw)
    if "class_logits" in expected:  # some files hold scores, and give logits that are made of these
        for each in (found, expected):
            each["class_logits"] = each["class_logits"].sigmoid()
    largest = max(difference(found[name], expected[name]) for name in expected if name in _COMPARED)
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


# The order of boxes with equal scores, and with it their rows, may differ.
_COMPARED = ("scores", "class_logits", "box_deltas", "logits", "class_rows")


def _litert(options: Options, about: About, postprocess: Postprocess | None) -> LitertOptions:
    own = LitertOptions(
        about.image_hw,
        "none" if postprocess is None else "op",
        options.argmax,
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


def _for_frigate(loaded: Loaded, file_format: Format, options: Options) -> Options:
    """The options with what Frigate asks for: one image of one size, and at most 20 boxes, of which it reads no more.

    Raises:
        InputError: the network, the format or an option is not for it.
    """
    detector = loaded.network
    wrong = (
        f"a network of {loaded.task}" if not isinstance(detector, EfficientDet)
        else f"--format {file_format}" if file_format not in ("onnx", "openvino")
        else "--nms outside" if options.nms == "outside"
        else f"--batch_size {options.batch_size}" if options.batch_size not in (None, 1)
        else ""
    )  # fmt: skip
    if wrong:
        msg = (
            f"--layout frigate is for one image at a time of a detector in onnx or openvino, with --nms inside; this "
            f"is {wrong}. Leave one of them out."
        )
        raise InputError(msg)
    size = options.image_size or _usual_hw(detector)
    most = FRIGATE_READS if options.max_detections is None else options.max_detections
    return replace(options, image_size=size, batch_size=1, max_detections=most)


def _postprocess(loaded: Loaded, options: Options) -> Postprocess | None:
    asked = {
        name: value
        for name in ("score_threshold", "iou_threshold", "max_detections")
        if (value := getattr(options, name)) is not None
    }
    if _detector(loaded.network) is None or options.nms == "outside":
        if asked:
            where = "a network of pixels only" if options.nms == "inside" else "--nms outside"
            msg = f"{next(iter(asked))} is a setting of the suppression, which {where} does not have. Leave it out."
            raise InputError(msg)
        return None
    stored = loaded.model.get("postprocess", {})
    assert isinstance(stored, Mapping)
    make: Callable[..., Postprocess] = Postprocess
    return make(**{**stored, **asked})


def _detector(network: Network) -> EfficientDet | None:
    if isinstance(network, JointNetwork):
        return network.detector
    return network if isinstance(network, EfficientDet) else None


def _usual_hw(network: Network) -> tuple[int, int]:
    detector = _detector(network)
    return (512, 512) if detector is None else detector.config.image_size
