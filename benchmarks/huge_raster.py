"""Segment a raster that does not fit into memory, or find boxes in it, and report the peak of the memory used.

    python benchmarks/huge_raster.py --threads 2
    python benchmarks/huge_raster.py --threads 2 --task detection --gigabytes 1.5

A generated GeoTIFF of 20,000 x 20,000 RGB pixels is segmented into Cityscapes' 19 classes by an untrained network, in
a process of its own, whose largest resident memory the kernel records (VmHWM). A smaller `--height` takes less time and
equally much memory, which depends only on the width. A detector, untrained too, keeps 100 boxes of each tile, so that
their merging is part of what is measured. With `--gigabytes` the script fails if the peak is above that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

WINDOW_OF_BOXES = 1024  # pixels


def write_raster(path: Path, height: int, width: int, layout: str) -> None:
    """Write coloured fields with noise, one row of blocks at a time."""
    rng = np.random.default_rng(0)
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256} if layout == "tiles" else {"blockysize": 64}
    georeference = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5300000, 0.5, 0.5)}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", interleave="pixel",
        compress="deflate", zlevel=1, bigtiff="IF_SAFER", **blocks, **georeference,
    ) as dataset:  # fmt: skip
        for top in range(0, height, 256):
            rows = min(256, height - top)
            fields = rng.integers(0, 240, (3, 4, -(-width // 64)), dtype=np.uint8).repeat(64, 1).repeat(64, 2)
            noise = rng.integers(0, 16, (rows, width), dtype=np.uint8)
            dataset.write(fields[:, :rows, :width] + noise, window=Window(0, top, width, rows))


def segment(given: argparse.Namespace, source: Path, output: Path) -> None:
    """Segment the raster; this runs in the child process."""
    import torch

    from segmentation.inference.inference import Inference
    from segmentation.inference.predictor import SegmentationPredictor
    from segmentation.large.rasters import segment_raster
    from segmentation.network.model import Segmenter

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = Segmenter(given.member).eval().to(memory_format=torch.channels_last)
    print(f"resident with the network, before the raster: {_resident('VmRSS'):.2f} GB")
    start = time.perf_counter()
    config = Inference(window=given.window, overlap=given.overlap)
    predictor = SegmentationPredictor(network, config)
    result = segment_raster(predictor, source, output, probabilities=given.probabilities)
    seconds = time.perf_counter() - start
    pixels = result.size_hw[0] * result.size_hw[1]
    print(f"{pixels / 1e6:.0f} megapixels in {seconds:.0f} s, {pixels / 1e6 / seconds:.2f} a second")
    print(f"written: {output.stat().st_size / 1e6:.0f} MB; classes found: {sum(n > 0 for n in result.areas.values())}")
    _check_peak(given)


def find(given: argparse.Namespace, source: Path) -> None:
    """Find boxes in the raster; this runs in the child process."""
    import torch

    from detection.network.model import EfficientDet
    from detection.network.postprocess import Postprocess
    from detection.prediction.predictor import DetectionPredictor
    from detection.tiles.inference import Inference
    from engine.large.opening import open_raster

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = EfficientDet(given.member, 2).eval().fold()
    print(f"resident with the network, before the raster: {_resident('VmRSS'):.2f} GB")
    inference = Inference(window=given.window or WINDOW_OF_BOXES, overlap=given.overlap)
    predictor = DetectionPredictor(network, Postprocess(score_threshold=0.0), inference=inference)
    start = time.perf_counter()
    pixels = open_raster(source)
    found = predictor.find(pixels)
    seconds = time.perf_counter() - start
    height, width = pixels.size_hw
    tiles = len(predictor.tiling(pixels.size_hw))
    print(f"{height * width / 1e6:.0f} megapixels, {tiles:,} tiles in {seconds:.0f} s; {len(found):,} boxes kept")
    _check_peak(given)


def _check_peak(given: argparse.Namespace) -> None:
    peak = _resident("VmHWM")
    print(f"largest resident memory: {peak:.2f} GB")
    if given.gigabytes and peak > given.gigabytes:
        sys.exit(f"that is above {given.gigabytes} GB")


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e9


def main() -> None:
    """Write the raster, then segment it in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("segmentation", "detection"), default="segmentation")
    parser.add_argument("--height", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=20_000)
    parser.add_argument("--layout", choices=("tiles", "strips"), default="tiles")
    parser.add_argument("--member", default="lite0")
    parser.add_argument("--window", type=int)
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gigabytes", type=float)
    parser.add_argument("--source", type=Path, help="a raster to segment in place of a generated one")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child and given.task == "detection":
        find(given, given.source)
        return
    if given.child:
        segment(given, given.source, given.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = given.source or Path(folder, "source.tif")
        if not given.source:
            write_raster(source, given.height, given.width, given.layout)
            print(f"{given.width} x {given.height} pixels in {given.layout}, {source.stat().st_size / 1e6:.0f} MB")
        command = [sys.executable, __file__, *sys.argv[1:], "--source", str(source), "--child", f"{folder}/labels.tif"]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
