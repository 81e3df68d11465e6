"""Training steps and inference on a GPU beside effdet 0.4.1 and smp: the same networks and images, interleaved.

    python benchmarks/on_gpu.py

Each round runs every measurement once on either side, ours and the other's in turn, and waits for the device before and
after. A number type is one for both sides: float32 (TensorFloat-32 off), or bfloat16 by autocast. Printed are the
minimum and the median of all rounds, their ratios (below 1: ours is faster), the peak of the device's memory during one
call, and how often a call of ours waits for the device, with the lines that do.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import effdet
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from effdet.bench import DetBenchPredict, DetBenchTrain
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from segmentation.network.model import Segmenter

CUDA = torch.device("cuda")
Call = Callable[[], object]


class Pair(NamedTuple):
    """A measurement of both sides, and the other side's name."""

    ours: Call
    theirs: Call
    other: str


def autocast(call: Call, dtype: torch.dtype) -> Call:
    """A call in a number type."""

    def inside() -> object:
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            return call()

    return inside


def boxes_of(images: torch.Tensor, count: int = 20) -> DetectionBatch:
    """A batch with random boxes."""
    generator = torch.Generator().manual_seed(0)
    batch, size = len(images), images.shape[-1]
    low = torch.rand(batch, count, 2, generator=generator) * size * 0.7
    boxes = torch.cat([low, low + 8 + torch.rand(batch, count, 2, generator=generator) * size * 0.25], -1)
    class_ids = torch.randint(0, 90, (batch, count), generator=generator)
    sizes = torch.tensor([[size, size]] * batch)
    parts = (boxes, class_ids, torch.arange(batch), torch.ones(batch), sizes)
    return DetectionBatch(images, *(part.to(CUDA) for part in parts))


def detection(member: str, batch: int, dtype: torch.dtype) -> dict[str, Pair]:
    """A training step with the optimiser, image to boxes, and targets."""
    name = f"tf_efficientdet_{member}"
    config = effdet.get_efficientdet_config(name)
    size = config.image_size[0]
    torch.manual_seed(0)
    ours = EfficientDet(member).to(CUDA, memory_format=torch.channels_last).train()
    answering = EfficientDet(member).to(CUDA, memory_format=torch.channels_last).eval().fold()
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).to(CUDA)
    bench = DetBenchTrain(theirs).to(CUDA).train()
    predict = DetBenchPredict(effdet.EfficientDet(config, pretrained_backbone=False)).to(CUDA).eval()
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8).to(CUDA)
    given, one = boxes_of(images), boxes_of(images[:1])
    mean = 255 * torch.tensor(config.get("mean", IMAGENET_DEFAULT_MEAN), device=CUDA).view(3, 1, 1)
    std = 255 * torch.tensor(config.get("std", IMAGENET_DEFAULT_STD), device=CUDA).view(3, 1, 1)
    target = {"bbox": given.boxes_xyxy[..., [1, 0, 3, 2]], "cls": (given.class_ids + 1).float()}
    loss = DetectionLoss()
    optimisers = [torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True) for net in (ours, theirs)]

    def our_step() -> None:
        losses = ours.losses(given, loss)
        losses.total(losses.positives + 1, loss.of_boxes).backward()
        optimisers[0].step()
        optimisers[0].zero_grad()

    def their_step() -> None:
        bench((images - mean) / std, target)["loss"].backward()
        optimisers[1].step()
        optimisers[1].zero_grad()

    def their_boxes(pixels: torch.Tensor, soft: bool) -> Call:
        info = {
            "img_scale": torch.ones(len(pixels), device=CUDA),
            "img_size": torch.full((len(pixels), 2), float(size), device=CUDA),
        }

        @torch.no_grad()
        def call() -> object:
            predict.soft_nms = soft
            return predict((pixels - mean) / std, info)

        return call

    def our_boxes(batch: DetectionBatch) -> Call:
        return torch.no_grad()(lambda: answering.detect(batch, Postprocess()))

    def our_targets() -> object:
        return match_anchors(given.boxes_xyxy, given.class_ids, ours.anchors((size, size), CUDA))

    def their_targets() -> object:
        labeler = bench.anchor_labeler
        return labeler.batch_label_anchors(target["bbox"], target["cls"])

    kind = f"{member} {size} px, {str(dtype).removeprefix('torch.')}"
    pairs = {
        f"{kind}: training step, batch {batch}": Pair(our_step, their_step, "effdet"),
        f"{kind}: image to boxes, batch 1": Pair(our_boxes(one), their_boxes(images[:1], False), "effdet"),
        f"{kind}: image to boxes, batch {batch}": Pair(our_boxes(given), their_boxes(images, False), "effdet"),
    }
    found = {key: Pair(autocast(p.ours, dtype), autocast(p.theirs, dtype), p.other) for key, p in pairs.items()}
    if dtype == torch.float32:
        found[f"{member} {size} px: anchors of boxes, batch {batch}"] = Pair(our_targets, their_targets, "effdet")
    return found


