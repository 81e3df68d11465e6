"""What `python -m detection predict` leaves in its folder: a picture per image and one COCO-format JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from detection.data.batch import DetectionBatch, Detections
from detection.data.classes import BoxClasses
from detection.prediction.document import coco_document
from detection.prediction.predict import Found, found_in
from engine.distributed import all_gather_objects, is_main
from engine.errors import InputError
from engine.outputs import atomic_path, make_folder, write_json

JSON_NAME = "predictions.json"


class PredictionWriter(BasePredictionWriter):
    """Writes pictures as they come, and the JSON at the end or when something stops the work.

    Args:
        output: folder; made if it is missing.
        paths: the images, by the ids that the loader gives them.
        pictures: whether to draw.

    Raises:
        InputError: the folder cannot be written, or a picture would take the place of an image.
    """

    def __init__(self, output: str | Path, paths: Sequence[Path], *, pictures: bool = True) -> None:
        super().__init__(write_interval="batch")
        self.paths = list(paths)
        self.names = picture_names(self.paths)
        self.pictures = pictures
        self.output = make_folder(output)
        originals = {path.resolve() for path in self.paths}
        for name in self.names if pictures else ():
            if (self.output / name).resolve() in originals:
                msg = f"--output '{output}' would write over the image '{self.output / name}'. Give another folder."
                raise InputError(msg)
        self.found: dict[int, Found] = {}

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: DetectionBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Draw the images of a batch."""
        detections: Detections = prediction
        classes: BoxClasses = pl_module.classes  # type: ignore[assignment]
        for row, image_id in enumerate(batch.image_ids.tolist()):
            height, width = batch.sizes_hw[row].tolist()
            found = found_in(detections, row, classes, (height, width))
            self.found[image_id] = found
            if self.pictures:
                self._draw(image_id, found)

    def _draw(self, image_id: int, found: Found) -> None:
        with atomic_path(self.output / self.names[image_id]) as temporary:
            found.draw(self.paths[image_id]).save(temporary, quality=92)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the JSON of all processes."""
        merged: dict[int, Found] = {}
        for part in all_gather_objects(self.found):
            merged |= part
        if is_main():
            self._write_json(merged, pl_module.classes)  # type: ignore[arg-type]

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the JSON of what this process had found."""
        if self.found and is_main():
            self._write_json(self.found, pl_module.classes)  # type: ignore[arg-type]

    def _write_json(self, found: dict[int, Found], classes: BoxClasses) -> None:
        write_json(self.output / JSON_NAME, coco_document(found, self.paths, classes))


def picture_names(paths: Sequence[Path]) -> list[Path]:
    """Where each picture goes below the output folder: the images' own tree, JPEG or else PNG."""
    # Not Path.absolute, which keeps the ".." of "../photos" and with it would lead out of the output folder.
    places = [Path(os.path.abspath(path)) for path in paths]
    common = Path(os.path.commonpath([place.parent for place in places])) if places else Path()
    names = []
    taken: set[Path] = set()
    for place in places:
        name = place.relative_to(common)
        jpeg = name.suffix.lower() in (".jpg", ".jpeg")
        name = name if jpeg else name.with_suffix(".png")
        first, number = name, 0
        while name in taken:  # a.bmp beside a.png
            name = first.with_name(f"{first.stem}_{place.suffix[1:]}{number or ''}{first.suffix}")
            number += 1
        taken.add(name)
        names.append(name)
    return names
