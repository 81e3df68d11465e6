"""Lightning's trainer, whose `predict` takes images rather than a loader."""

from __future__ import annotations

from dataclasses import asdict, replace

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from detection.prediction.keys import Keys
from detection.prediction.predictor import DEFAULT_SCORE
from engine.errors import InputError
from engine.numbers import NonNegativeInt, PositiveInt
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
from joint.prediction.predictor import JointPredictor
from joint.prediction.results import JointResults, settings_of
from joint.task import JointTask


class JointTrainer(PredictionTrainer):
    """The commands of `python -m joint`."""

    def predict(  # type: ignore[override]
        self,
        model: LightningModule | None = None,
        ckpt_path: str | None = None,
        source: str | list[str] | None = None,
        output: str = "predictions",
        score_threshold: float = DEFAULT_SCORE,
        canvas: CanvasPolicy = "full",
        detect: bool = True,
        segment: bool = True,
        pictures: bool = True,
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
        """Find objects and classes of pixels in images and videos: masks, boxes over the classes' colours, and tables.

        Sources that are finished in the output folder are not done again.

        Args:
            model: the task.
            ckpt_path: checkpoint, or `best` / `last` of the latest run.
            source: image, video, folder or glob, or a list of them; or the number of a camera or an address such as
                rtsp://….
            output: folder for the results.
            score_threshold: keep detections above this score.
            canvas: `full` computes every image on the canvas of training and validation; `tight` on one no larger than
                the image needs, which is faster.
            detect: find objects.
            segment: find the classes of pixels.
            pictures: draw pictures and videos with boxes over the colours of the classes.
            ids: COCO annotation file whose ids the list of objects takes, so that it can be scored: images are matched
                by file name, categories by name.
            yolo: write YOLO labels as well, a text for each image or frame.
            track: give the objects of a video ids that they keep from frame to frame.
            tracking: how they are followed.
            overwrite: start over in a folder that holds results of other settings.
            bands: numbers, from 1, of a raster's bands that are red, green and blue; null is as the network learnt.
            value_range: values of a raster that become black and white; null is as the network learnt.
            nodata: value of a raster's pixels without data, if the raster does not state it.
            batch_size: images or frames computed together.
            num_workers: processes that read images.
        """
        work = Work(source, output, overwrite, batch_size, num_workers, IMAGES_AND_VIDEOS)
        if not detect and not segment:
            msg = "detect and segment are both false, which leaves nothing to find. Leave one of them out."
            raise InputError(msg)
        for option, given in (("ids", ids is not None), ("yolo", yolo), ("track", track)):
            if given and not detect:
                msg = f"{option} is for objects, but detect is false. Leave {option} out, or detect."
                raise InputError(msg)
        sources = work.sources()
        task = asked(model, JointTask, ckpt_path)
        postprocess = replace(task.postprocess, score_threshold=score_threshold)
        reading = Reading(bands, value_range, nodata)
        check_pictures([file for file in sources if file.kind == IMAGE], reading)
        check_videos(sources, reading, ids)
        following = asked_tracking(sources, track, tracking, score_threshold)
        predictor = JointPredictor(task.network, postprocess, canvas, detect=detect, segment=segment).with_reading(
            reading
        )
        keys = None if ids is None else Keys.of(ids, [file.path for file in sources], predictor.classes)
        if keys is not None and keys.note:
            rank_zero_info(keys.note)
        results = JointResults(
            predictor.classes, predictor.segmentation_classes, detect, segment, pictures, keys, yolo, following,
            batch_size,
        )  # fmt: skip
        settings = settings_of(ckpt_path, str(predictor.canvas), postprocess, results)
        if predictor.reading != Reading():
            settings["reading"] = reading_settings(predictor.reading)
        settings |= {} if ids is None else {"ids": name_of_weights(ids)}
        settings |= {} if following is None else {"tracking": asdict(following)}
        self.stream(task, ckpt_path, work, sources, predictor, results, settings)
