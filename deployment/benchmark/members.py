"""The networks that are measured: checkpoints, exported files, and untrained members of the families by name."""

from __future__ import annotations

import hashlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import torch
from torch import nn

from backbones.scaling import MEMBERS
from backbones.study.cost import Cost
from classification.data.classes import LabelClasses
from classification.data.sets.imagenet import imagenet_names
from classification.network.family import ClassifierArchitecture
from classification.network.model import Classifier, StoredClassifier
from deployment.benchmark.candidates import SUFFIXES, Subject
from deployment.cost import cost_of_network
from deployment.networks import AnyNetwork, Loaded, load_any
from detection.network.build import restore_detector
from detection.network.detector import Detector
from detection.network.family import MemberName as DetectorName
from detection.network.model import EfficientDet
from engine.errors import InputError, check_choice
from engine.exports.files import RUNTIMES, About, Runtime, is_exported
from engine.tasks import registered
from joint.network.model import JointNetwork
from segmentation.network.family import MemberName as SegmenterName
from segmentation.network.model import Segmenter

_SEGMENTER, _JOINT = "deeplab_", "joint_"
_SEGMENTED_HW = (512, 512)  # of a segmenter, which has no size of its own


def _restored_classifier(settings: Mapping[str, object]) -> Classifier:
    return Classifier.from_settings(cast("StoredClassifier", settings))


_MODELS: Mapping[str, Callable[[Mapping[str, object]], nn.Module]] = {
    "detection": restore_detector,
    "segmentation": Segmenter.from_settings,
    "joint": JointNetwork.from_settings,
    "classification": _restored_classifier,
}


def member_names() -> list[str]:
    """The names of all members."""
    detectors, segmenters = get_args(DetectorName), get_args(SegmenterName)
    return [
        *detectors,
        *MEMBERS,
        *(f"{_SEGMENTER}{name}" for name in segmenters),
        *(f"{_JOINT}{name}" for name in detectors),
    ]


def build(name: str) -> tuple[AnyNetwork, str]:
    """An untrained member and its task; equal at each call.

    Args:
        name: `d0` ... `d7x` and `lite0` ... `lite4` are detectors, `b0` ... `b7` classifiers of ImageNet's classes;
            `deeplab_b0` and others with DeepLabv3+, `joint_d0` and others with both heads.

    Raises:
        InputError: there is no such member.
    """
    check_choice("member", name, member_names())
    torch.manual_seed(0)
    network: AnyNetwork
    if name in MEMBERS:
        network, task = Classifier(name, classes=LabelClasses(imagenet_names())), "classification"
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
    if isinstance(network, Classifier):
        return network.config.image_size, network.config.image_size
    return network.config.image_size if isinstance(network, Detector) else _SEGMENTED_HW


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
        found.append(Subject("member", member, member, task, "", size_of(network)))
    return found


def load(subject: Subject) -> Loaded:
    """The network of a checkpoint or member, not folded.

    Raises:
        InputError: its file is missing or damaged.
    """
    if subject.kind == "checkpoint":
        return load_any(subject.source, subject.task)
    network, task = build(subject.source)
    settings: Mapping[str, object] = {**network.settings()}
    return Loaded(network, task, settings, subject.name, "", "")


def cost_of(subject: Subject, size_hw: tuple[int, int]) -> Cost | None:
    """Parameters and multiply-accumulates of one image; None where an exported file does not say enough."""
    if subject.kind != "file":
        return cost_of_network(load(subject).network, size_hw)
    try:
        network = _MODELS[subject.task](open_any(subject.source).about.model)
    except (InputError, KeyError, TypeError):
        return None
    return cost_of_network(network, size_hw)


def _checkpoint(source: str, name: str) -> Subject:
    if source in ("best", "last"):
        msg = f"'{source}' is that of a task's latest run. Give the path of the checkpoint."
        raise InputError(msg)
    loaded = load_any(source)
    return Subject("checkpoint", source, name, loaded.task, loaded.sha256, size_of(loaded.network))


def _exported(source: str, name: str) -> Subject:
    about = open_any(source).about
    own_hw = about.image_hw or about.canvas_hw or _square_of(about) or _SEGMENTED_HW
    fixed_hw = about.canvas_hw if about.takes_pictures else about.image_hw
    return Subject("file", source, name, about.task, _digest(Path(source)), own_hw, fixed_hw, about.precision)


def _square_of(about: About) -> tuple[int, int] | None:
    """The square that a classifier of a file sees pictures as."""
    if about.task != "classification":
        return None
    try:
        side = ClassifierArchitecture.from_settings(cast("StoredClassifier", about.model)).image_size
    except (KeyError, TypeError) as error:
        msg = "the file does not describe a classifier. Export it again."
        raise InputError(msg) from error
    return side, side


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
