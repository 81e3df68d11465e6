"""Objects and classes of pixels of images, in Python: load a network, hand it a picture, read both answers.

    network = load("runs/joint/demo/checkpoints/last.ckpt")
    both = predict(network, "street.jpg")
    both.draw("street.jpg").save("street_overlay.jpg")

Both answers come from one pass over the image, letter-boxed on the detector's canvas, and are in the image's own
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from detection.data.batch import DetectionBatch
from detection.data.dataset import collate, letterbox_sample
from detection.network.postprocess import Postprocess
from detection.prediction.predict import DEFAULT_SCORE, Found, found_in, tight_canvas
from engine.data.images import Letterbox, UInt8Array
from engine.data.pixels import Source, pixels_of
from engine.errors import InputError
from engine.training.checkpoints import read_checkpoint
from joint.data.batch import JointBatch, JointEvaluationBatch
from joint.network.model import JointNetwork
from joint.network.norms import network_from
from segmentation.inference.segmented import Segmented

_PREFIX = "network."
_MOST_VALUES = 2**26  # of logits at the original size that are in memory at a time: a quarter of a gigabyte


@dataclass(frozen=True, eq=False)
class JointFound:
    """Both answers for one image; None for one that was not asked.

    Attributes:
        found: its objects.
        segmented: the classes of its pixels.
    """

    found: Found | None
    segmented: Segmented | None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the original image in pixels."""
        answer = self.segmented if self.found is None else self.found
        assert answer is not None
        return answer.size_hw

    def draw(self, image: Source, opacity: float = 0.5, legend: bool = True) -> Image.Image:
        """The image tinted with the classes' colours, with the boxes drawn on it.

        Args:
            image: the image that was looked at: a path or an (H, W, 3) uint8 RGB array.
            opacity: of the colours, 0 to 1.
            legend: whether to name, below the image, the classes that are there.

        Raises:
            InputError: the image cannot be read or is of another size.
        """
        tinted = image if self.segmented is None else np.asarray(self.segmented.draw(image, opacity, legend))
        return Image.fromarray(pixels_of(tinted)) if self.found is None else self.found.draw(tinted)


def load(source: str | Path, device: str | torch.device = "cpu", *, fold: bool = True) -> JointNetwork:
    """A network ready to predict.

    Args:
        source: a checkpoint written by `python -m joint fit`.
        device: where it computes.
        fold: fold its batch norms, which is faster; not if it is to be trained further.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    checkpoint = read_checkpoint(source, "joint")
    network = network_from(checkpoint.model)
    # The training's own values, such as learned weights of the losses, are no part of the network.
    stored = checkpoint.state_dict.items()
    network.load_state_dict({key.removeprefix(_PREFIX): value for key, value in stored if key.startswith(_PREFIX)})
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    return network.fold() if fold else network


def predict(network: JointNetwork, image: Source, **settings: Any) -> JointFound:
    """Both answers for one image.

    Args:
        network: it is put into eval mode.
        image: a path or an (H, W, 3) uint8 RGB array.
        settings: those of `predict_many`.

    Raises:
        InputError: the image is missing or cannot be read, or is no (H, W, 3) uint8 array.
    """
    return predict_many(network, [image], **settings)[0]


def predict_many(
    network: JointNetwork,
    images: Sequence[Source],
    *,
    score_threshold: float = DEFAULT_SCORE,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 4,
    postprocess: Postprocess | None = None,
    detect: bool = True,
    segment: bool = True,
) -> list[JointFound]:
    """Both answers for each of several images.

    Images are letter-boxed on a canvas no larger than they need: a wide image costs what its own shape costs.

    Args:
        network: it is put into eval mode.
        images: paths or (H, W, 3) uint8 RGB arrays.
        score_threshold: surer objects are returned.
        image_size: longest sides (H, W) of the canvas in pixels; None is what the detector was made for.
        batch_size: images of one shape that are computed together.
        postprocess: the detector's other settings; its own score threshold is replaced.
        detect: whether objects are asked for; without, the pass costs what the segmenter alone costs.
        segment: whether classes of pixels are asked for; without, the pass costs what the detector alone costs.

    Raises:
        InputError: an image is missing or cannot be read, or is no (H, W, 3) uint8 array; or a setting is out of
            range.
    """
    if isinstance(images, str | Path | np.ndarray):
        msg = "predict_many takes a list of images; give [image], or call predict for one"
        raise InputError(msg)
    if batch_size < 1:
        msg = f"batch_size is {batch_size}; it must be at least 1"
        raise InputError(msg)
    config = replace(postprocess or Postprocess(), score_threshold=score_threshold)
    limit_hw = canvas_limit(network.detector.config.image_size, image_size)
    network.eval()
    found: list[JointFound] = []
    for start in range(0, len(images), batch_size):
        pixels = [pixels_of(image) for image in images[start : start + batch_size]]
        found += found_in_images(network, pixels, limit_hw, config, detect=detect, segment=segment)
    return found


def canvas_limit(own_hw: tuple[int, int], image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Longest sides (H, W) of the canvas.

    Args:
        own_hw: the detector's own.
        image_size: what is asked in its place, if anything.

    Raises:
        InputError: it is too small.
    """
    size = own_hw if image_size is None else image_size
    limit_hw = (size, size) if isinstance(size, int) else (size[0], size[1])
    if min(limit_hw) < 32:
        msg = f"image_size is {image_size}; give at least 32 pixels"
        raise InputError(msg)
    return limit_hw


