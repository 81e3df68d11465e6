"""Generated street scenes with true COCO and Cityscapes ground truth: `python -m engine.scenes ROOT --train 300`.

    write_scenes("streets", counts={"train": 300, "val": 60}, size_hw=(320, 640))

gives what the readers of real data read:

    streets/annotations/instances_train.json                              COCO; file names below leftImg8bit/train
    streets/leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png     the pictures
    streets/gtFine/train/CITY/CITY_000000_000019_gtFine_labelIds.png      and _instanceIds.png, _polygons.json
    streets/scenes.json                                                   the settings
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TypedDict

import numpy as np

from engine.errors import InputError, did_you_mean
from engine.hardware.processes import in_processes
from engine.outputs import make_folder, write_json
from engine.scenes.paint import Look, picture
from engine.scenes.placing import lay_out
from engine.scenes.trace import COUNTABLE_LABELS, INSTANCE_LABELS, look_up, scene_objects, trace, truth
from engine.scenes.write import ImageEntry, Scene, coco_annotations, coco_file, write_cityscapes

__all__ = ["DEFAULT_CLASSES", "Scene", "SceneSet", "render_scene", "write_scenes"]

# Poles are left out: no anchor fits a box of one to fifteen, and a demo would only measure that.
DEFAULT_CLASSES = (*INSTANCE_LABELS, "traffic light", "traffic sign")
MIN_SIDE = 64
_MAX_SIDE = 8192
_GENERATOR = 1  # raise it when the same seed gives other scenes
# The names are invented, as no real place is shown; as in Cityscapes, no city is in two splits.
_CITIES = {"train": ("aldenmark", "birkenau", "cranhofen"), "val": ("dornfurt", "eschwyl"), "test": ("falkenroda",)}
_SCENES_PER_PROCESS = 24  # fewer scenes are drawn in less time than another process needs to start


class Manifest(TypedDict):
    """What `scenes.json` holds."""

    generator: int
    settings: dict[str, object]
    complete: bool


@dataclass(frozen=True)
class SceneSet:
    """The settings that determine every byte of a written set.

    Attributes:
        counts: scenes by split.
        size_hw: height and width in pixels.
        seed: any whole number from 0.
        classes: Cityscapes names of the classes that the COCO files annotate.

    Raises:
        InputError: a split or class is unknown, a count or the seed is negative, no scene is asked for, or the
            size is out of bounds.
    """

    counts: Mapping[str, int]
    size_hw: tuple[int, int]
    seed: int
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for split, count in self.counts.items():
            if split not in _CITIES:
                hint = did_you_mean(split, _CITIES)
                msg = f"there is no split '{split}'; allowed are {', '.join(_CITIES)}.{hint}"
                raise InputError(msg)
            if count < 0:
                msg = f"cannot write {count} scenes of '{split}'. Give 0 or more."
                raise InputError(msg)
        if not any(self.counts.values()):
            msg = "no scene is asked for. Give at least one split a count above 0."
            raise InputError(msg)
        if self.seed < 0:
            msg = f"the seed {self.seed} is negative. Give 0 or more."
            raise InputError(msg)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            msg = f"the classes {list(self.classes)} are empty or name one twice. Name each class once."
            raise InputError(msg)
        for name in self.classes:
            if name not in COUNTABLE_LABELS:
                hint = did_you_mean(name, COUNTABLE_LABELS)
                msg = f"there are no boxes of '{name}'; allowed are {', '.join(COUNTABLE_LABELS)}.{hint}"
                raise InputError(msg)
        _check_size(self.size_hw)

    def manifest(self, *, complete: bool) -> Manifest:
        """What `scenes.json` holds."""
        settings = json.loads(json.dumps(asdict(self)))
        return {"generator": _GENERATOR, "settings": settings, "complete": complete}

    def scene_seed(self, split: str, index: int) -> int:
        """Seed of one scene: no other scene, split or set has it, and it does not depend on the number of scenes."""
        key = (list(_CITIES).index(split), index)
        return int(np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint64)[0])

    def names(self, split: str, index: int) -> tuple[str, str]:
        """City and common start of the file names of one scene."""
        city = _CITIES[split][index % len(_CITIES[split])]
        return city, f"{city}_{index:06d}_000019"


def _check_size(size_hw: tuple[int, int]) -> None:
    if not all(MIN_SIDE <= side <= _MAX_SIDE for side in size_hw):
        msg = (
            f"scenes of {size_hw[0]}x{size_hw[1]} (height x width) cannot be drawn. "
            f"Give sides from {MIN_SIDE} to {_MAX_SIDE} pixels."
        )
        raise InputError(msg)


def render_scene(seed: int, size_hw: tuple[int, int]) -> Scene:
    """Draw one street scene; the same seed and size give the same scene.

    Args:
        seed: any whole number from 0.
        size_hw: height and width in pixels.

    Raises:
        InputError: a side is too small or too large.
    """
    _check_size(size_hw)
    rng = Random(seed)
    look = Look.draw(rng)
    camera, placed = lay_out(rng, size_hw, dusk=look.dusk)
    traced = [outline for thing in placed if (outline := trace(thing, camera)) is not None]
    things, numbers = truth(traced, size_hw)
    objects = scene_objects(things)
    return Scene(
        image=picture(things, numbers, camera, look, seed),
        label_ids=look_up([0, *(thing.label_id for thing in objects)], numbers, np.uint8),
        instance_ids=look_up([0, *(thing.instance_id for thing in objects)], numbers, np.uint16),
        object_numbers=numbers,
        objects=tuple(objects),
    )


def write_scenes(
    root: str | Path,
    counts: Mapping[str, int] | None = None,
    size_hw: tuple[int, int] = (320, 640),
    seed: int = 0,
    classes: Sequence[str] = DEFAULT_CLASSES,
    workers: int | None = None,
) -> bool:
    """Write a set of scenes in Cityscapes and COCO form, unless the same set exists already.

    The files are the same for any number of workers. Workers are fresh processes: a script that asks for more
    than one must call this below `if __name__ == "__main__":`.

    Args:
        root: folder of the set; created if missing.
        counts: scenes by split (`train`, `val`, `test`); by default 300 to train and 60 to validate.
        size_hw: height and width in pixels.
        seed: any whole number from 0.
        classes: Cityscapes names of the classes that the COCO files annotate.
        workers: processes that draw; by default one for each free core, if there is enough work.

    Returns:
        Whether scenes were written; False if the set was complete already.

    Raises:
        InputError: a setting is out of bounds, the folder holds something else, or it cannot be written.
    """
    counts = {"train": 300, "val": 60} if counts is None else counts
    scene_set = SceneSet(dict(counts), (size_hw[0], size_hw[1]), seed, tuple(classes))
    folder = Path(root)
    if _is_written(scene_set, folder):
        return False
    make_folder(folder)
    write_json(folder / "scenes.json", scene_set.manifest(complete=False))
    tasks = [(split, index) for split, count in scene_set.counts.items() for index in range(count)]
    entries: dict[str, list[ImageEntry]] = {split: [] for split, count in scene_set.counts.items() if count}
    draw = partial(_draw_one, scene_set, folder)
    drawn = in_processes(draw, tasks, workers, per_process=_SCENES_PER_PROCESS, chunk=8, name="scenes", unit="scene")
    for (split, _), entry in zip(tasks, drawn, strict=True):
        entries[split].append(entry)
    for split, images in entries.items():
        write_json(folder / "annotations" / f"instances_{split}.json", coco_file(split, images, scene_set.classes))
    write_json(folder / "scenes.json", scene_set.manifest(complete=True))
    return True


def _is_written(scene_set: SceneSet, folder: Path) -> bool:
    """Whether the folder holds exactly this set, complete.

    Raises:
        InputError: the folder holds scenes of other settings, or data that are not generated scenes.
    """
    manifest = folder / "scenes.json"
    if not manifest.exists():
        foreign = [name for name in ("leftImg8bit", "gtFine", "annotations") if (folder / name).exists()]
        if foreign:
            msg = f"'{folder}' holds '{foreign[0]}' that no scenes.json describes. Give a new or empty folder."
            raise InputError(msg)
        return False
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        settings, generator, complete = found["settings"], found["generator"], found["complete"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"'{manifest}' is not the description of generated scenes. Give a new folder, or remove '{folder}'."
        raise InputError(msg) from error
    wanted = scene_set.manifest(complete=True)
    if (settings, generator) != (wanted["settings"], wanted["generator"]):
        other = [key for key in wanted["settings"] if settings.get(key) != wanted["settings"][key]]
        change = f"{other[0]} {settings.get(other[0])}" if other else f"made by generator {generator}"
        msg = f"'{folder}' holds other scenes: {change}. Give another folder, or remove this one first."
        raise InputError(msg)
    return bool(complete) and all(path.exists() for path in _expected(scene_set, folder))


def _expected(scene_set: SceneSet, folder: Path) -> Iterator[Path]:
    for split, count in scene_set.counts.items():
        if count:
            yield folder / "annotations" / f"instances_{split}.json"
        for index in range(count):
            city, name = scene_set.names(split, index)
            yield folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            for kind in ("labelIds.png", "instanceIds.png", "polygons.json"):
                yield folder / "gtFine" / split / city / f"{name}_gtFine_{kind}"


def _draw_one(scene_set: SceneSet, folder: Path, task: tuple[str, int]) -> ImageEntry:
    split, index = task
    city, name = scene_set.names(split, index)
    scene = render_scene(scene_set.scene_seed(split, index), scene_set.size_hw)
    write_cityscapes(scene, folder, split, city, name)
    height, width = scene_set.size_hw
    return {
        "file_name": f"{city}/{name}_leftImg8bit.png",
        "height": height,
        "width": width,
        "annotations": coco_annotations(scene, scene_set.classes),
    }


def generate(
    root: str,
    train: int = 300,
    val: int = 60,
    test: int = 0,
    height: int = 320,
    width: int = 640,
    seed: int = 0,
    classes: list[str] | None = None,
    workers: int | None = None,
) -> None:
    """Write generated street scenes in COCO and Cityscapes form.

    Args:
        root: folder of the set; created if missing.
        train: scenes to train on.
        val: scenes to validate on.
        test: scenes to test on.
        height: height of the pictures in pixels.
        width: width of the pictures in pixels.
        seed: any whole number from 0.
        classes: Cityscapes names of the classes that the COCO files annotate; by default all except poles.
        workers: processes that draw; by default one for each free core.

    Raises:
        InputError: as `write_scenes`.
    """
    start = time.perf_counter()
    counts = {split: count for split, count in (("train", train), ("val", val), ("test", test)) if count}
    chosen = DEFAULT_CLASSES if classes is None else tuple(classes)
    written = write_scenes(root, counts, (height, width), seed, chosen, workers)
    amounts = ", ".join(f"{count} {split}" for split, count in counts.items())
    took = f"written in {time.perf_counter() - start:.1f} s" if written else "already there"
    sys.stdout.write(f"{amounts} scenes of {height}x{width} in '{root}': {took}\n")
