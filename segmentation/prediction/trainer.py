"""Lightning's trainer, whose `predict` takes files to segment rather than a loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from tqdm import tqdm

from engine.errors import InputError, UnreadableError
from engine.large.opening import open_raster
from engine.numbers import NonNegativeInt, PositiveInt, TenthToTen
from engine.prediction.journal import name_of_weights
from engine.prediction.results import ResultFolder
from engine.prediction.sources import SourceFile
from engine.prediction.trainer import PredictionTrainer, Work, asked, check_pictures, reading_settings
from engine.reading.gdal import import_rasterio
from engine.reading.images import opened
from engine.reading.options import Reading
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented
from segmentation.prediction.kinds import KINDS
from segmentation.prediction.results import SegmentationResults
from segmentation.scores.label_files import scene_of
from segmentation.scores.submission import SubmissionZip
from segmentation.task import SegmentationTask


class SegmentationTrainer(PredictionTrainer):
    """The commands of `python -m segmentation`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        pictures: bool = True,
        probabilities: bool = False,
        window: int | None = None,
        overlap: int | None = None,
        margin: int | None = None,
        scales: list[TenthToTen] | None = None,
        flip: bool | None = None,
        submission: str | None = None,
        overwrite: bool = False,
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        mpp: float | None = None,
        batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 2,
        **_: object,
    ) -> None:
        """Segment images, videos, rasters and slides of any size: masks, overlays, and a table of areas.

        Sources that are finished in the output folder are not computed again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, video, GeoTIFF, whole-slide image, folder or glob, or a list of them; or the number of a
                camera or an address such as rtsp://….
            output: folder for the results.
            pictures: draw the classes' colours on the images.
            probabilities: keep the probabilities of all classes of images (NPZ) and rasters (GeoTIFF).
            window: side in pixels of the tiles in which an image is computed; null is model.inference's, by default
                the whole image, and 512 for rasters.
            overlap: pixels that neighbouring tiles share; null is a quarter of the window.
            margin: pixels at a tile's inner ends that get no weight; null is a quarter of the overlap.
            scales: sizes, relative to the image's own, at which it is computed; probabilities are averaged.
            flip: average with the mirrored image.
            submission: zip to write for the Cityscapes server.
            overwrite: start from the beginning in a folder that holds results of other settings.
            bands: numbers, from 1, of a raster's bands that are red, green and blue; null is as the network learnt.
            value_range: values of a raster that become black and white; null is as the network learnt.
            nodata: value of a raster's pixels without data, if the raster does not state it.
            mpp: micrometres per pixel at which slides are read.
            batch_size: images of one size that are computed together.
            num_workers: processes that read images.
        """
        work = Work(source, output, overwrite, batch_size, num_workers, KINDS)
        if submission is not None:
            SubmissionZip(submission)  # checks the path
        sources = work.sources()
        task = asked(model, SegmentationTask, ckpt_path)
        reading = Reading(bands, value_range, nodata)
        if mpp is not None:  # a slide in a TIFF looks like any picture
            sources = [replace(file, kind="raster") if file.kind == "image" else file for file in sources]
        predictor = (
            SegmentationPredictor(task.network, task.inference)
            .with_settings(
                window=window, overlap=overlap, margin=margin, scales=scales, flip=flip, probabilities=probabilities
            )
            .with_reading(reading)
        )
        _check_sources(sources, predictor, reading, mpp, submission=submission)
        config = predictor.inference
        config.tiling((1, 1), predictor.stride)  # checks that they fit
        if submission is not None:
            check_cityscapes(predictor.classes)
        results = SegmentationResults(predictor.classes, pictures, probabilities, reading, mpp)
        settings = {
            "weights": name_of_weights(task.pretrained if ckpt_path is None else ckpt_path),
            "output_stride": task.eval_output_stride,
            # The batch only decides the speed.
            "inference": {name: value for name, value in asdict(config).items() if name != "batch"},
            "reading": {**reading_settings(predictor.reading), "mpp": mpp},
            "classes": predictor.classes.to_dict(),
        }
        folder = self.stream(task, ckpt_path, work, sources, predictor, results, settings)
        if submission is not None and self.is_global_zero:
            _write_submission(submission, folder)


def _check_sources(
    sources: Sequence[SourceFile],
    predictor: SegmentationPredictor,
    reading: Reading,
    mpp: float | None,
    *,
    submission: str | None,
) -> None:
    """Check all sources and open rasters, so that errors show before the hours that prediction may take.

    Damaged rasters among others are no error: they are listed at the end.

    Raises:
        InputError: a raster cannot be read as asked, or no source can be read at all; an option of rasters is given for
            other sources; a video's probabilities are asked for, or a submission of anything but images.
    """
    unreadable: list[UnreadableError] = []
    for source in sources:
        if source.kind != "image" and submission is not None:
            msg = f"a submission is of images, but '{source.path}' is a {source.kind}. Leave it or --submission out."
            raise InputError(msg)
        if submission is not None and not scene_of(source.path.name):
            msg = (
                f"'{source.path}' is not named as the images of Cityscapes are, CITY_SEQUENCE_FRAME such as "
                "berlin_000000_000019. Leave it or --submission out."
            )
            raise InputError(msg)
        if source.kind == "video" and predictor.keep:
            msg = f"probabilities are not kept of videos, such as '{source.path}'. Leave it or --probabilities out."
            raise InputError(msg)
        if source.kind == "video" and reading.given():
            msg = f"{next(iter(reading.given()))} is for rasters, but '{source.path}' is a video. Leave it out."
            raise InputError(msg)
        if source.kind == "raster":
            import_rasterio()
            try:
                open_raster(source.path, reading, mpp=mpp, usual=predictor.reading).close()
            except UnreadableError as error:
                unreadable.append(error)
    if len(unreadable) == len(sources):
        raise unreadable[0]
    check_pictures([source for source in sources if source.kind == "image"], reading)


def _write_submission(path: str, folder: ResultFolder[Segmented]) -> None:
    """Write the zip from the masks as they were written."""
    with SubmissionZip(path) as archive:
        named = zip(folder.sources, folder.outputs, strict=True)
        for source, written in tqdm(named, "submission", len(folder.sources), unit="image", leave=False):
            with opened(folder.path / written[0], "mask") as mask:
                archive.add(source.path.name, np.asarray(mask))
    rank_zero_info(f"for the Cityscapes server: {path}")


def check_cityscapes(classes: MaskClasses) -> None:
    """Do nothing if these are the classes of Cityscapes.

    Raises:
        InputError: they are not.
    """
    if classes != CITYSCAPES:
        msg = (
            "a submission needs the 19 classes of Cityscapes, but this network has others. Leave --submission out, or "
            "give a checkpoint trained on Cityscapes."
        )
        raise InputError(msg)
