"""Found objects as a document in COCO's format: of images, and of videos frame by frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from detection.data.classes import BoxClasses
from detection.data.masks import Rle
from detection.prediction.found import Found
from detection.prediction.frame_table import ENDING, read_frames
from detection.prediction.keys import Keys
from engine.outputs import atomic_path
from engine.prediction.journal import Journal, shown_path

JSON_NAME = "detections.json"
Item = dict[str, object]


class VideoAbout(msgspec.Struct, frozen=True):
    """What a journal records about a video.

    Attributes:
        rate: frames per second.
        frames: how many were read.
    """

    rate: float
    frames: int


class FrameAbout(msgspec.Struct, frozen=True):
    """Which frame of a video an entry is.

    Attributes:
        number: its place among the frames that were read, from 0.
        seconds: when it is shown.
        track_ids: one for each object; None where it has none.
    """

    number: int
    seconds: float
    track_ids: list[int | None]


class BoxEntry(msgspec.Struct, frozen=True):
    """What a journal records about an image in which objects were looked for.

    Attributes:
        source: absolute path of the image.
        size_hw: its height and width in pixels.
        boxes_xyxy: left, top, right, bottom of its objects in its own pixels.
        scores: one for each object.
        category_ids: one for each object.
        outputs: the files of its results, relative to the folder; of a video, its table first.
        video: what is known of a video, whose objects stand in its table.
        frame: which frame of a video this is.
        masks: one for each object, of a detector that finds masks.
    """

    source: str
    size_hw: tuple[int, int]
    boxes_xyxy: list[tuple[float, float, float, float]]
    scores: list[float]
    category_ids: list[int]
    outputs: tuple[str, ...] = ()
    video: VideoAbout | None = None
    frame: FrameAbout | None = None
    masks: list[Rle] | None = None


def box_values(found: Found) -> dict[str, object]:
    """What a journal records about an image's objects: the fields of `BoxEntry` except the source."""
    values: dict[str, object] = {
        "size_hw": list(found.size_hw),
        "boxes_xyxy": found.boxes_xyxy.tolist(),
        "scores": found.scores.tolist(),
        "category_ids": found.category_ids.tolist(),
    }
    return values if found.masks is None else {**values, "masks": found.masks}


def listed_entries(journal: Journal) -> Iterator[BoxEntry]:
    """The finished images and the frames of finished videos, one in memory at a time.

    A video whose table is gone is left out.
    """
    for entry in journal.entries(BoxEntry):
        table = journal.folder / entry.outputs[0] if entry.video is not None and entry.outputs else None
        if table is None:
            yield entry
        elif table.exists():
            for one in read_frames(table):
                about = FrameAbout(one.number, one.seconds, one.track_ids)
                found = (one.boxes_xyxy, one.scores, one.category_ids)
                yield BoxEntry(entry.source, entry.size_hw, *found, entry.outputs, entry.video, about)


def write_detections(
    path: Path, entries: Callable[[], Iterator[BoxEntry]], classes: BoxClasses, keys: Keys | None = None
) -> None:
    """Write the objects of all finished images in COCO's format, with one image in memory at a time.

    Args:
        path: of the JSON file.
        entries: gives the images' entries, from the first one at every call; see `listed_entries`.
        classes: the detector's class list.
        keys: an annotation file's ids, which images and categories then have.

    Raises:
        InputError: the file cannot be written.
    """
    keyed: Callable[[], Iterator[tuple[int, str, BoxEntry]]] = partial(_keyed, entries, keys)
    videos: dict[str, Item] = {}
    images = (_image(number, entry, name, videos) for number, name, entry in keyed())
    categories = None if keys is None else keys.category_ids
    found = _annotations(((number, entry) for number, _, entry in keyed()), categories)
    lists: dict[str, Iterable[Item]] = {"images": images, "annotations": found}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"categories": ' + json.dumps(_categories(classes if keys is None else keys.classes)))
        for part, items in lists.items():
            file.write(f', "{part}": [')
            separator = ""
            for item in items:
                file.write(separator + json.dumps(item, allow_nan=False))
                separator = ",\n"
            file.write("]")
        if videos:
            file.write(', "videos": ' + json.dumps(list(videos.values())))
        file.write("}")


def _keyed(entries: Callable[[], Iterator[BoxEntry]], keys: Keys | None) -> Iterator[tuple[int, str, BoxEntry]]:
    """Id and name of each image; an image of an earlier call that the annotations do not list is left out."""
    for number, entry in enumerate(entries()):
        if keys is None:
            yield number, _name(entry), entry
        elif entry.source in keys.images:
            yield *keys.images[entry.source], entry


def _name(entry: BoxEntry) -> str:
    """The file of an image; a frame is named as if it had been written beside its video, and as its labels are."""
    shown = shown_path(entry.source)
    if entry.frame is None:
        return shown
    video = PurePosixPath(entry.outputs[0]).name.removesuffix(ENDING)  # of two videos of one name, each has its own
    return str(PurePosixPath(shown).with_name(f"{video}_{entry.frame.number:06d}.jpg"))


def _image(image_id: int, entry: BoxEntry, name: str, videos: dict[str, Item]) -> Item:
    """An image or frame in COCO's words; the video of a frame is added to those that are known."""
    height, width = entry.size_hw
    item: Item = {"id": image_id, "file_name": name, "width": width, "height": height}
    if entry.frame is None or entry.video is None:
        return item
    about: Item = {"id": len(videos) + 1, "name": shown_path(entry.source), "width": width, "height": height}
    video = videos.setdefault(entry.source, about | {"fps": entry.video.rate, "length": entry.video.frames})
    return item | {"video_id": video["id"], "frame_id": entry.frame.number, "seconds": entry.frame.seconds}


def _annotations(entries: Iterable[tuple[int, BoxEntry]], listed: Mapping[int, int] | None = None) -> Iterator[Item]:
    number = 0
    for image_id, entry in entries:
        tracks = [None] * len(entry.scores) if entry.frame is None else entry.frame.track_ids
        masks = [None] * len(entry.scores) if entry.masks is None else entry.masks
        for (left, top, right, bottom), score, category_id, track_id, mask in zip(
            entry.boxes_xyxy, entry.scores, entry.category_ids, tracks, masks, strict=True
        ):
            if listed is not None and category_id not in listed:
                continue
            number += 1
            width, height = right - left, bottom - top
            yield {
                "id": number,
                "image_id": image_id,
                "category_id": category_id if listed is None else listed[category_id],
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": score,
                **({} if mask is None else {"segmentation": mask}),
                **({} if track_id is None else {"track_id": track_id}),
            }


def _categories(classes: BoxClasses) -> list[Item]:
    named = zip(classes.category_ids, classes.names, strict=True)
    return [{"id": category_id, "name": name} for category_id, name in named if name]
