"""What `python -m joint predict` leaves in its folder: see `joint.prediction.results`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from engine.distributed import barrier, is_main
from joint.answers import JointFound
from joint.prediction.results import ResultFolder


class JointWriter(BasePredictionWriter):
    """Writes each image's files as they come, and the tables at the end or when something stops the work.

    Args:
        results: the output folder.
        indices: places in its list of images, by the ids that the loader gives.
    """

    def __init__(self, results: ResultFolder, indices: Sequence[int]) -> None:
        super().__init__(write_interval="batch")
        self.results = results
        self.indices = list(indices)
        self.done = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the journal before any process adds to it."""
        network: Any = pl_module.network
        if is_main():
            self.results.begin(network.segmenter.classes)
        else:
            self.results.journal.classes = network.segmenter.classes
        barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[JointFound],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch, which names them in `image_ids`."""
        for image_id, found in zip(batch.image_ids.tolist(), prediction, strict=True):
            index = self.indices[image_id]
            self.results.write(index, self.results.sources[index].path, found)
            self.done += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the tables of all processes."""
        barrier()
        if is_main():
            self.results.write_tables()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the tables of what is finished."""
        if self.done and is_main():
            self.results.write_tables()
