"""Objects and classes of pixels in a video or stream, from one pass over each frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from detection.prediction.video import Following, ObjectSink, VideoFiles, video_outputs
from engine.prediction.predictor import answered
from engine.tracking.byte_track import Tracking
from engine.video.frames import Frames
from engine.video.written import drawn_video
from joint.prediction.predictor import JointPredictor
from segmentation.large.video import AreaTable, Tinted
from segmentation.prediction.areas import area_values

_AREAS = "_areas.csv"


def joint_outputs(name: Path, *, detect: bool, segment: bool, pictures: bool, yolo: bool) -> list[Path]:
    """The files that are written of a video; the table of objects is the first, if there is one.

    Args:
        name: the name of its results, without a suffix.
        detect: whether objects are found.
        segment: whether classes of pixels are found.
        pictures: whether a video is drawn.
        yolo: whether YOLO labels are written.
    """
    objects, *others = video_outputs(name, pictures=pictures, yolo=yolo and detect)
    areas = [name.with_name(name.name + _AREAS)] if segment else []
    return [*([objects] if detect else []), *areas, *others]


def answer_video(
    predictor: JointPredictor,
    frames: Frames,
    paths: Sequence[Path],
    *,
    tracking: Tracking | None = None,
    batch_size: int = 4,
    progress: bool = True,
) -> dict[str, object]:
    """Find what is asked of the predictor in a video or a stream, and write it as it comes.

    Args:
        predictor: the network, in eval mode, and what it is to find.
        frames: the frames.
        paths: the files to write, as `joint_outputs` lists them.
        tracking: follow objects, and how; None gives no ids.
        batch_size: frames that are computed together.
        progress: whether to show a progress bar.

    Returns:
        What a journal records.

    Raises:
        InputError: the video cannot be read, or an output cannot be written.
    """
    following = None
    if tracking is not None:
        following = Following(tracking, predictor.postprocess.score_threshold, frames.rate)
        predictor = predictor.with_settings(score_threshold=tracking.low_score)
    files = VideoFiles.of(paths)
    sink, areas, tinted = None, None, Tinted(predictor.segmentation_classes)
    with ExitStack() as stack:
        batches = answered(predictor, frames, batch_size, progress=progress)
        first = next(batches)  # what has no frame leaves no files
        if files.objects is not None:
            sink = stack.enter_context(ObjectSink(files, predictor.classes, following))
        for path in paths:
            if path.name.endswith(_AREAS):
                areas = stack.enter_context(AreaTable(path, predictor.segmentation_classes))
        drawn = stack.enter_context(drawn_video(files.overlay, frames)) if files.overlay else None
        for batch in chain([first], batches):
            for one in batch:
                picture, found, segmented = one.frame.picture, one.answer.found, one.answer.segmented
                if areas is not None and segmented is not None:
                    areas.add(one.frame.number, one.frame.seconds, segmented)
                if sink is not None and found is not None:
                    found = sink.add(one.frame.number, one.frame.seconds, found)
                if drawn is not None:
                    below = None if segmented is None else tinted.draw(picture, segmented.class_ids)
                    shown = below if found is None else found.draw(picture if below is None else below)
                    assert shown is not None
                    drawn.add(one.frame.seconds, shown)
            for table in (sink, areas):
                if table is not None:
                    table.flush()
    values = {} if areas is None else area_values(areas.totals.tolist())
    return values if sink is None else values | sink.result(frames).values()
