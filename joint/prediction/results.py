"""The folder that predictions go to: masks, pictures, what is finished, and at the end the tables of all images.

    TREE/1.png  TREE/1_overlay.jpg   of each image, in the tree that the images lie in
    detections.json  areas.csv       objects in COCO's format; pixels of each class
    finished.jsonl  settings.json    what is finished, from which the work goes on after an interruption

`python -m joint predict` and `python -m joint ray` write the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.data.classes import BoxClasses
from detection.network.postprocess import Postprocess
from detection.prediction.document import coco_document
from detection.prediction.predict import Found
from engine.data.images import IMAGE_SUFFIXES, find_files
from engine.data.pixels import Source
from engine.outputs import atomic_path
from engine.prediction.manifest import Manifest
from joint.answers import JointFound
from segmentation.data.classes import MaskClasses
from segmentation.inference.pictures import class_pixels
from segmentation.prediction.journal import AREAS_NAME, Journal, Record, stamp_of
from segmentation.prediction.sources import JOURNAL_NAME, SourceFile, output_names, outputs_of, refuse_overwriting

JSON_NAME = "detections.json"


@dataclass(frozen=True)
class JointRecord(Record):
    """One finished image; None in the place of objects that were not asked for.

    Attributes:
        size_hw: its height and width in pixels.
        boxes_xyxy: left, top, right, bottom of its objects in its own pixels.
        scores: of the objects.
        category_ids: of the objects.
    """

    size_hw: tuple[int, int] = (0, 0)
    boxes_xyxy: list[list[float]] | None = None
    scores: list[float] | None = None
    category_ids: list[int] | None = None


class ResultFolder:
    """The output folder, its images, and which of them are left to be done.

    Args:
        output: folder; made if it is missing.
        source: image, folder or glob, or a list of them.
        settings: those of `settings_of`.
        overlay: whether pictures for people are written.
        overwrite: whether to begin anew where the settings are others, or files are in the way.

    Raises:
        InputError: there is no image; the folder cannot be written, has results of other settings, or files that
            would be replaced.
    """

    def __init__(
        self,
        output: str | Path,
        source: str | Path | Sequence[str | Path],
        settings: Mapping[str, Any],
        *,
        overlay: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.sources = find_pictures(source)
        self.detect, self.segment = bool(settings["detect"]), bool(settings["segment"])
        names = output_names(self.sources)
        self.outputs = [outputs_for(name, overlay=overlay, segment=self.segment) for name in names]
        refuse_overwriting(Path(output), self.outputs, self.sources)
        every = (path for paths in self.outputs for path in paths)
        self.journal = Journal(output, settings, every, overwrite=overwrite)
        wanted = {file.path: paths for file, paths in zip(self.sources, self.outputs, strict=True)}
        finished = self.journal.finished(wanted)
        self.left = [index for index, file in enumerate(self.sources) if file.path not in finished]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.journal.folder

    def begin(self, classes: MaskClasses) -> None:
        """Write the settings; one process does so, before any adds an image.

        Args:
            classes: of the masks.
        """
        self.journal.classes = classes
        self.journal.begin()

    def write(self, index: int, image: Source, found: JointFound) -> JointRecord:
        """Write the files of an image, and note it as finished."""
        record = write_image(self.path, self.sources[index].path, self.outputs[index], image, found)
        self.journal.add(record)
        return record

    def write_tables(self) -> list[Path]:
        """Write the tables of all finished images, those of earlier runs too; returns their paths."""
        written = []
        if self.detect:
            classes = BoxClasses.from_dict(self.journal.settings["categories"])
            written.append(write_detections(self.path / JSON_NAME, self.journal.manifest, classes))
        if self.segment:
            written.append(self.journal.write_areas())
        return written

    @property
    def has_tables(self) -> bool:
        """Whether all tables are there."""
        asked = {JSON_NAME: self.detect, AREAS_NAME: self.segment}
        return all((self.path / name).exists() for name, wanted in asked.items() if wanted)


def find_pictures(source: str | Path | Sequence[str | Path]) -> list[SourceFile]:
    """The images that a path, a folder, a glob pattern or a list of these names, each once.

    Folders that `predict` wrote are left out.

    Raises:
        InputError: a path does not exist, a folder holds no image, or a pattern matches none.
    """
    listed = ", ".join(sorted(IMAGE_SUFFIXES))
    found = find_files(source, IMAGE_SUFFIXES, "image", listed, lambda folder: (folder / JOURNAL_NAME).exists())
    return [SourceFile(path, "image") for path in {os.path.abspath(path): path for path in found}.values()]


def outputs_for(name: Path, *, overlay: bool, segment: bool) -> list[Path]:
    """The files that one image leaves, below the output folder.

    Args:
        name: of the results, without a suffix.
        overlay: whether the picture for people is written.
        segment: whether the mask is.
    """
    paths = outputs_of("image", name, overlay=overlay)
    return paths if segment else paths[1:]


def settings_of(
    weights: str | Path | None,
    categories: Mapping[str, Any],
    canvas: str,
    postprocess: Postprocess,
    *,
    detect: bool = True,
    segment: bool = True,
) -> dict[str, Any]:
    """What decides how results look; a folder holds those of one kind.

    Args:
        weights: the checkpoint, by whose content it is known.
        categories: the detector's class list as plain values.
        canvas: on which canvases images are computed, in words.
        postprocess: the detector's settings.
        detect: whether objects are asked for.
        segment: whether classes of pixels are.
    """
    known = None if weights is None else str(weights)
    if weights is not None and Path(weights).is_file():
        with Path(weights).open("rb") as file:
            known = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return {
        "weights": known, "canvas": canvas, "postprocess": asdict(postprocess), "detect": detect, "segment": segment,
        "categories": dict(categories),
    }  # fmt: skip


def write_image(folder: Path, path: Path, outputs: Sequence[Path], image: Source, found: JointFound) -> JointRecord:
    """Write the files of one image; returns what the journal is to say of it.

    Args:
        folder: the output folder.
        path: of the image.
        outputs: its files, relative to the folder.
        image: its pixels, or its path.
        found: what was found in it.

    Raises:
        InputError: a file cannot be written, or the image cannot be read.
    """
    stamp = stamp_of(path)
    for output in outputs:
        if output.suffix == ".jpg":
            with atomic_path(folder / output) as temporary:
                found.draw(image).save(temporary, quality=92)
        else:
            assert found.segmented is not None
            found.segmented.save(folder / output)
    names = tuple(output.as_posix() for output in outputs)
    masks, objects = found.segmented, found.found
    pixels = () if masks is None else tuple(class_pixels(masks.class_ids, masks.classes).tolist())
    record = JointRecord(os.path.abspath(path), stamp, names, pixels, None, found.size_hw)
    if objects is None:
        return record
    columns = (objects.boxes_xyxy.tolist(), objects.scores.tolist(), objects.category_ids.tolist())
    return JointRecord(record.source, stamp, names, pixels, None, found.size_hw, *columns)


def write_detections(path: Path, manifest: Manifest, classes: BoxClasses) -> Path:
    """Write the objects of all finished images in COCO's format, one image in memory at a time.

    Args:
        path: of the JSON file.
        manifest: with the images' records.
        classes: the detector's class list.
    """

    def documents() -> Iterator[dict[str, Any]]:
        objects = 0
        for image_id, entry in enumerate(_with_objects(manifest)):
            source = Path(entry["source"])
            name = source.relative_to(Path.cwd()) if source.is_relative_to(Path.cwd()) else source
            document = coco_document({0: _found(entry, classes)}, [name], classes)
            document["images"][0]["id"] = image_id
            for annotation in document["annotations"]:
                objects += 1
                annotation.update(id=objects, image_id=image_id)
            yield document

    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"categories": ' + json.dumps(coco_document({}, [], classes)["categories"]))
        for part in ("images", "annotations"):
            file.write(f', "{part}": [')
            separator = ""
            for document in documents():
                for value in document[part]:
                    file.write(separator + json.dumps(value, allow_nan=False))
                    separator = ",\n"
            file.write("]")
        file.write("}")
    return path


def _with_objects(manifest: Manifest) -> Iterator[dict[str, Any]]:
    return (entry for entry in manifest.latest("source") if entry.get("boxes_xyxy") is not None)


def _found(entry: Mapping[str, Any], classes: BoxClasses) -> Found:
    rows = [classes.class_id_by_category[category_id] for category_id in entry["category_ids"]]
    height, width = entry["size_hw"]
    return Found(
        np.array(entry["boxes_xyxy"], dtype=np.float32).reshape(-1, 4),
        np.array(entry["scores"], dtype=np.float32),
        [classes.names[row] for row in rows],
        np.array(rows, dtype=np.int64),
        np.array(entry["category_ids"], dtype=np.int64),
        (height, width),
    )
