"""What is measured: each network at each size, in each runtime and number type, with each number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from engine.errors import InputError
from engine.numbers import PositiveInt

Runtime = Literal["torch", "onnx", "openvino", "litert", "executorch", "pt2"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
Size: TypeAlias = PositiveInt | tuple[PositiveInt, PositiveInt]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
SUFFIXES: dict[str, Runtime] = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".tflite": "litert",
    ".pte": "executorch",
    ".pt2": "pt2",
}


@dataclass(frozen=True)
class Subject:
    """A network, wherever it comes from.

    Attributes:
        kind: a checkpoint, an untrained member of a family, or an exported file.
        source: a path, the name of a published network, or that of a member.
        name: how the tables call it.
        task: its task.
        digest: SHA-256 of its file; empty without one.
        own_hw: height and width of its images where none are asked for.
        fixed_hw: the one height and width that an exported file takes; None for any.
        precision: number type of an exported file.
    """

    kind: Literal["checkpoint", "member", "file"]
    source: str
    name: str
    task: str
    digest: str
    own_hw: tuple[int, int]
    fixed_hw: tuple[int, int] | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class Candidate:
    """One row of the table.

    Attributes:
        subject: the network.
        runtime: what computes it.
        precision: number type of the computation.
        size_hw: height and width of the images in pixels.
        batch: images at a time.
        threads: threads of the runtime.
    """

    subject: Subject
    runtime: Runtime
    precision: str
    size_hw: tuple[int, int]
    batch: int
    threads: int

    @property
    def label(self) -> str:
        """The row in words, such as `d0 onnx 512x512`; what is usual is left out."""
        words = [self.subject.name]
        if self.subject.kind != "file":
            words.append(self.runtime)
        if self.precision != "float32":
            words.append(self.precision)
        words.append("{}x{}".format(*self.size_hw))
        if self.batch > 1:
            words.append(f"batch {self.batch}")
        return " ".join(words)

    @property
    def key(self) -> str:
        """The row in the journal: another file of the same name is another one."""
        return f"{self.label} threads {self.threads} {self.subject.kind} {self.subject.digest[:16]}".strip()

    @property
    def network_key(self) -> str:
        """What parameters and multiply-accumulates belong to."""
        return f"{self.subject.kind} {self.subject.name} {self.subject.digest[:16]} {self.size_hw}"

    @property
    def answers_key(self) -> str:
        """What an accuracy belongs to: answers depend neither on threads nor on the number of images at a time."""
        return f"{self.network_key} {self.runtime} {self.precision}"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {**asdict(self), "label": self.label}


def all_candidates(
    subjects: Sequence[Subject],
    runtimes: Sequence[Runtime],
    precisions: Sequence[Precision],
    sizes: Sequence[Size],
    batches: Sequence[int],
    threads: Sequence[int],
) -> list[Candidate]:
    """Every row: networks in the order given, each at all sizes, in all runtimes.

    An exported file has the runtime and the number type that it was written for, and may have one size.

    Args:
        subjects: the networks.
        runtimes: for checkpoints and members.
        precisions: for checkpoints and members.
        sizes: height and width, or the side of a square; none takes each network's own.
        batches: numbers of images at a time.
        threads: numbers of threads.

    Raises:
        InputError: nothing is to be measured, or a row is given twice.
    """
    found = list(_each(subjects, runtimes, precisions, sizes, batches, threads))
    if not found:
        msg = "no network is given. Give --ckpt_paths, or --members such as d0, lite0, b0, deeplab_b0 or joint_lite0."
        raise InputError(msg)
    labels: dict[str, Candidate] = {}
    for each in found:
        label = f"{each.label} threads {each.threads}"
        if label in labels:
            msg = f"'{each.label}' is asked for twice. Leave one out, or rename one of the files."
            raise InputError(msg)
        labels[label] = each
    return found


def _each(
    subjects: Sequence[Subject],
    runtimes: Sequence[Runtime],
    precisions: Sequence[Precision],
    sizes: Sequence[Size],
    batches: Sequence[int],
    threads: Sequence[int],
) -> Iterator[Candidate]:
    asked = [(size, size) if isinstance(size, int) else (size[0], size[1]) for size in sizes]
    for subject in subjects:
        hws = [subject.fixed_hw] if subject.fixed_hw is not None else asked or [subject.own_hw]
        pairs: list[tuple[Runtime, str]] = [(runtime, each) for runtime, each in product(runtimes, precisions)]
        if subject.kind == "file":
            pairs = [(SUFFIXES[Path(subject.source).suffix.lower()], subject.precision)]
        for size_hw, (runtime, precision), batch, number in product(hws, pairs, batches, threads):
            yield Candidate(subject, runtime, precision, size_hw, batch, number)
