"""Mixed batches, by timm's Mixup: images are blended, or a part of one is pasted into another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from timm.data import Mixup
from torch import Tensor

from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import ClosedUnitInterval, NonNegativeFloat


@dataclass(frozen=True)
class BatchMixing(Checked):
    """How the images of a batch are mixed.

    Args:
        mixup: alpha of mixup (Zhang et al., arXiv 1710.09412); 0 blends none.
        cutmix: alpha of CutMix (Yun et al., arXiv 1905.04899); 0 pastes none.
        share: share of the batches (or of the images, by `mode`) that are mixed.
        switch: of these the share that CutMix takes where both are asked for.
        mode: whether one strength holds for a batch, for each pair, or for each image.
    """

    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    share: ClosedUnitInterval = 1.0
    switch: ClosedUnitInterval = 0.5
    mode: Literal["batch", "pair", "elem"] = "batch"
    group: ClassVar[str] = "mixing"

    def check(self, *, several: bool, batch_size: int) -> None:
        """Do nothing if batches can be mixed.

        Raises:
            InputError: images have several labels, or a batch has an odd number of images.
        """
        if several:
            msg = "mixing.mixup and mixing.cutmix are for one label an image, but images have several. Leave them out."
            raise InputError(msg)
        if batch_size % 2:
            msg = f"data.batch_size is {batch_size}; mixing takes pairs of images. Give an even number."
            raise InputError(msg)

    def build(self, mixup: float, classes: int, smoothing: float) -> Mixup | None:
        """The mixer of timm; None where nothing is mixed.

        Args:
            mixup: alpha of mixup, in place of this object's own.
            classes: K.
            smoothing: share of a label that is spread over all classes.
        """
        if mixup <= 0 and self.cutmix <= 0:
            return None
        return Mixup(
            mixup_alpha=mixup,
            cutmix_alpha=self.cutmix,
            prob=self.share,
            switch_prob=self.switch,
            mode=self.mode,
            label_smoothing=smoothing,
            num_classes=classes,
        )


def mixed(mixer: Mixup, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The mixed images, float, and the shares (B, K) of their classes.

    Args:
        mixer: timm's.
        images: (B, 3, H, W) uint8 RGB.
        targets: (B,) rows.
    """
    blended, shares = mixer(images.float(), targets)
    return blended, shares
