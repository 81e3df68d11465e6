"""Networks in files of other runtimes, such as ONNX: what such a file says of itself, and how it is opened.

A file is opened by the runtime that is registered for its suffix in the entry-point group `effdense.runtimes`. The
packages of the tasks know only this contract, so that they can take such a file where they take a checkpoint.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveFloat, PositiveInt
from engine.settings import tuples
from engine.tasks import registered

RUNTIMES = "effdense.runtimes"
KEY = "effdense"  # the entry of a file's metadata that holds `About` as JSON
FORMAT = 1
PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int8_bfloat16")


@dataclass(frozen=True)
class About(Checked):
    """What an exported file says of itself, as plain values.

    Attributes:
        task: the task whose network it holds.
        model: the network's settings, as in a checkpoint.
        batch: images at a time; None takes any number.
        image_hw: height and width of the images in pixels; None takes any that `multiple` allows.
        multiple: height and width are multiples of this.
        canvas_hw: height and width of the canvas that boxes were trained on; None for a network of pixels only.
        postprocess: settings of the suppression inside the file; None for a file that gives logits and deltas.
        argmax: whether the file gives the classes of pixels rather than their logits.
        precision: number type of the weights and of the computation.
        layout: `frigate` for boxes in rows of one table, see `boxes_of_rows`.
        letterbox: whether the file takes pictures of any size, lays them on the canvas and answers in their pixels.
        mean: mean of each channel in 0..1, subtracted inside the file.
        std: deviation of each channel in 0..1, divided by inside the file.
        fill_color: RGB in 0..255 of a canvas beside the image.
        names: names of the rows of box classes, empty where a row has none.
        category_ids: ids of the rows in annotation files.
        pixel_names: names of the rows of pixel classes.
        licence: of the weights, as far as it is known.
        checkpoint: name of the file that the weights come from.
        sha256: of that file.
        versions: of the packages that wrote it.

    Raises:
        InputError: a field is of another kind.
    """

    task: str
    model: Mapping[str, object]
    batch: PositiveInt | None = None
    image_hw: tuple[PositiveInt, PositiveInt] | None = None
    multiple: PositiveInt = 1
    canvas_hw: tuple[PositiveInt, PositiveInt] | None = None
    postprocess: Mapping[str, object] | None = None
    argmax: bool = False
    precision: str = "float32"
    layout: Literal["own", "frigate"] = "own"
    letterbox: Literal["inside", "outside"] = "outside"
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    fill_color: tuple[NonNegativeInt, ...] = (0, 0, 0)
    names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    pixel_names: tuple[str, ...] = ()
    licence: str = ""
    checkpoint: str = ""
    sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (fits, words) in _KINDS.items():
            if not fits(getattr(self, name)):
                msg = f"{name} is {str(getattr(self, name))[:40]!r}; allowed: {words}."
                raise InputError(msg)

    @property
    def takes_pictures(self) -> bool:
        """Whether the letter-box is inside."""
        return self.letterbox == "inside"

    def to_json(self) -> str:
        """As text, for the metadata of a file."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    def settings(self, name: str) -> Mapping[str, object]:
        """A group of the network's settings, empty where there is none of that name."""
        found = self.model.get(name)
        return found if isinstance(found, Mapping) else {}

    def plain(self) -> dict[str, str]:
        """Single values as texts, for clients that read no JSON of ours."""
        values = {
            "task": self.task,
            "names": json.dumps(self.names),
            "category_ids": json.dumps(self.category_ids),
            "pixel_names": json.dumps(self.pixel_names),
            "fill_color": json.dumps(self.fill_color),
            "image_hw": json.dumps(None if self.takes_pictures else self.image_hw or self.canvas_hw),
            "licence": self.licence,
        }
        return {name: value for name, value in values.items() if value not in ("", "[]", "null")}

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> About:
        """Read what `to_json` wrote.

        Args:
            text: the entry of the file's metadata; None if there is none.
            path: the file.

        Raises:
            InputError: the file is of another program or of a later version of this one, or says what cannot be.
        """
        try:
            content = json.loads(text or "")
        except ValueError:
            content = None
        if not isinstance(content, dict) or not {"format", "task", "model"} <= content.keys():
            msg = (
                f"'{path}' was not exported by this program: it does not say what network it holds. Give a file that "
                "`python -m deployment export` wrote."
            )
            raise InputError(msg)
        if content["format"] not in range(1, FORMAT + 1):
            msg = f"'{path}' has format {content['format']}; this version reads up to {FORMAT}. Upgrade effdense."
            raise InputError(msg)
        known = {entry.name for entry in fields(cls)}
        make: Callable[..., About] = cls
        try:
            return make(**{name: tuples(value) for name, value in content.items() if name in known})
        except InputError as error:
            msg = f"'{path}' is damaged in what it says of itself: {error} Export it again."
            raise InputError(msg) from error

    def check_images(self, images: Tensor, path: Path) -> None:
        """Do nothing if the file takes images of this size.

        Args:
            images: (B, 3, H, W).
            path: the file.

        Raises:
            InputError: it takes images of other sizes.
        """
        height, width = images.shape[2], images.shape[3]
        if self.image_hw is not None and self.image_hw != (height, width):
            msg = (
                f"'{path}' takes images of {self.image_hw[0]} x {self.image_hw[1]} pixels (height x width), not "
                f"{height} x {width}. Export it for that size, or with --image_size null for any."
            )
            raise InputError(msg)
        if self.image_hw is None and (height % self.multiple or width % self.multiple):
            msg = (
                f"'{path}' takes heights and widths that are multiples of {self.multiple}, not {height} x "
                f"{width}. Export it with --image_size [{height},{width}]."
            )
            raise InputError(msg)


