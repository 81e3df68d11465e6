"""What `python -m segmentation predict` leaves in its folder: masks, overlays, probabilities, and a table of areas."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch.utils.data import Dataset

from engine.data.images import UInt8Array, read_image
from engine.distributed import barrier, is_main
from engine.errors import InputError, SampleError
from engine.outputs import atomic_path
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.inference.inference import Inference
from segmentation.inference.pictures import class_pixels
from segmentation.inference.segmented import Segmented
from segmentation.prediction.journal import Journal, Record, stamp_of
from segmentation.prediction.sources import SourceFile


class PredictionBatch(NamedTuple):
    """Sources of one step.

    Attributes:
        indices: places of the images in the list of sources.
        images: (H, W, 3) uint8 RGB each, of any sizes.
        unread: places of the videos and rasters, which are read as they are computed.
        keep: whether the images' probabilities are wanted.
    """

    indices: list[int]
    images: list[UInt8Array]
    unread: list[int]
    keep: bool


class SourceImages(Dataset[tuple[int, UInt8Array | None]]):
    """Sources by their place in the list; of videos and rasters only the place."""

    def __init__(self, sources: Sequence[SourceFile], *, keep: bool = False) -> None:
        self.sources = list(sources)
        self.keep = keep

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[int, UInt8Array | None]:
        source = self.sources[index]
        try:
            return index, read_image(source.path) if source.kind == "image" else None
        except InputError as error:
            raise SampleError(str(error)) from None

    def collate(self, samples: Sequence[tuple[int, UInt8Array | None]]) -> PredictionBatch:
        """Samples as they are, in lists."""
        read = [(index, image) for index, image in samples if image is not None]
        unread = [index for index, image in samples if image is None]
        return PredictionBatch([index for index, _ in read], [image for _, image in read], unread, self.keep)


@dataclass(frozen=True)
class RasterReading:
    """How rasters and slides are read; see `segmentation.large.rasters.segment_raster`.

    Attributes:
        bands: numbers, from 1, of those that are red, green and blue.
        value_range: what becomes 0 and 255.
        nodata: value of pixels that hold none.
        mpp: micrometres per pixel at which slides are read.
    """

    bands: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    nodata: float | None = None
    mpp: float | None = None


class PredictionWriter(BasePredictionWriter):
    """Writes each source's files as they come, and the table of areas at the end or when something stops the work.

    Args:
        journal: the output folder and what is finished in it.
        sources: what is to be done, by the places that the loader gives.
        outputs: the files that each leaves, relative to the folder; see `segmentation.prediction.sources.outputs_of`.
        config: how images are computed.
        reading: how rasters are read.
        progress: whether videos and rasters show a progress bar of their own.
        cityscapes_only: whether a network of other classes is refused.
    """

    def __init__(
        self,
        journal: Journal,
        sources: Sequence[SourceFile],
        outputs: Sequence[Sequence[Path]],
        config: Inference,
        *,
        reading: RasterReading | None = None,
        progress: bool = True,
        cityscapes_only: bool = False,
    ) -> None:
        super().__init__(write_interval="batch")
        self.journal = journal
        self.sources = list(sources)
        self.config = config
        self.reading = reading or RasterReading()
        self.progress = progress
        self.outputs = [list(paths) for paths in outputs]
        self._cityscapes_only = cityscapes_only
        self.done = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the journal before any process adds to it.

        Raises:
            InputError: the window does not fit the network's stride, or its classes are not those of Cityscapes,
                which are needed.
        """
        network: Any = pl_module.network
        self.config.tiling((1, 1), network.stride)
        classes: Any = pl_module.classes
        if self._cityscapes_only:
            check_cityscapes(classes)
        self.journal.classes = classes
        if is_main():
            self.journal.begin()
        barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[Segmented],
        batch_indices: Sequence[int] | None,
        batch: PredictionBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch; compute and write its videos and rasters."""
        for index, image, found in zip(batch.indices, batch.images, prediction, strict=True):
            self._write_image(index, image, found)
        for index in batch.unread:
            # What Lightning computes a step in: mixed precision, if it was asked for.
            with trainer.precision_plugin.predict_step_context():
                self._write_large(index, pl_module.network, self.sources[index])

    def _write_image(self, index: int, image: UInt8Array, found: Segmented) -> None:
        for path in self._paths(index):
            if path.suffix == ".npz":
                assert found.probabilities is not None
                names, label_ids = np.array(found.classes.names), np.array(found.classes.label_ids)
                with atomic_path(path) as temporary:
                    np.savez_compressed(temporary, probabilities=found.probabilities, names=names, label_ids=label_ids)
            elif path.suffix == ".jpg":
                with atomic_path(path) as temporary:
                    found.draw(image).save(temporary, quality=92)
            else:
                found.save(path)
        self._finish(index, class_pixels(found.class_ids, found.classes).tolist())

    def _write_large(self, index: int, network: Any, source: SourceFile) -> None:
        from segmentation.large.rasters import segment_raster
        from segmentation.large.video import segment_video

        first, *others = self._paths(index)
        endings = {path.suffix for path in others}
        if source.kind == "video":
            overlay = others[0] if others else None
            video = segment_video(network, source.path, first, overlay, self.config, progress=self.progress)
            self._finish(index, list(video.areas.values()))
        else:
            raster = segment_raster(
                network, source.path, first, self.config, bands=self.reading.bands,
                value_range=self.reading.value_range, nodata=self.reading.nodata, mpp=self.reading.mpp,
                overview=".jpg" in endings, probabilities=".tif" in endings, progress=self.progress,
            )  # fmt: skip
            self._finish(index, list(raster.areas.values()), raster.pixel_area_m2)

    def _paths(self, index: int) -> list[Path]:
        return [self.journal.folder / path for path in self.outputs[index]]

    def _finish(self, index: int, pixels: list[int], pixel_area_m2: float | None = None) -> None:
        path = self.sources[index].path
        outputs = tuple(output.as_posix() for output in self.outputs[index])
        source = os.path.abspath(path)
        self.journal.add(Record(source, stamp_of(path), outputs, tuple(pixels), pixel_area_m2))
        self.done += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of all processes."""
        barrier()
        if is_main():
            self.journal.write_areas()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the table of what is finished."""
        if self.done and is_main():
            self.journal.write_areas()


def check_cityscapes(classes: MaskClasses | None) -> None:
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
