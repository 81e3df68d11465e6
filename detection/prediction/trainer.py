"""Lightning's trainer, whose `predict` takes images rather than a loader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from detection.data.dataset import ImageFiles, collate
from detection.prediction.predict import DEFAULT_SCORE
from detection.prediction.writer import JSON_NAME, PredictionWriter
from detection.task import DetectionTask
from engine.data.images import find_images
from engine.errors import InputError


class DetectionTrainer(Trainer):
    """The commands of `python -m detection`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        score_threshold: float = DEFAULT_SCORE,
        pictures: bool = True,
        batch_size: int = 4,
        num_workers: int = 2,
        **_: Any,
    ) -> None:
        """Find objects in images: pictures with boxes, and their list in COCO's JSON format.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, folder or glob, or a list of them.
            output: folder for the pictures and the JSON.
            score_threshold: surer objects are kept.
            pictures: draw the boxes on the images.
            batch_size: images computed together.
            num_workers: processes that read images.
        """
        if source is None:
            msg = "predict needs images. Give --source IMAGE, FOLDER or 'GLOB'."
            raise InputError(msg)
        if batch_size < 1 or num_workers < 0:
            msg = f"batch_size is {batch_size} and num_workers {num_workers}; allowed are at least 1 and 0."
            raise InputError(msg)
        assert isinstance(model, DetectionTask)
        paths = find_images(source)
        writer = PredictionWriter(output, paths, pictures=pictures)
        model.postprocess = replace(model.postprocess, score_threshold=score_threshold)
        images = ImageFiles(paths, model.canvas_hw, model.fill_color)
        loader = DataLoader(images, batch_size, num_workers=min(num_workers, len(paths) - 1), collate_fn=collate)
        self.callbacks.append(writer)  # type: ignore[attr-defined]
        super().predict(model, dataloaders=loader, ckpt_path=ckpt_path, return_predictions=False)
        count = sum(len(found) for found in writer.found.values())
        rank_zero_info(f"{len(writer.found)} images, {count} objects: {writer.output}/{JSON_NAME}")
