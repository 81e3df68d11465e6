"""Lightning's trainer, whose `predict` takes images rather than a loader."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from detection.data.dataset import ImageFiles, collate
from detection.prediction.predict import DEFAULT_SCORE
from engine.errors import InputError
from joint.prediction.results import ResultFolder, settings_of
from joint.prediction.writer import JointWriter
from joint.task import JointTask


class JointTrainer(Trainer):
    """The commands of `python -m joint`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        score_threshold: float = DEFAULT_SCORE,
        detect: bool = True,
        segment: bool = True,
        overlay: bool = True,
        overwrite: bool = False,
        batch_size: int = 4,
        num_workers: int = 2,
        **_: Any,
    ) -> None:
        """Find objects and classes of pixels in images: masks, boxes drawn over the classes' colours, and tables.

        What is finished in the output folder is not done again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, folder or glob, or a list of them.
            output: folder for the results.
            score_threshold: surer objects are kept.
            detect: find objects.
            segment: find the classes of pixels.
            overlay: draw pictures with boxes over the classes' colours.
            overwrite: begin anew in a folder that holds results of other settings.
            batch_size: images computed together.
            num_workers: processes that read images.
        """
        if source is None:
            msg = "predict needs images. Give --source IMAGE, FOLDER or 'GLOB'."
            raise InputError(msg)
        if batch_size < 1 or num_workers < 0:
            msg = f"batch_size is {batch_size} and num_workers {num_workers}; allowed are at least 1 and 0."
            raise InputError(msg)
        if not detect and not segment:
            msg = "detect and segment are both false, which leaves nothing to find. Leave one of them out."
            raise InputError(msg)
        assert isinstance(model, JointTask)
        postprocess = replace(model.postprocess, score_threshold=score_threshold)
        canvas = "{} x {}".format(*model.canvas_hw)
        categories = model.classes.to_dict()
        settings = settings_of(ckpt_path, categories, canvas, postprocess, detect=detect, segment=segment)
        results = ResultFolder(output, source, settings, overlay=overlay, overwrite=overwrite)
        if len(results.left) < len(results.sources):
            finished = len(results.sources) - len(results.left)
            rank_zero_info(f"{finished} of {len(results.sources)} are finished in {output}")
        if results.left:
            paths = [results.sources[index].path for index in results.left]
            images = ImageFiles(paths, model.canvas_hw, model.fill_color)
            workers = min(num_workers, len(paths) - 1)
            loader = DataLoader(images, batch_size, num_workers=workers, collate_fn=collate)
            writer = JointWriter(results, results.left)
            callbacks: list[Any] = self.callbacks  # type: ignore[attr-defined]
            callbacks.append(writer)
            before = model.postprocess, model.detect, model.segment
            model.postprocess, model.detect, model.segment = postprocess, detect, segment
            try:
                super().predict(model, dataloaders=loader, ckpt_path=ckpt_path, return_predictions=False)
            finally:
                # Else the next call's results would be written over this one's, and be made with its settings.
                callbacks.remove(writer)
                model.postprocess, model.detect, model.segment = before
        elif self.is_global_zero and not results.has_tables:
            results.write_tables()
        rank_zero_info(f"{len(results.sources)} images: {results.path}")
