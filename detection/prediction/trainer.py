"""Lightning's trainer, whose `predict` takes images rather than a loader."""

from __future__ import annotations

from dataclasses import asdict, replace

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from detection.formats.pre_labels import PreLabelFormat
from detection.prediction.keys import Keys
from detection.prediction.kinds import SLIDES, in_tiles
from detection.prediction.predictor import DEFAULT_SCORE, DetectionPredictor
from detection.prediction.results import DetectionResults
from detection.task import DetectionTask
from engine.numbers import NonNegativeInt, PositiveInt, TenthToTen
from engine.prediction.canvas import CanvasPolicy
from engine.prediction.journal import name_of_weights
from engine.prediction.sources import IMAGE, IMAGES_AND_VIDEOS
from engine.prediction.trainer import (
    PredictionTrainer,
    Work,
    asked,
    asked_tracking,
    check_pictures,
    check_videos,
    reading_settings,
)
from engine.reading.options import Reading
from engine.tracking.byte_track import Tracking


class DetectionTrainer(PredictionTrainer):
    """The commands of `python -m detection`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        score_threshold: float = DEFAULT_SCORE,
        canvas: CanvasPolicy = "full",
        window: PositiveInt | None = None,
        overlap: int | None = None,
        margin: int | None = None,
        scales: list[TenthToTen] | None = None,
        flip: bool | None = None,
        pictures: bool = True,
        pre_labels: PreLabelFormat | None = None,
        ids: str | None = None,
        yolo: bool = False,
        track: bool = False,
        tracking: Tracking = Tracking(),
        overwrite: bool = False,
        bands: tuple[PositiveInt, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
        batch_size: PositiveInt = 4,
        num_workers: NonNegativeInt = 2,
        **_: object,
    ) -> None:
        """Find objects in images and videos: pictures with boxes, and their list in COCO's JSON format.

        Sources that are finished in the output folder are not computed again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, video, GeoTIFF, whole-slide image, folder or glob, or a list of them; or the number of a
                camera or an address such as rtsp://….
            output: folder for the pictures, the videos and the JSON, and for GeoJSON of the boxes of rasters that have
                a place.
            score_threshold: keep detections above this score.
            canvas: `full` computes every image on the canvas of training and validation; `tight` on one no larger than
                the image needs, which is faster.
            window: side in pixels of the tiles in which an image is computed, each on the canvas, read from the file
                tile by tile; null is model.inference's, by default the whole image.
            overlap: pixels that neighbouring tiles share, which should be more than the largest objects have; null is
                a quarter of the window.
            margin: boxes closer than this to an inner end of their tile give way to a neighbour's; null is a quarter
                of the overlap.
            scales: sizes, relative to the canvas, at which an image or tile is computed; boxes are fused. Null is
                model.inference's, by default the canvas itself.
            flip: fuse with the boxes of the mirrored image; null is model.inference's, by default not.
            pictures: draw the boxes on the images and videos.
            pre_labels: write a set for annotation tools as well, with copies of the images, to `pre_labels/`.
            ids: COCO annotation file whose ids the list of objects takes, so that it can be scored: images are matched
                by file name, categories by name.
            yolo: write YOLO labels as well, a text for each image or frame.
            track: give the objects of a video ids that they keep from frame to frame.
            tracking: how they are followed.
            overwrite: start from the beginning in a folder that holds results of other settings.
            bands: numbers, from 1, of a raster's bands that are red, green and blue; null is as the network learnt.
            value_range: values of a raster that become black and white; null is as the network learnt.
            nodata: value of a raster's pixels without data, if the raster does not state it.
            batch_size: number of images or frames that are computed together.
            num_workers: processes that read images.
        """
        task = asked(model, DetectionTask, ckpt_path)
        inference = task.inference.changed(window, overlap, margin, scales, flip)
        in_windows = inference.window is not None
        work = Work(source, output, overwrite, batch_size, num_workers, SLIDES if in_windows else IMAGES_AND_VIDEOS)
        sources = work.sources()
        postprocess = replace(task.postprocess, score_threshold=score_threshold)
        reading = Reading(bands, value_range, nodata)
        predictor = DetectionPredictor(task.network, postprocess, canvas, inference=inference).with_reading(reading)
        check_pictures([file for file in sources if file.kind == IMAGE], reading)
        check_videos(sources, reading, ids, pre_labels)
        following = asked_tracking(sources, track, tracking, score_threshold)
        if in_windows:
            predictor.tiling((1, 1))  # checks that they fit
            sources = in_tiles(sources, reading, predictor.reading)
        settings = {
            "weights": name_of_weights(task.pretrained if ckpt_path is None else ckpt_path),
            "canvas": str(predictor.canvas),
            "postprocess": asdict(postprocess),
            "categories": predictor.classes.to_dict(),
        }
        if predictor.reading != Reading():
            settings["reading"] = reading_settings(predictor.reading)
        if in_windows or not inference.is_plain:
            settings["inference"] = asdict(inference)
        settings |= {} if ids is None else {"ids": name_of_weights(ids)}
        settings |= {} if following is None else {"tracking": asdict(following)}
        keys = None if ids is None else Keys.of(ids, [file.path for file in sources], predictor.classes)
        if keys is not None and keys.note:
            rank_zero_info(keys.note)
        results = DetectionResults(predictor.classes, pictures, keys, reading, pre_labels, yolo, following, batch_size)
        self.stream(task, ckpt_path, work, sources, predictor, results, settings)
