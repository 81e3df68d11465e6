"""The networks that `deployment` works on: a checkpoint, a published name or a file, of any task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from classification.network.model import Classifier
from detection.network.heads.detector import HeadedDetector
from detection.network.model import EfficientDet
from engine.errors import InputError, check_choice
from engine.exports.files import is_exported, open_exported
from engine.hub.addresses import HubAddress, is_address
from engine.hub.folder import WEIGHTS, is_shared, licence_of
from engine.tasks import find_task
from engine.training.checkpoint_files import checkpoint_of_run, on_this_machine
from engine.training.checkpoints import checkpoint_content
from joint.network.model import JointNetwork
from segmentation.network.model import Segmenter

Network: TypeAlias = EfficientDet | Segmenter | JointNetwork
AnyNetwork: TypeAlias = Network | HeadedDetector | Classifier
TASKS = ("detection", "segmentation", "joint", "classification")


class Loaded(NamedTuple):
    """A network with where it comes from.

    Attributes:
        network: in evaluation mode, not folded.
        task: its task.
        model: the settings that its checkpoint holds, or else its own.
        name: of its file, folder or repository, or the published name.
        sha256: of its file; empty without one.
        licence: of its weights, as far as it is known.
    """

    network: AnyNetwork
    task: str
    model: Mapping[str, object]
    name: str
    sha256: str
    licence: str


def load_any(source: str | Path, task: str | None = None) -> Loaded:
    """Load a network of any task, with any head.

    Args:
        source: a checkpoint; `best` or `last` of the latest run of `task`; a shared network's folder, or
            `hf://owner/name`; the name of a published detector; a weight file; or a folder of
            segmentation-models-pytorch.
        task: the task; None takes the one that a checkpoint names, `segmentation` for a folder, and else `detection`.

    Raises:
        InputError: the file is missing, damaged, of another task, or exported already.
    """
    if is_exported(source):
        msg = f"'{source}' is an exported file. Give the checkpoint that it was made of."
        raise InputError(msg)
    given = source
    source, task = source_and_task(source, task)
    name = HubAddress.read(given).name if isinstance(given, str) and is_address(given) else Path(source).name
    content = checkpoint_content(source)
    network, licence = _load(source, task)
    stored = {} if content is None else content["model"]
    model = {**(stored if isinstance(stored, dict) else {}), **network.settings()}
    path = Path(source, WEIGHTS) if is_shared(source) else Path(source)
    sha256 = _sha256(path) if path.is_file() else ""
    return Loaded(network, task, model, name, sha256, licence or licence_of(content))


def source_and_task(source: str | Path, task: str | None) -> tuple[str | Path, str]:
    """The file that `best` and `last` stand for, the folder with what a hub gave, or the source itself; and its task.

    Args:
        source: what `load_any` takes, or an exported file.
        task: see `load_any`.

    Raises:
        InputError: there is no such task or run, the file is missing or damaged, or a hub does not give it.
    """
    if task is not None:
        check_choice("task", task, TASKS)
    if source in ("best", "last"):
        if task is None:
            msg = f"--ckpt_path {source} is that of a task's latest run. Give --task, one of {', '.join(TASKS)}."
            raise InputError(msg)
        spec = find_task(task)
        return checkpoint_of_run("runs", task, None, "best" if source == "best" else "last", spec.monitor_mode), task
    source = on_this_machine(source)
    if task is None:
        task = _task_of(source)
        check_choice("task", task, TASKS)
    return source, task


def _task_of(source: str | Path) -> str:
    if is_exported(source):
        return open_exported(source).about.task
    content = checkpoint_content(source)
    if content is not None:
        return str(content["task"])
    return "segmentation" if Path(source).is_dir() else "detection"


def _load(source: str | Path, task: str) -> tuple[AnyNetwork, str]:
    if task == "detection":
        from detection.weights.load import read_pretrained

        detector, about = read_pretrained(source)
        detector = detector.eval()
        assert isinstance(detector, EfficientDet | HeadedDetector)
        return detector, about.get("licence", "")
    if task == "classification":
        from classification.weights.load import load_network as load_classifier

        return load_classifier(source), ""
    if task == "joint":
        from joint.weights.load import load_network as load_joint

        return load_joint(source), ""
    from segmentation.weights.load import load_network as load_segmenter

    return load_segmenter(source), ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
