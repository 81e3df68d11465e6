"""What MediaPipe's Object Detector finds: run by a Python that has mediapipe, and nothing of this project.

Arguments: the .tflite file and a .npy file of canvases (N, H, W, 3) uint8. Each canvas is enlarged 16 times without
new colours, because MediaPipe rounds boxes to whole pixels. Written to the standard output as JSON: for each canvas a
list of [x0, y0, x1, y1, score, name], in pixels of the canvas.
"""

from __future__ import annotations

import json
import sys

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

TIMES = 16


def main(path: str, images: str) -> None:
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=path))
    found = []
    with vision.ObjectDetector.create_from_options(options) as detector:
        for canvas in np.load(images):
            large = np.ascontiguousarray(canvas.repeat(TIMES, 0).repeat(TIMES, 1))
            result = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=large))
            found.append([])
            for each in result.detections:
                box, best = each.bounding_box, each.categories[0]
                corners = box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height
                found[-1].append([*(side / TIMES for side in corners), best.score, best.category_name])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