def found_in_images(
    network: JointNetwork,
    images: Sequence[UInt8Array],
    limit_hw: tuple[int, int],
    postprocess: Postprocess,
    *,
    detect: bool = True,
    segment: bool = True,
) -> list[JointFound]:
    """Both answers for images in memory, those on one canvas computed together.

    Args:
        network: in eval mode.
        images: (H, W, 3) uint8 RGB.
        limit_hw: longest sides of the canvas.
        postprocess: the detector's settings.
        detect: whether objects are asked for.
        segment: whether classes of pixels are asked for.
    """
    boxes = []
    for image in images:
        size_hw = (image.shape[0], image.shape[1])
        canvas_hw = tight_canvas(size_hw, limit_hw, network.stride)
        # The image is fitted into the limit, not into the canvas, whose rounding would enlarge it.
        boxes.append(replace(Letterbox.fit(size_hw, limit_hw), canvas_hw=canvas_hw))
    device = network.detector.mean.device
    results: dict[int, JointFound] = {}
    for canvas_hw in dict.fromkeys(box.canvas_hw for box in boxes):
        members = [index for index, box in enumerate(boxes) if box.canvas_hw == canvas_hw]
        samples = [letterbox_sample(images[i], boxes[i], network.fill_color, i) for i in members]
        batch = DetectionBatch(*(tensor.to(device) for tensor in collate(samples)))
        letterboxes = [boxes[index] for index in members]
        found = found_in_batch(network, batch, postprocess, detect=detect, segment=segment, letterboxes=letterboxes)
        results |= dict(zip(members, found, strict=True))
    return [results[index] for index in range(len(images))]


@torch.no_grad()
def found_in_batch(
    network: JointNetwork,
    batch: DetectionBatch | JointBatch | JointEvaluationBatch,
    postprocess: Postprocess,
    *,
    detect: bool = True,
    segment: bool = True,
    letterboxes: Sequence[Letterbox] | None = None,
) -> list[JointFound]:
    """Both answers for a letter-boxed batch.

    Args:
        network: in eval mode.
        batch: on the network's device.
        postprocess: the detector's settings.
        detect: whether objects are asked for.
        segment: whether classes of pixels are asked for.
        letterboxes: where the images lie; None where each fills as much of the canvas as it can.
    """
    sizes_hw = [(height, width) for height, width in batch.sizes_hw.tolist()]
    canvas_hw = (batch.images.shape[-2], batch.images.shape[-1])
    boxes = letterboxes or [Letterbox.fit(size_hw, canvas_hw) for size_hw in sizes_hw]
    outputs = network(batch.images, detect=detect, segment=segment)
    found: list[Found | None] = [None] * len(boxes)
    if outputs.predictions is not None:
        plain = batch if isinstance(batch, DetectionBatch) else batch.detection()
        detections = network.detector.detections(outputs.predictions, plain, postprocess)
        classes = network.detector.classes
        found = [found_in(detections, row, classes, size_hw) for row, size_hw in enumerate(sizes_hw)]
    segmented: list[Segmented | None] = [None] * len(boxes)
    if outputs.segmentation is not None:
        rows = [original_rows(one, box) for one, box in zip(outputs.segmentation.logits, boxes, strict=True)]
        segmented = [Segmented(one.cpu().numpy(), network.segmenter.classes) for one in rows]
    return [JointFound(*both) for both in zip(found, segmented, strict=True)]


def original_rows(logits: Tensor, letterbox: Letterbox) -> Tensor:
    """The surest class of each pixel of the original image, from logits on the canvas.

    Logits are resized bilinearly, some classes at a time: those of all classes of a large photograph would not fit
    into memory.

    Args:
        logits: (K, H, W) on the canvas.
        letterbox: where the image lies on it.

    Returns:
        Rows of the class list, uint8, at the original height and width.
    """
    inside = logits[:, : letterbox.scaled_hw[0], : letterbox.scaled_hw[1]].float()
    if letterbox.scaled_hw == letterbox.image_hw:
        return inside.argmax(0).to(torch.uint8)
    height, width = letterbox.image_hw
    best = inside.new_full((height, width), -torch.inf)
    rows = torch.zeros((height, width), dtype=torch.uint8, device=logits.device)
    first = 0
    for part in torch.split(inside, max(1, _MOST_VALUES // (height * width))):
        resized = F.interpolate(part[None], (height, width), mode="bilinear", align_corners=False)[0]
        values, places = resized.max(0)
        surer = values > best  # of equals the first class wins, as in an argmax over all
        rows = torch.where(surer, (places + first).to(torch.uint8), rows)
        best = torch.where(surer, values, best)
        first += len(part)
    return rows
