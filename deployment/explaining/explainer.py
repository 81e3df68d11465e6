"""Pictures of what the answers of a network rest on, for image files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from classification.network.model import Classifier
from deployment.explaining.cell_maps import Method
from deployment.explaining.evidence import Evidence, explain_boxes, explain_classes
from deployment.explaining.headed import explain_headed_boxes
from deployment.explaining.labels import explain_labels
from deployment.export.fitting import detector_in, segmenter_in
from deployment.networks import Loaded
from detection.network.detector import Detector
from detection.network.heads.detector import HeadedDetector
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DEFAULT_SCORE
from engine.checked import Checked
from engine.errors import InputError
from engine.numbers import PositiveInt, ZeroToBelowOne
from engine.outputs import atomic_path
from engine.prediction.canvas import Canvas, OnCanvas, canvas_limit
from engine.prediction.pictures import draw_boxes
from engine.reading.images import UInt8Array
from engine.reading.pixels import pixels_of
from engine.reading.reader import PixelReader


@dataclass(frozen=True)
class Wanted(Checked):
    """What is explained.

    Attributes:
        classes: names; empty takes all.
        most: number of boxes, and of classes, of each image.
        score_threshold: boxes above it; None is the usual one, 0.3.
        image_size: height and width of the detector's canvas, or the side of a square; None is its own.
        method: see `cell_maps`.
    """

    classes: tuple[str, ...] = ()
    most: PositiveInt = 5
    score_threshold: ZeroToBelowOne | None = None
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    method: Method = "layercam"


@dataclass(frozen=True, eq=False)
class Explained:
    """An answer and what it rests on, ready to be written.

    Attributes:
        evidence: what it rests on.
        kind: `box`, `class` of pixels, or `label` of the image.
        label: the class's name.
        pixels: (H, W, 3) uint8 RGB of the image.
    """

    evidence: Evidence
    kind: Literal["box", "class", "label"]
    label: str
    pixels: UInt8Array

    @property
    def name(self) -> str:
        """A name for a file: kind, class and score."""
        safe = "".join(letter if letter.isalnum() else "-" for letter in self.label)
        return f"{self.kind}_{safe or self.evidence.class_id}_{self.evidence.score:.2f}"

    def line(self) -> dict[str, object]:
        """Plain values for a list."""
        evidence = self.evidence
        about = {
            "kind": self.kind,
            "class": self.label,
            {"box": "score", "class": "share_of_pixels", "label": "probability"}[self.kind]: round(evidence.score, 4),
            "box_xyxy": [round(side, 2) for side in evidence.box_xyxy],
        }
        if self.kind == "label":  # all heat lies within what the network sees
            return about
        return {
            **about,
            "heat_inside": round(evidence.share_inside, 4),
            "inside_of_image": round(evidence.share_of_image, 4),
        }

    def save(self, path: Path) -> None:
        """Write the image with the heat over it, and with the box or the edge of the class.

        Raises:
            OutputError: the file cannot be written.
        """
        from pytorch_grad_cam.utils.image import show_cam_on_image

        evidence = self.evidence
        heat = show_cam_on_image(self.pixels / 255, evidence.heat, use_rgb=True, colormap=cv2.COLORMAP_INFERNO)
        boxes = np.array([evidence.box_xyxy], np.float32)
        if self.kind == "class":
            edges, _ = cv2.findContours(evidence.inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(heat, edges, -1, (255, 255, 255), max(1, round(max(heat.shape) / 600)))
            boxes = np.zeros((1, 4), np.float32)  # only the caption, in the corner
        caption = f"{self.label} {evidence.score:.2f}"
        if self.kind != "label":
            caption += f": {evidence.share_inside:.0%} of the heat inside"
        with atomic_path(path) as temporary:
            draw_boxes(heat, boxes, [evidence.class_id], [caption]).save(temporary)


class Explainer:
    """A network with what is asked of it.

    Args:
        loaded: the network and its settings.
        wanted: what is explained.

    Raises:
        InputError: an option does not apply to the network, or a class is none of its.
    """

    def __init__(self, loaded: Loaded, wanted: Wanted) -> None:
        self.wanted = wanted
        network = loaded.network
        self.detector, self.segmenter = detector_in(network), segmenter_in(network)
        self.classifier = network if isinstance(network, Classifier) else None
        self.reader = PixelReader(network.reading, network.fill_color)
        known: list[str] = [] if self.classifier is None else [*self.classifier.classes.names]
        if self.segmenter is not None:
            known += self.segmenter.classes.names
        if self.detector is not None:
            known += [name for name in self.detector.classes.names if name]
            self.postprocess = _postprocess(loaded.model, wanted.score_threshold)
            limit_hw = canvas_limit(self.detector.config.image_size, wanted.image_size)
            self.canvas = Canvas(limit_hw, self.detector.fill_color, self.detector.stride)
        elif (option := _first_given(wanted)) is not None:
            kind = "segmenter" if self.classifier is None else "classifier"
            msg = f"--{option} is for boxes, and '{loaded.name}' is a {kind}. Leave it out."
            raise InputError(msg)
        for name in wanted.classes:
            if name not in known:
                msg = f"'{name}' is no class of '{loaded.name}'. Give --classes some of {', '.join(known)}."
                raise InputError(msg)

    def explain(self, path: Path) -> Iterator[Explained]:
        """The boxes of an image file, best first, the classes of its pixels, largest first, or its likeliest classes.

        Raises:
            InputError: the image cannot be read, or the network's answers are no numbers.
        """
        pixels = pixels_of(path, self.reader)
        most, method = self.wanted.most, self.wanted.method
        if self.detector is not None:
            names = self.detector.classes.names
            sample = self.canvas(pixels)
            for box in self._boxes(self.detector, sample, self._rows(names)):
                yield Explained(box, "box", names[box.class_id], pixels)
        if self.segmenter is not None:
            names = self.segmenter.classes.names
            image = torch.from_numpy(pixels)
            for area in explain_classes(self.segmenter, image, most=most, class_ids=self._rows(names), method=method):
                yield Explained(area, "class", names[area.class_id], pixels)

        if self.classifier is not None:
            names = self.classifier.classes.names
            ids = self._rows(names)
            for label in explain_labels(self.classifier, pixels, most=most, class_ids=ids, method=method):
                yield Explained(label, "label", names[label.class_id], pixels)

    def _boxes(self, network: Detector, sample: OnCanvas, class_ids: frozenset[int]) -> list[Evidence]:
        most, method = self.wanted.most, self.wanted.method
        if isinstance(network, HeadedDetector):
            return explain_headed_boxes(
                network, sample, self.postprocess, most=most, class_ids=class_ids, method=method
            )
        assert isinstance(network, EfficientDet)
        return explain_boxes(network, sample, self.postprocess, most=most, class_ids=class_ids, method=method)

    def _rows(self, names: Sequence[str]) -> frozenset[int]:
        wanted = self.wanted.classes
        return frozenset(row for row, name in enumerate(names) if not wanted or name in wanted)


def _postprocess(stored: Mapping[str, object], score_threshold: float | None) -> Postprocess:
    """The suppression that the network was scored with, above the score that is asked for."""
    own = stored.get("postprocess", {})
    assert isinstance(own, Mapping)
    make: Callable[..., Postprocess] = Postprocess
    return make(**{**own, "score_threshold": DEFAULT_SCORE if score_threshold is None else score_threshold})


def _first_given(wanted: Wanted) -> str | None:
    """An option for boxes that was given."""
    if wanted.score_threshold is not None:
        return "score_threshold"
    return None if wanted.image_size is None else "image_size"
