"""A detector that finds the coloured boxes of `tests.engine.video.moving`, with the share that is seen as score."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import torch
from torch import nn

from detection.data.batch import Detections
from detection.data.classes import BoxClasses
from detection.prediction.predictor import DetectionPredictor
from engine.reading.options import Reading
from tests.engine.video.moving import COLORS, PILLAR

CLASSES = BoxClasses(("car", "", "person"), (7, 8, 30))


class Seeing(nn.Module):
    """What a predictor asks of a network. Every box is a car; a hidden one has no score to speak of.

    Args:
        size_hw: of its canvas, which is that of the pictures.
        widths: of whole boxes, in pixels, by colour; by default each box that is seen is whole.
    """

    takes_pictures = False

    fill_color = (128, 128, 128)
    reading = Reading()
    classes = CLASSES
    stride = 1
    suppresses = True

    def __init__(self, size_hw=(240, 320), widths=None):
        super().__init__()
        self.config = SimpleNamespace(image_size=size_hw, head="efficientdet")
        self.widths = widths or {}
        self.nothing = nn.Parameter(torch.zeros(1))
        self.calls = 0

    def detect(self, batch, postprocess):
        self.calls += 1
        found = [self._find(np.ascontiguousarray(image.permute(1, 2, 0))) for image in batch.images]
        most = max([len(boxes) for boxes, _ in found], default=0)
        boxes, scores = torch.zeros(len(found), most, 4), torch.zeros(len(found), most)
        rows = torch.full((len(found), most), -1)
        for place, (mine, sure) in enumerate(found):
            order = [one for one in np.argsort(sure)[::-1] if sure[one] > postprocess.score_threshold]
            for rank, one in enumerate(order):
                boxes[place, rank] = torch.tensor(mine[one]) / batch.scales[place]
                scores[place, rank], rows[place, rank] = sure[one], 0
        return Detections(boxes, scores, rows)

    def _find(self, image):
        boxes, scores = [], []
        for number, color in enumerate(COLORS):
            near = cv2.inRange(image, np.array(color) - 45, np.array(color) + 45)
            count, _, stats, _ = cv2.connectedComponentsWithStats(near)
            if count < 2:
                continue
            left, top, width, height, area = stats[1 + stats[1:, 4].argmax()].tolist()
            share = width / self.widths.get(number, width)
            if area < 60 or share < 0.2:
                continue
            hidden = 0 if share > 0.95 else self.widths[number] - width  # behind the pillar, right or left of it
            beside = image[top + height // 2, min(left + width + 4, image.shape[1] - 1)].astype(int)
            if hidden and np.abs(beside - PILLAR).max() < 20:
                width += hidden
            elif hidden:
                left, width = left - hidden, width + hidden
            boxes.append([left, top, left + width, top + height])
            scores.append(min(0.98, share))
        return boxes, scores


def stand_in(scene, threshold=0.5):
    """A predictor for a scene."""
    whole = scene.boxes(0)
    widths = dict(enumerate((whole[:, 2] - whole[:, 0]).tolist()))
    predictor = DetectionPredictor(Seeing(scene.size_hw, widths))
    return predictor.with_settings(score_threshold=threshold)
