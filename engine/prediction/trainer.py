"""Lightning's trainer with a `predict` that streams from a predictor to a folder. Each task's subclass has options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from engine.checked import Checked
from engine.errors import InputError, UnreadableError
from engine.hardware.precision import Precision
from engine.numbers import NonNegativeInt, PositiveInt
from engine.prediction.predictor import Answer, Predictor, Prepared
from engine.prediction.results import ResultFolder, Results
from engine.prediction.sources import IMAGES, VIDEO, SourceFile, SourceKinds, find_sources
from engine.prediction.streaming import PredictingModule, SourceImages, collate_sources
from engine.prediction.writer import PredictionWriter
from engine.reading.options import Reading
from engine.reading.reader import refuse_unused
from engine.tracking.byte_track import ByteTrack, Tracking

Module = TypeVar("Module", bound=PredictingModule)


@dataclass(frozen=True)
class Work(Checked):
    """The options of `predict` that all tasks share.

    Attributes:
        source: file, folder or glob, or a list of them.
        output: folder for the results.
        overwrite: start over in a folder that holds results of other settings.
        batch_size: images computed together.
        num_workers: processes that read and prepare images.
        kinds: the files that the task takes.

    Raises:
        InputError: no source is given, or a number is out of range.
    """

    source: str | list[str] | None
    output: str
    overwrite: bool
    batch_size: PositiveInt
    num_workers: NonNegativeInt
    kinds: SourceKinds = IMAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source is None:
            msg = f"predict needs {self.kinds.options}"
            raise InputError(msg)

    def sources(self) -> list[SourceFile]:
        """The files that `source` names.

        Raises:
            InputError: a path does not exist, a folder holds no such file, or a pattern matches no such file.
        """
        assert self.source is not None
        return find_sources(self.source, self.kinds)


def asked(model: LightningModule | None, kind: type[Module], ckpt_path: str | None) -> Module:
    """The task that is to predict; it is told whether the weights of a checkpoint will replace its own."""
    assert isinstance(model, kind)
    model.restores = ckpt_path is not None
    return model


def reading_settings(reading: Reading) -> dict[str, object]:
    """How rasters are read, as a folder of results records it; nodata as text, as NaN is not JSON."""
    return asdict(reading) | {"nodata": None if reading.nodata is None else str(reading.nodata)}


def check_pictures(sources: Sequence[SourceFile], asked_for: Reading) -> None:
    """Do nothing if all options of rasters apply to the images that can be opened.

    Args:
        sources: the images.
        asked_for: the options of this command; those that the network was trained with need not apply.

    Raises:
        InputError: an option does not apply to one of them.
    """
    for source in sources if asked_for.given() else ():
        with suppress(UnreadableError):  # it is listed when it is its turn
            refuse_unused(source.path, asked_for)


def check_videos(
    sources: Sequence[SourceFile], asked_for: Reading, ids: str | None = None, pre_labels: str | None = None
) -> None:
    """Do nothing if all options apply to the videos among the sources.

    Args:
        sources: the sources.
        asked_for: the options of rasters of this command.
        ids: the annotation file whose ids the results take.
        pre_labels: the format of a set of images for annotation tools.

    Raises:
        InputError: an option does not apply to one of them.
    """
    of_images = {"ids": ids, "pre_labels": pre_labels}
    options = [*asked_for.given(), *(name for name, value in of_images.items() if value is not None)]
    for source in sources:
        if source.kind == VIDEO and options:
            what = "images" if options[0] in of_images else "rasters"
            msg = f"{options[0]} is for {what}, but '{source.path}' is a video. Leave it or the video out."
            raise InputError(msg)


def asked_tracking(
    sources: Sequence[SourceFile], track: bool, tracking: Tracking, score_threshold: float
) -> Tracking | None:
    """How objects are followed; None if they are not.

    Args:
        sources: the sources.
        track: whether to follow objects.
        tracking: how.
        score_threshold: objects with this score or more begin a track.

    Raises:
        InputError: there is no video in which they could be followed; they are not, but settings say how; or those that
            continue a track need a higher score than those that begin one.
    """
    if not track:
        if tracking != Tracking():
            msg = "tracking says how objects are followed, but track is false. Give --track true, or leave it out."
            raise InputError(msg)
        return None
    if all(source.kind != VIDEO for source in sources):
        msg = "track follows objects from frame to frame, but no source is a video. Leave it out, or give a video."
        raise InputError(msg)
    ByteTrack(1.0, score_threshold, tracking)  # checks that they fit
    return tracking


class _Called(Protocol):
    """What Lightning's Trainer has without declaring it."""

    callbacks: list[object]


