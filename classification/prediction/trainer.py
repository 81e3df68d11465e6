"""Lightning's trainer, whose `predict` takes files to classify rather than a loader."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from classification.prediction.predictor import ClassificationPredictor
from classification.prediction.results import ClassificationResults
from classification.task import ClassificationTask
from engine.numbers import NonNegativeInt, PositiveInt
from engine.prediction.journal import name_of_weights
from engine.prediction.trainer import PredictionTrainer, Work, asked, check_pictures, reading_settings
from engine.reading.options import Reading


class ClassificationTrainer(PredictionTrainer):
    """The commands of `python -m classification`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        top: PositiveInt = 5,
        pictures: bool = True,
        overwrite: bool = False,
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        batch_size: PositiveInt = 8,
        num_workers: NonNegativeInt = 2,
        **_: object,
    ) -> None:
        """Name what images show: a table of the most likely classes with probabilities, and pictures.

        Sources that are finished in the output folder are not computed again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, folder or glob, or a list of them.
            output: folder for the results.
            top: classes of each image that stand in the table, the likeliest first.
            pictures: write the likeliest classes on copies of the images.
            overwrite: start from the beginning in a folder that holds results of other settings.
            bands: numbers, from 1, of a raster's bands that are red, green and blue; null is as the network learnt.
            value_range: values of a raster that become black and white; null is as the network learnt.
            nodata: value of a raster's pixels without data, if the raster does not state it.
            batch_size: images that are computed together.
            num_workers: processes that read images.
        """
        work = Work(source, output, overwrite, batch_size, num_workers)
        sources = work.sources()
        task = asked(model, ClassificationTask, ckpt_path)
        reading = Reading(bands, value_range, nodata)
        check_pictures(sources, reading)
        predictor = ClassificationPredictor(task.network, task.threshold).with_reading(reading)
        classes = predictor.classes
        settings = {
            "weights": name_of_weights(task.pretrained if ckpt_path is None else ckpt_path),
            "threshold": task.threshold,
            "top": min(top, len(classes)),
            "reading": reading_settings(predictor.reading),
            "classes": classes.to_dict(),
        }
        results = ClassificationResults(classes, top, pictures)
        self.stream(task, ckpt_path, work, sources, predictor, results, settings)
