"""What the loss costs in a validation: batches with and without it in turn, and the loss alone.

    python benchmarks/val_loss.py

EfficientDet-Lite0 at its own 320 x 320 with 90 classes and DeepLabv3+ on Lite0 at 512 x 1024 with 19, generated
pixels. What Lightning, the loader and the scores cost is in neither. Minimum and median of each in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from canvas_padding import make_batch, timed

from detection.network.loss_settings import DetectionLoss
from detection.network.losses import image_losses as box_losses
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from segmentation.inference.inference import answer
from segmentation.network.losses import SegmentationLoss
from segmentation.network.losses import image_losses as mask_losses
from segmentation.network.model import Segmenter


def detection(batch_size: int) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = EfficientDet("lite0", 90).eval().to(memory_format=torch.channels_last)
    batch = make_batch(model.config.image_size, batch_size)
    batch = batch._replace(scales=torch.ones(batch_size))
    known = model.predictions(batch.images)

    def loss(predictions: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        box_losses(*predictions, batch.boxes_xyxy, batch.class_ids, DetectionLoss())

    def step(*, with_loss: bool) -> None:
        predictions = model.predictions(batch.images)
        if with_loss:
            loss(predictions)
        model.detections(predictions, batch, Postprocess())

    return {
        "detection": lambda: step(with_loss=False),
        "detection and loss": lambda: step(with_loss=True),
        "detection, loss alone": lambda: loss(known),
    }


def segmentation(batch_size: int) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = Segmenter("lite0").eval().to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch_size, 512, 1024, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    class_ids = torch.randint(0, 19, (batch_size, 512, 1024)).to(torch.uint8)
    known = answer(model, images)

    def step(*, with_loss: bool) -> None:
        found = answer(model, images)
        if with_loss:
            mask_losses(found.logits, class_ids, SegmentationLoss())

    return {
        "segmentation": lambda: step(with_loss=False),
        "segmentation and loss": lambda: step(with_loss=True),
        "segmentation, loss alone": lambda: mask_losses(known.logits, class_ids, SegmentationLoss()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"batch {given.batch}, {given.threads} threads")
    with torch.inference_mode():
        for steps in (detection(given.batch), segmentation(1)):
            for name, seconds in timed(steps, given.rounds).items():
                print(f"{name:<25} {1e3 * min(seconds):7.1f} {1e3 * statistics.median(seconds):7.1f}")


if __name__ == "__main__":
    main()
