"""What a tight canvas costs in AP and saves in time: one detector, images of several shapes, both canvas policies.

    python benchmarks/canvas_cost.py runs/detection/demo/checkpoints/last.ckpt

Generates street scenes of three shapes, finds objects in them on the full canvas, as trained and scored, and on a
tight one, and scores both with COCO's measure. Times are of a whole pass over the set, both policies in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import detection
from detection.data.coco import CocoAnnotations
from detection.network.postprocess import Postprocess
from detection.prediction.predictor import DetectionPredictor
from detection.scores.metric import BoxScores, evaluate_boxes
from engine.prediction.canvas import POLICIES, CanvasPolicy
from engine.scenes.generate import write_scenes

SHAPES_HW = ((160, 640), (256, 512), (320, 320), (512, 256))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a detector's; it must know the classes of the scenes")
    parser.add_argument("--scenes", type=int, default=64, help="scenes of each shape")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    predictor = detection.load(given.checkpoint)
    names = [name for name in predictor.classes.names if name]
    print(f"{given.checkpoint.name}, canvas {predictor.canvas}; {given.scenes} scenes of each shape")
    print("  height x width   AP full   AP tight   difference   time tight / full (minimum, median)")
    for height, width in SHAPES_HW:
        with tempfile.TemporaryDirectory() as folder:
            write_scenes(folder, {"val": given.scenes}, (height, width), seed=7, classes=tuple(names))
            images = Path(folder, "leftImg8bit/val")
            source = CocoAnnotations.read(Path(folder, "annotations/instances_val.json"), images)
            scores: dict[CanvasPolicy, BoxScores] = {}
            seconds: dict[CanvasPolicy, list[float]] = {policy: [] for policy in POLICIES}
            for _ in range(given.rounds):
                for policy in POLICIES:
                    begin = time.perf_counter()
                    scores[policy] = scored(predictor, source, policy)
                    seconds[policy].append(time.perf_counter() - begin)
        full, tight = scores["full"].ap, scores["tight"].ap
        ratios = [reduce(seconds["tight"]) / reduce(seconds["full"]) for reduce in (min, statistics.median)]
        times = f"{ratios[0]:.2f}, {ratios[1]:.2f}"
        print(f"  {height:6} x {width:<6} {full:9.3f} {tight:10.3f} {tight - full:+12.3f}   {times}", flush=True)


def scored(predictor: DetectionPredictor, source: CocoAnnotations, policy: CanvasPolicy) -> BoxScores:
    """COCO's numbers with the settings of a validation."""
    paths = [source.image_path(index) for index in range(len(source))]
    settings = Postprocess()
    threshold = settings.score_threshold
    answers = predictor.predict_many(paths, canvas=policy, postprocess=settings, score_threshold=threshold)
    rows = []
    for image_id, found in zip(source.image_ids.tolist(), answers, strict=True):
        boxes_xywh = found.boxes_xyxy.copy()
        boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
        ids = np.full(len(found), image_id)
        rows.append(np.column_stack([ids, boxes_xywh, found.scores, found.category_ids]))
    return evaluate_boxes(source, np.concatenate(rows))


if __name__ == "__main__":
    main()