def _is_list(value: object, *kinds: type) -> bool:
    return isinstance(value, tuple) and all(type(entry) in kinds for entry in value)


# What `Checked` leaves open, as it checks ranges only.
_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("task", "licence", "checkpoint", "sha256"), (lambda value: isinstance(value, str), "a text")),
    **dict.fromkeys(("model", "versions"), (lambda value: isinstance(value, Mapping), "settings by name")),
    "postprocess": (lambda value: value is None or isinstance(value, Mapping), "settings by name, or null"),
    "precision": (lambda value: value in PRECISIONS, ", ".join(PRECISIONS)),
    "argmax": (lambda value: isinstance(value, bool), "true, false"),
    **dict.fromkeys(("names", "pixel_names"), (lambda value: _is_list(value, str), "a list of texts")),
    "mean": (lambda value: _is_list(value, int, float), "a list of numbers"),
    "category_ids": (lambda value: _is_list(value, int), "a list of whole numbers"),
}


class Runtime(Protocol):
    """An opened file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def about(self) -> About:
        """What it says of itself."""

    def run(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """The outputs by name.

        Args:
            images: (B, 3, H, W) uint8 RGB on the CPU.
            sizes_hw: (B, 2) float32 height and width of each image on its canvas, in pixels.
        """


def computed(runtime: Runtime, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
    """The outputs of a file by name, for any number of images; a file for a fixed number computes some at a time.

    Args:
        runtime: the opened file.
        images: (B, 3, H, W) uint8 RGB.
        sizes_hw: (B, 2) height and width of each image on its canvas, in pixels; a file that takes pictures is given
            this part of each.

    Returns:
        The outputs, on the device of the images.

    Raises:
        InputError: the file takes images of other sizes.
    """
    if runtime.about.takes_pictures and len(images):
        return _of_pictures(runtime, images, sizes_hw)
    runtime.about.check_images(images, runtime.path)
    return _computed(runtime, images, sizes_hw)


def _of_pictures(runtime: Runtime, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
    """The outputs of a file that takes pictures; their part of a common canvas is all that it is given.

    Maps of pixels have the canvas's size, with 0 beside a picture.
    """
    height_width = [(int(height), int(width)) for height, width in sizes_hw.round().tolist()]
    found: list[dict[str, Tensor]] = [{}] * len(images)
    for height, width in dict.fromkeys(height_width):
        places = [place for place, each in enumerate(height_width) if each == (height, width)]
        some = images[places, :, :height, :width].contiguous()
        answers = _computed(runtime, some, sizes_hw[places])
        for row, place in enumerate(places):
            found[place] = {name: _spread(name, value[row : row + 1], images) for name, value in answers.items()}
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def _spread(name: str, value: Tensor, images: Tensor) -> Tensor:
    if name not in ("class_rows", "logits"):
        return value
    (height, width), (rows, columns) = images.shape[2:], value.shape[-2:]
    return F.pad(value, (0, width - columns, 0, height - rows))


def _computed(runtime: Runtime, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
    count = runtime.about.batch or len(images)
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(images), count):
        some, sizes = images[start : start + count].cpu(), sizes_hw[start : start + count].float().cpu()
        lacking = count - len(some)
        if lacking:  # the last is computed again, and left out
            some = torch.cat([some, some[-1:].repeat(lacking, 1, 1, 1)])
            sizes = torch.cat([sizes, sizes[-1:].repeat(lacking, 1)])
        found = runtime.run(some, sizes)
        if "detections" in found:
            found = boxes_of_rows(found["detections"], sizes)
        parts.append({name: value[: count - lacking] for name, value in found.items()})
    return {name: torch.cat([part[name] for part in parts]).to(images.device) for name in parts[0]}


def boxes_of_rows(rows: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
    """The table of Frigate's layout as other files give boxes.

    Args:
        rows: (B * N, 7) number of the image; left, top, right, bottom in pixels of the canvas; score; class, -1 in rows
            that are not used.
        sizes_hw: (B, 2) height and width of each image on its canvas, where boxes are cut.

    Returns:
        `boxes_xyxy` (B, N, 4), `scores` (B, N) and `class_ids` (B, N).
    """
    table = rows.reshape(len(sizes_hw), -1, 7)
    edges = sizes_hw.to(table).flip(-1).repeat(1, 2)[:, None]
    return {
        "boxes_xyxy": torch.minimum(table[..., 1:5], edges),
        "scores": table[..., 5],
        "class_ids": table[..., 6].long(),
    }


def is_exported(source: str | Path) -> bool:
    """Whether a path ends as the files of a registered runtime do."""
    return Path(source).suffix.removeprefix(".").lower() in registered(RUNTIMES)


def check_exported_use(source: str | Path, device: object, *, fold: bool) -> None:
    """Do nothing if what is asked for can be done with an exported file.

    Raises:
        InputError: another device is asked for, or a network that can be trained.
    """
    if str(device) != "cpu":
        msg = f"'{source}' computes on the CPU; device is {device}. Leave device out, or load the checkpoint."
        raise InputError(msg)
    if not fold:
        msg = f"'{source}' is an exported file, which cannot be trained. Leave fold out, or load the checkpoint."
        raise InputError(msg)


def check_untrained(source: str, *, fitting: bool) -> None:
    """Do nothing if no training is asked for, which an exported file cannot start.

    Raises:
        InputError: one is.
    """
    if fitting:
        msg = f"'{source}' is an exported file, which cannot be trained. Give the checkpoint that it was made of."
        raise InputError(msg)


def check_overrides(source: str, asked: Mapping[str, object], own: Mapping[str, object]) -> None:
    """Do nothing if the settings that are asked for are those of an exported file.

    Args:
        source: the file.
        asked: fields of the architecture.
        own: those of the network in the file.

    Raises:
        InputError: one of them differs.
    """
    for name, value in asked.items():
        if name in own and tuples(value) != tuples(own[name]):
            msg = (
                f"{name} is {value}, but '{source}' was exported with {own[name]}. Leave it out, or export the "
                "checkpoint with it."
            )
            raise InputError(msg)


# A command asks for a file's settings and then for its network; a large one takes seconds to compile.
_OPENED: WeakValueDictionary[tuple[object, ...], Runtime] = WeakValueDictionary()


def open_exported(path: str | Path, task: str | None = None) -> Runtime:
    """Open a file that holds a network of a task; one that is open, unchanged and for as many threads is given again.

    Args:
        path: the file.
        task: the task; None takes a file of any.

    Raises:
        InputError: the file is missing, damaged, of another program or of another task, or its runtime is not
            installed.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no file '{path}'. Give one that `python -m deployment export` wrote."
        raise InputError(msg)
    known = registered(RUNTIMES)
    files = [each for each in (path, path.with_suffix(".bin")) if each.is_file()]
    stats = [each.stat() for each in files]
    key = (path.resolve(), torch.get_num_threads(), *((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats))
    runtime = _OPENED.get(key)
    if runtime is None:
        opened: Runtime = pkgutil.resolve_name(known[path.suffix.removeprefix(".").lower()])(path)
        runtime = _OPENED[key] = opened
    if task is not None and runtime.about.task != task:
        given = runtime.about.task
        msg = f"'{path}' holds a network of {given}; {task} is asked for. Use `python -m {given}`."
        raise InputError(msg)
    return runtime
