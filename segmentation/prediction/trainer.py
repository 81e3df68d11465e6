"""Lightning's trainer, whose `predict` takes whatever is to be segmented rather than a loader."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from engine.errors import InputError
from segmentation.inference.inference import Inference
from segmentation.prediction.journal import AREAS_NAME, Journal
from segmentation.prediction.sources import SourceFile, find_sources, output_names, outputs_of, refuse_overwriting
from segmentation.prediction.writer import PredictionWriter, RasterReading, SourceImages, check_cityscapes
from segmentation.scores.label_files import scene_of
from segmentation.scores.submission import SubmissionZip


class SegmentationTrainer(Trainer):
    """The commands of `python -m segmentation`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        overlay: bool = True,
        probabilities: bool = False,
        window: int | None = None,
        overlap: int | None = None,
        margin: int | None = None,
        scales: list[float] | None = None,
        flip: bool | None = None,
        submission: str | None = None,
        overwrite: bool = False,
        bands: list[int] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        mpp: float | None = None,
        batch_size: int = 1,
        num_workers: int = 2,
        **_: Any,
    ) -> None:
        """Segment images, videos, rasters and slides of any size: masks, overlays, and a table of areas.

        What is finished in the output folder is not done again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, video, GeoTIFF, whole-slide image, folder or glob, or a list of them.
            output: folder for the results.
            overlay: draw the classes' colours on the images.
            probabilities: keep the probabilities of all classes of images (NPZ) and rasters (GeoTIFF).
            window: side in pixels of the tiles in which an image is computed; null is model.inference's, by default
                the whole image, and 512 for rasters.
            overlap: pixels that neighbouring tiles share; null is a quarter of the window.
            margin: pixels at a tile's inner ends that count nothing; null is a quarter of the overlap.
            scales: sizes, relative to the image's own, at which it is computed; probabilities are averaged.
            flip: average with the mirrored image.
            submission: zip to write for the Cityscapes server.
            overwrite: begin anew in a folder that holds results of other settings.
            bands: numbers, from 1, of a raster's bands that are red, green and blue.
            value_range: values of a raster that become black and white, needed where it is not 8-bit.
            nodata: value of a raster's pixels that hold none, where it does not say so itself.
            mpp: micrometres per pixel at which slides are read.
            batch_size: images of one size that are computed together.
            num_workers: processes that read images.
        """
        if source is None:
            msg = "predict needs something to segment. Give --source IMAGE, FOLDER, 'GLOB', VIDEO, RASTER or SLIDE."
            raise InputError(msg)
        if batch_size < 1 or num_workers < 0:
            msg = f"batch_size is {batch_size} and num_workers {num_workers}; allowed are at least 1 and 0."
            raise InputError(msg)
        assert model is not None
        task: Any = model
        if submission is not None:
            SubmissionZip(submission)  # checks the path
        sources = find_sources(source)
        given = {"window": window, "overlap": overlap, "margin": margin, "scales": scales, "flip": flip}
        config = replace(task.inference, **{name: value for name, value in given.items() if value is not None})
        reading = RasterReading(None if bands is None else tuple(bands), value_range, nodata, mpp)
        _check_sources(sources, reading, probabilities=probabilities, submission=submission)
        named = zip(sources, output_names(sources), strict=True)
        outputs = [outputs_of(file.kind, name, overlay=overlay, probabilities=probabilities) for file, name in named]
        refuse_overwriting(Path(output), outputs, sources)
        settings = _settings(task, ckpt_path, config, reading)
        journal = Journal(output, settings, [path for paths in outputs for path in paths], overwrite=overwrite)
        finished = journal.finished({file.path: paths for file, paths in zip(sources, outputs, strict=True)})
        left = [number for number, file in enumerate(sources) if file.path not in finished]
        if finished:
            rank_zero_info(f"{len(finished)} of {len(sources)} are finished in {output}")
        if left:
            files = SourceImages([sources[number] for number in left], keep=probabilities)
            progress = self.progress_bar_callback is not None
            writer = PredictionWriter(
                journal, files.sources, [outputs[number] for number in left], config, reading=reading,
                progress=progress, cityscapes_only=submission is not None,
            )  # fmt: skip
            workers = min(num_workers, len(left) - 1)
            loader = DataLoader(files, batch_size, num_workers=workers, collate_fn=files.collate)
            callbacks: list[Any] = self.callbacks  # type: ignore[attr-defined]
            callbacks.append(writer)
            task.inference, before = config, task.inference
            try:
                super().predict(model, dataloaders=loader, ckpt_path=ckpt_path, return_predictions=False)
            finally:
                # Else the next call's results would be written over this one's, and be made with its settings.
                callbacks.remove(writer)
                task.inference = before
        elif self.is_global_zero:
            journal.write_areas()
        if submission is not None and self.is_global_zero:
            _write_submission(submission, journal, sources, outputs)
        rank_zero_info(f"{len(sources)} segmented: {journal.folder}/{AREAS_NAME}")


def _settings(task: Any, ckpt_path: str | None, config: Inference, reading: RasterReading) -> dict[str, Any]:
    """What decides how masks look."""
    weights = ckpt_path if ckpt_path is not None else getattr(task, "pretrained", None)
    if weights is not None and Path(weights).is_file():
        with Path(weights).open("rb") as file:
            weights = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    inference = asdict(config)
    del inference["batch"]  # which only decides the speed
    stride = getattr(task, "eval_output_stride", None)
    # As text, as NaN is not JSON.
    read = asdict(reading) | {"nodata": None if reading.nodata is None else str(reading.nodata)}
    return {"weights": weights, "output_stride": stride, "inference": inference, "reading": read}


def _check_sources(
    sources: Sequence[SourceFile], reading: RasterReading, *, probabilities: bool, submission: str | None
) -> None:
    """Open what is large, so that what is wrong with it shows before the hours that the others take.

    Raises:
        InputError: a raster cannot be read as asked, a video's probabilities are asked for, or a submission of others
            than images.
    """
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
        if source.kind == "video" and probabilities:
            msg = f"probabilities are not kept of videos, such as '{source.path}'. Leave it or --probabilities out."
            raise InputError(msg)
        if source.kind == "raster":
            from segmentation.large.gdal import import_rasterio
            from segmentation.large.rasters import open_raster

            import_rasterio()
            open_raster(
                source.path, bands=reading.bands, value_range=reading.value_range, nodata=reading.nodata,
                mpp=reading.mpp,
            ).close()  # fmt: skip


def _write_submission(
    path: str, journal: Journal, sources: Sequence[SourceFile], outputs: Sequence[Sequence[Path]]
) -> None:
    """The zip of the masks as they were written."""
    check_cityscapes(journal.classes)
    with SubmissionZip(path) as archive:
        named = zip(sources, outputs, strict=True)
        for source, written in tqdm(named, "submission", len(sources), unit="image", leave=False):
            with Image.open(journal.folder / written[0]) as mask:
                archive.add(source.path.name, np.asarray(mask))
    rank_zero_info(f"for the Cityscapes server: {path}")
