"""Options that a network or a format cannot have, and what follows from both where nothing is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from classification.network.model import Classifier
from deployment.export.options import ONE_SIZE, Format, Options
from deployment.networks import AnyNetwork, Loaded
from detection.network.detector import Detector
from engine.errors import InputError
from joint.network.model import JointNetwork
from segmentation.network.model import Segmenter

FRIGATE_READS = 20  # boxes of an image (frigate/detectors/plugins/onnx.py and openvino.py)

_PRECISIONS: Mapping[Format, tuple[str, ...]] = {"litert": ("float32", "float16", "int8")}


def settled(loaded: Loaded, file_format: Format, options: Options) -> Options:
    """The options with what follows from the network and the format.

    Args:
        loaded: the network.
        file_format: the format of the file.
        options: what is asked for.

    Raises:
        InputError: an option cannot apply to the network or the format, or not beside another one.
    """
    _check_kind(loaded, file_format, options)
    _check_number_type(file_format, options)
    _check_answers(loaded, options)
    if options.takes_pictures:
        return _for_pictures(loaded, file_format, options)
    if options.layout == "frigate":
        options = _for_frigate(loaded, file_format, options)
    if file_format in ONE_SIZE and options.image_size is None:
        options = replace(options, image_size=_usual_hw(loaded.network))
    if file_format == "executorch":
        return outside(loaded, file_format, options)
    if file_format != "litert":
        return options
    if options.batch_size not in (None, 1):
        msg = f"batch_size is {options.batch_size}; a file of litert takes one image at a time. Leave it out."
        raise InputError(msg)
    return replace(options, batch_size=1)


def detector_in(network: AnyNetwork) -> Detector | None:
    """The network of boxes, if there is one."""
    if isinstance(network, JointNetwork):
        return network.detector
    return network if isinstance(network, Detector) else None


def segmenter_in(network: AnyNetwork) -> Segmenter | None:
    """The network of pixels, if there is one."""
    if isinstance(network, JointNetwork):
        return network.segmenter
    return network if isinstance(network, Segmenter) else None


# What graphs of torchvision's heads and of classifiers are written to.
_PLAIN: tuple[Format, ...] = ("onnx", "openvino", "torch")


def plain_kind(network: AnyNetwork) -> str | None:
    """What a classifier, or a detector with a head of torchvision, is called; None for a network of the own heads."""
    if isinstance(network, Classifier):
        return "a classifier"
    detector = detector_in(network)
    if detector is None or detector.config.head == "efficientdet":
        return None
    return f"a detector with head {detector.config.head}"


def _check_kind(loaded: Loaded, file_format: Format, options: Options) -> None:
    """Refuse what torchvision's heads and classifiers have not.

    Raises:
        InputError: the format, or an option, is not for them.
    """
    kind = plain_kind(loaded.network)
    if kind is None:
        return
    classifier = isinstance(loaded.network, Classifier)
    wrong, remedy = (
        (f"--format {file_format}", f"Give {' or '.join(_PLAIN)}") if file_format not in _PLAIN
        else ("--letterbox inside, as it looks at a square cut out of a picture", "Leave it out")
        if classifier and options.takes_pictures
        else ("--nms outside, as its suppression is torchvision's own", "Leave it out")
        if not classifier and options.nms == "outside"
        else ("", "")
    )  # fmt: skip
    if wrong:
        msg = f"'{loaded.name}' is {kind}, which is not written with {wrong}. {remedy}."
        raise InputError(msg)


def _check_number_type(file_format: Format, options: Options) -> None:
    own = _PRECISIONS.get(file_format, ("float32",))
    if options.precision not in own:
        msg = (
            f"precision is {options.precision}; export writes files of {file_format} in {', '.join(own)} only. Leave "
            "it out, or use `python -m deployment quantize` for onnx, openvino, executorch and torch."
        )
        raise InputError(msg)
    if (options.precision == "int8") != bool(options.calibration):
        msg = "calibration is for int8, which needs images like those that the file will see. Give both, or neither."
        raise InputError(msg)


def _check_answers(loaded: Loaded, options: Options) -> None:
    """Refuse settings of answers that the network does not give."""
    if segmenter_in(loaded.network) is None and options.argmax is not None:
        msg = f"argmax is a setting of classes of pixels, which a network of {loaded.task} does not give. Leave it out."
        raise InputError(msg)
    boxes = detector_in(loaded.network) is not None
    if not boxes and options.nms is not None:
        msg = f"nms is a setting of boxes, which a network of {loaded.task} does not give. Leave it out."
        raise InputError(msg)
    asked = next(iter(options.suppression), None)
    if asked is not None and (not boxes or options.nms == "outside"):
        where = "--nms outside" if boxes else f"a network of {loaded.task}"
        msg = f"{asked} is a setting of the suppression, which {where} does not have. Leave it out."
        raise InputError(msg)


def _for_pictures(loaded: Loaded, file_format: Format, options: Options) -> Options:
    """The options with the canvas that pictures are laid on, if there is one.

    Raises:
        InputError: the format or an option is not for pictures of any size.
    """
    boxes = detector_in(loaded.network) is not None
    wrong = (
        f"--format {file_format}, whose files are for one size" if file_format in ("litert", "executorch")
        else "--layout frigate, which is for one size" if options.layout == "frigate"
        else "--nms outside, as boxes that are not decoded have no pixels" if boxes and options.nms == "outside"
        else "--image_size, and a segmenter has no canvas" if not boxes and options.image_size is not None
        else ""
    )  # fmt: skip
    if wrong:
        msg = f"--letterbox inside takes pictures of any size; it cannot go with {wrong}. Leave one of them out."
        raise InputError(msg)
    return replace(options, image_size=options.image_size or _usual_hw(loaded.network)) if boxes else options


def _for_frigate(loaded: Loaded, file_format: Format, options: Options) -> Options:
    """The options with what Frigate asks for: one image of one size, and at most 20 boxes, of which it reads no more.

    Raises:
        InputError: the network, the format or an option is not for it.
    """
    detector = loaded.network
    wrong = (
        f"a network of {loaded.task}" if not isinstance(detector, Detector)
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


def outside(loaded: Loaded, file_format: Format, options: Options) -> Options:
    """The options with a number of images, and boxes that are decoded and suppressed by whoever reads the file.

    So are files of ExecuTorch, and those of torch.export in int8.

    Raises:
        InputError: the suppression is asked for inside.
    """
    boxes = detector_in(loaded.network) is not None
    asked = "nms" if options.nms == "inside" else next(iter(options.suppression), None)
    if boxes and asked is not None:
        msg = (
            f"{asked} is a setting of a suppression inside the file, which this file of {file_format} does not have. "
            "Leave it out: the file gives logits and deltas, and predictions suppress by their own settings."
        )
        raise InputError(msg)
    return replace(options, nms="outside" if boxes else None, batch_size=options.batch_size or 1)


def _usual_hw(network: AnyNetwork) -> tuple[int, int]:
    if isinstance(network, Classifier):
        return network.config.image_size, network.config.image_size
    detector = detector_in(network)
    return (512, 512) if detector is None else detector.config.image_size
