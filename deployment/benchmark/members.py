"""The networks that are measured: checkpoints, exported files, and untrained members of the families by name."""

from __future__ import annotations

import copy
import hashlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from backbones.networks import create_classifier
from backbones.scaling import MEMBERS
from backbones.study.cost import Cost, count
from deployment.benchmark.candidates import SUFFIXES, Subject
from deployment.networks import Loaded, Network, load_any
from detection.network.family import MemberName as DetectorName
from detection.network.model import EfficientDet
from engine.errors import InputError, check_choice
from engine.exports.files import RUNTIMES, Runtime, is_exported
from engine.reading.reader import IMAGENET_MEAN_COLOR
from engine.tasks import registered
from joint.network.model import JointNetwork
from segmentation.network.family import MemberName as SegmenterName
from segmentation.network.model import Segmenter

CLASSIFICATION = "classification"
_SEGMENTER, _JOINT = "deeplab_", "joint_"
_SEGMENTED_HW = (512, 512)  # of a segmenter, which has no size of its own
_MODELS: Mapping[str, type[EfficientDet] | type[Segmenter] | type[JointNetwork]] = {
    "detection": EfficientDet,
    "segmentation": Segmenter,
    "joint": JointNetwork,
}


class Classifier(nn.Module):
    """An EfficientNet alone, with the normalisation of its images.

    Args:
        name: `b0` ... `b7`.
    """

    mean: Tensor
    std: Tensor
    fill_color = IMAGENET_MEAN_COLOR
    stride = 32

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = create_classifier(MEMBERS[name])
        for key, values in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
            self.register_buffer(key, 255 * torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, K) probabilities of the classes, of (B, 3, H, W) RGB images in 0..255."""
        normal = (images.to(self.mean.dtype) - self.mean) / self.std
        logits: Tensor = self.network(normal.contiguous(memory_format=torch.channels_last))
        return logits.softmax(1)


def member_names() -> list[str]:
    """The names of all members."""
    detectors, segmenters = get_args(DetectorName), get_args(SegmenterName)
    return [
        *detectors,
        *MEMBERS,
        *(f"{_SEGMENTER}{name}" for name in segmenters),
        *(f"{_JOINT}{name}" for name in detectors),
    ]


def build(name: str) -> tuple[Network | Classifier, str]:
    """An untrained member and its task; equal at each call.

    Args:
        name: `d0` ... `d7x` and `lite0` ... `lite4` are detectors, `b0` ... `b7` EfficientNets alone; `deeplab_b0` and
            others with DeepLabv3+, `joint_d0` and others with both heads.

    Raises:
        InputError: there is no such member.
    """
    check_choice("member", name, member_names())
    torch.manual_seed(0)
    network: Network | Classifier
    if name in MEMBERS:
        network, task = Classifier(name), CLASSIFICATION
    elif name.startswith(_SEGMENTER):
        network, task = Segmenter(name.removeprefix(_SEGMENTER)), "segmentation"
    elif name.startswith(_JOINT):
        detector = EfficientDet(name.removeprefix(_JOINT), 90)
        segmenter = Segmenter(backbone=detector.config.backbone, mean=detector.config.mean, std=detector.config.std)
        network, task = JointNetwork(detector, segmenter), "joint"
    else:
        network, task = EfficientDet(name, 90), "detection"
    return network.eval(), task


def size_of(network: nn.Module) -> tuple[int, int]:
    """Height and width of a network's images where none are asked for."""
    if isinstance(network, JointNetwork):
        network = network.detector
    if isinstance(network, EfficientDet):
        return network.config.image_size
    return _SEGMENTED_HW


def subjects_of(ckpt_paths: Sequence[str], members: Sequence[str]) -> list[Subject]:
    """The networks, with names that differ.

    Raises:
        InputError: a file is missing, damaged or of another program, or there is no such member.
    """
    named = [*map(Path, ckpt_paths)]
    same = Counter(path.name for path in named)
    found = []
    for path, source in zip(named, ckpt_paths, strict=True):
        name = path.name if same[path.name] == 1 else f"{path.parent.name}/{path.name}"
        found.append(_exported(source, name) if is_exported(source) else _checkpoint(source, name))
    for member in members:
        network, task = build(member)
        resolution = MEMBERS[member].resolution if task == CLASSIFICATION else 0
        own_hw = (resolution, resolution) if resolution else size_of(network)
        found.append(Subject("member", member, member, task, "", own_hw))
    return found


def load(subject: Subject) -> Loaded | Classifier:
    """The network of a checkpoint or member, not folded.

    Raises:
        InputError: its file is missing or damaged.
    """
    if subject.kind == "checkpoint":
        return load_any(subject.source, subject.task)
    network, task = build(subject.source)
    if isinstance(network, Classifier):
        return network
    return Loaded(network, task, network.settings(), subject.name, "", "")


def cost_of(subject: Subject, size_hw: tuple[int, int]) -> Cost | None:
    """Parameters and multiply-accumulates of one image; None where an exported file does not say enough."""
    if subject.kind == "file":
        settings = open_any(subject.source).about.model
        make: Callable[..., nn.Module] = _MODELS[subject.task].from_settings
        try:
            network = make(settings)
        except (InputError, KeyError, TypeError):
            return None
    else:
        loaded = load(subject)
        network = loaded if isinstance(loaded, Classifier) else loaded.network
    return count(copy.deepcopy(network).eval().to("meta"), size_hw)


def _checkpoint(source: str, name: str) -> Subject:
    if source in ("best", "last"):
        msg = f"'{source}' is that of a task's latest run. Give the path of the checkpoint."
        raise InputError(msg)
    loaded = load_any(source)
    return Subject("checkpoint", source, name, loaded.task, loaded.sha256, size_of(loaded.network))


def _exported(source: str, name: str) -> Subject:
    about = open_any(source).about
    own_hw = about.image_hw or about.canvas_hw or _SEGMENTED_HW
    fixed_hw = about.canvas_hw if about.takes_pictures else about.image_hw
    return Subject("file", source, name, about.task, _digest(Path(source)), own_hw, fixed_hw, about.precision)


def open_any(source: str) -> Runtime:
    """The opened file of a network of any task.

    Raises:
        InputError: the file is missing, damaged or of another program, or its runtime is not installed.
    """
    path = Path(source)
    if not path.is_file():
        msg = f"there is no file '{path}'. Give one that `python -m deployment export` wrote."
        raise InputError(msg)
    if path.suffix.lower() not in SUFFIXES:
        msg = f"'{path}' has a runtime that benchmark does not know. Give one of {', '.join(SUFFIXES)}."
        raise InputError(msg)
    opened: Runtime = pkgutil.resolve_name(registered(RUNTIMES)[path.suffix.removeprefix(".").lower()])(path)
    return opened


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in (path, path.with_suffix(".bin")):
        if file.is_file() and (file == path or path.suffix == ".xml"):
            total.update(file.read_bytes())
    return total.hexdigest()