def segmentation(batch: int, dtype: torch.dtype) -> dict[str, Pair]:
    """A training step with the optimiser, and inference, of DeepLabv3+ B0 at 512 x 1024."""
    torch.manual_seed(0)
    ours = Segmenter("b0", 19).to(CUDA, memory_format=torch.channels_last).train()
    answering = Segmenter("b0", 19).to(CUDA, memory_format=torch.channels_last).eval().fold()
    theirs = smp.DeepLabV3Plus("tu-tf_efficientnet_b0", encoder_weights=None, classes=19).to(CUDA).train()
    still = smp.DeepLabV3Plus("tu-tf_efficientnet_b0", encoder_weights=None, classes=19).to(CUDA).eval()
    images = torch.randint(0, 256, (batch, 3, 512, 1024), dtype=torch.uint8).to(CUDA)
    class_ids = torch.randint(0, 19, (batch, 512, 1024)).byte().to(CUDA)
    mean, std, config = ours.mean.clone(), ours.std.clone(), SegmentationLoss()
    optimisers = [torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True) for net in (ours, theirs)]

    def our_step() -> None:
        logits, aux_logits = ours.outputs(images)
        segmentation_losses(logits, class_ids, config, aux_logits).total(config).backward()
        optimisers[0].step()
        optimisers[0].zero_grad()

    def their_step() -> None:
        F.cross_entropy(theirs((images - mean) / std), class_ids.long(), ignore_index=255).backward()
        optimisers[1].step()
        optimisers[1].zero_grad()

    kind = f"DeepLabv3+ B0 512 x 1024, {str(dtype).removeprefix('torch.')}"
    pairs = {
        f"{kind}: training step, batch {batch}": Pair(our_step, their_step, "smp"),
        f"{kind}: inference, batch 1": Pair(
            torch.no_grad()(lambda: answering(images[:1])),
            torch.no_grad()(lambda: still((images[:1] - mean) / std)),
            "smp",
        ),
    }
    return {key: Pair(autocast(p.ours, dtype), autocast(p.theirs, dtype), p.other) for key, p in pairs.items()}


def timed(call: Call) -> float:
    """Milliseconds of a call, with all that it starts on the device."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def peak_mib(call: Call) -> float:
    """MiB of the device that a call takes above what stands before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def waits(call: Call) -> collections.Counter[str]:
    """The lines at which a call waits for the device, as far as PyTorch tells."""
    root = Path(__file__).resolve().parent.parent
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        call()
        torch.cuda.set_sync_debug_mode("default")
    found = (m for m in messages if "synchroniz" in str(m.message))
    return collections.Counter(f"{m.filename.removeprefix(f'{root}/')}:{m.lineno}" for m in found)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", nargs="+", default=["d0", "lite0"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "effdet", "segmentation-models-pytorch"))
    print(f"{torch.cuda.get_device_name()}; {versions}; {given.rounds} rounds; milliseconds\n")
    print("| measurement | ours min / median | other min / median | ratio | MiB ours / other | waits of ours |")
    print("|---|---|---|---|---|---|")
    places: dict[str, collections.Counter[str]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for member in [*given.members, None]:
            pairs = segmentation(given.batch // 2, dtype) if member is None else detection(member, given.batch, dtype)
            seconds: dict[tuple[str, int], list[float]] = collections.defaultdict(list)
            for turn in range(given.rounds + 3):
                for name, pair in pairs.items():
                    for side, call in enumerate((pair.ours, pair.theirs)):
                        spent = timed(call)
                        if turn >= 3:  # the first rounds are for warming up
                            seconds[name, side].append(spent)
            for name, pair in pairs.items():
                own, other = seconds[name, 0], seconds[name, 1]
                places[name] = waits(pair.ours)
                print(
                    f"| {name} | {min(own):.1f} / {statistics.median(own):.1f} | {min(other):.1f} / "
                    f"{statistics.median(other):.1f} ({pair.other}) | {min(own) / min(other):.2f} / "
                    f"{statistics.median(own) / statistics.median(other):.2f} | {peak_mib(pair.ours):.0f} / "
                    f"{peak_mib(pair.theirs):.0f} | {sum(places[name].values())} |",
                    flush=True,
                )
            del pairs, pair
            torch.cuda.empty_cache()
    for name, lines in places.items():
        print(f"\n{name}: " + (", ".join(f"{line} ({count})" for line, count in lines.items()) or "no wait"))


if __name__ == "__main__":
    main()
