"""Sums over each image of an evaluation, collected over batches and processes into those of the set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.distributed import all_gather_objects


class ImageSums:
    """Collects a few numbers for each image, for any batches and any number of processes.

    The numbers stay on the device, so that no batch waits for it. An image that comes again is dropped: the sampler of
    several processes repeats images to give each the same number.
    """

    def __init__(self) -> None:
        self._ids: list[Tensor] = []
        self._sums: list[Tensor] = []

    def add(self, ids: Tensor, sums: Tensor) -> None:
        """Take the images of a batch.

        Args:
            ids: (B,) whole numbers that tell the images of the set apart.
            sums: (B, F) numbers of each image; B may be 0.
        """
        self._ids.append(ids.detach())
        self._sums.append(sums.detach())

    def total(self) -> Tensor | None:
        """The sums (F,) over the images of all processes, float32 on the CPU; None if there is no image.

        They are taken in the order of the ids, in float64, so that batches and processes do not matter. All processes
        must call this at once.
        """
        own = None
        if self._ids:
            own = torch.cat(self._ids).cpu().numpy(), torch.cat(self._sums).float().cpu().numpy()
        known = [each for each in all_gather_objects(own) if each is not None]
        if not sum(len(ids) for ids, _ in known):
            return None
        _, first = np.unique(np.concatenate([ids for ids, _ in known]), return_index=True)
        rows = np.concatenate([sums for _, sums in known])[first]
        return torch.from_numpy(rows.astype(np.float64).sum(0)).float()
