"""The Lightning callback that writes the results of `predict`: see `engine.prediction.results`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from engine.distributed import barrier, is_main
from engine.errors import InputError, OutputError
from engine.prediction.predictor import Answer, Predictor, Prepared
from engine.prediction.results import ResultFolder
from engine.prediction.streaming import PredictingModule, PredictionBatch


class PredictionWriter(BasePredictionWriter, Generic[Prepared, Answer]):
    """Writes the files of each source as results come, and the tables at the end or when something stops the work.

    It also gives the predictor to the module: once the weights are loaded, with a folded copy of the network.

    Args:
        folder: the output folder and the sources that are left.
        predictor: the predictor with the network of the module.
        progress: whether a source that is no image shows a progress bar of its own.
    """

    def __init__(
        self, folder: ResultFolder[Answer], predictor: Predictor[Prepared, Answer], *, progress: bool = True
    ) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.predictor = predictor
        self.progress = progress
        self.done = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the journal before any process adds to it."""
        assert isinstance(pl_module, PredictingModule)
        pl_module.predictor = self.predictor = self.predictor.folded()
        if is_main():
            self.folder.begin()
        barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[Answer],
        batch_indices: Sequence[int] | None,
        batch: PredictionBatch[Prepared],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the results of a batch's images; compute and write the sources that are no images."""
        for index, reason in batch.failed.items():
            self.folder.fail(index, reason)
        for index, sample, answer in zip(batch.indices, batch.samples, prediction, strict=True):
            pixels = self.predictor.original(sample)
            with self._done(index):
                self.folder.write(index, self.folder.sources[index].path if pixels is None else pixels, answer)
        for index in batch.unread:
            # The context in which Lightning computes a step: mixed precision, if it was asked for.
            with self._done(index), trainer.precision_plugin.predict_step_context():
                self.folder.stream(index, self.predictor, progress=self.progress)

    @contextmanager
    def _done(self, index: int) -> Iterator[None]:
        """Count a source as done; where it cannot be read, note it as failed and go on with the others."""
        try:
            yield
        except OutputError:  # it would be the same for all others
            raise
        except InputError as error:
            self.folder.fail(index, str(error))
        else:
            self.done += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the tables of all processes."""
        barrier()
        if is_main():
            self.folder.write_tables()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the tables of the finished sources."""
        if self.done and is_main():
            self.folder.write_tables()