class PredictionTrainer(Trainer):
    """Lightning's trainer with the one prediction loop of all tasks.

    Args:
        precision: `auto` takes bfloat16 for a training where the device computes in it, and float32 otherwise; scores
            and predictions are float32. Or any of Lightning's, such as 32-true or bf16-mixed.
        settings: the other arguments of Lightning's trainer.
    """

    def __init__(self, *, precision: Precision | None = "auto", **settings: object) -> None:
        # The command line has chosen before, with what it knows of the command.
        super().__init__(precision="32-true" if precision == "auto" else precision, **settings)  # type: ignore[arg-type]

    def stream(
        self,
        task: PredictingModule,
        ckpt_path: str | None,
        work: Work,
        sources: Sequence[SourceFile],
        predictor: Predictor[Prepared, Answer],
        results: Results[Answer],
        settings: Mapping[str, object],
    ) -> ResultFolder[Answer]:
        """Predict the sources that are left, write the tables of all sources, and return the folder.

        Args:
            task: the Lightning module whose network the predictor has.
            ckpt_path: checkpoint whose weights are taken.
            work: the options that all tasks share.
            sources: the files.
            predictor: the predictor that computes them.
            results: what is written.
            settings: plain values that decide what the results are; a folder holds results of one kind of settings.

        Raises:
            InputError: the folder has results of other settings or files that would be replaced; or sources could not
                be done, after all others are.
        """
        folder = ResultFolder(
            work.output, sources, results, settings, overwrite=work.overwrite, searched=work.source or ()
        )
        finished = len(folder.sources) - len(folder.left)
        if finished:
            rank_zero_info(f"{finished} of {len(folder.sources)} are finished in {work.output}")
        if folder.left:
            self._do(task, ckpt_path, work, folder, predictor)
        elif self.is_global_zero:
            folder.failures.clear()  # of sources that are gone
            if not folder.has_tables:
                folder.write_tables()
        where = ", ".join(map(str, folder.tables)) or str(folder.path)
        failed = len(folder.failures.reasons())
        rank_zero_info(f"{len(folder.sources) - failed} done: {where}")
        if self.is_global_zero:
            folder.failures.refuse(len(folder.sources))
        return folder

    def _do(
        self,
        task: PredictingModule,
        ckpt_path: str | None,
        work: Work,
        folder: ResultFolder[Answer],
        predictor: Predictor[Prepared, Answer],
    ) -> None:
        files = SourceImages(folder.sources, folder.left, predictor.reader, predictor.prepare)
        workers = min(work.num_workers, len(files) - 1)
        loader = DataLoader(files, batch_size=work.batch_size, num_workers=workers, collate_fn=collate_sources)
        writer = PredictionWriter(folder, predictor, progress=self.progress_bar_callback is not None)
        callbacks = cast("_Called", self).callbacks
        callbacks.append(writer)
        try:
            super().predict(task, dataloaders=loader, ckpt_path=ckpt_path, return_predictions=False)
        finally:
            # Otherwise the results of the next call would be written over those of this one.
            callbacks.remove(writer)
            task.predictor, task.restores = None, False  # the weights may change
