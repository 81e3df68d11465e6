"""Segmentation of rasters and slides too large for memory: read, computed, blended and written piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.errors import InputError
from engine.large.opening import open_raster
from engine.large.reading import bounded_cache
from engine.outputs import atomic_path
from engine.reading.options import Reading
from engine.reading.raster_file import PixelSource, preview_size
from segmentation.data.classes import IGNORED, MaskClasses
from segmentation.inference.pictures import overlay as draw_overlay
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.large.raster_blend import blended_rows
from segmentation.large.raster_writer import RasterWriter, read_small

DEFAULT_WINDOW = 512  # a raster is never computed whole
LONGEST_OVERVIEW = 2048


@dataclass(frozen=True)
class RasterResult:
    """What was found in a raster.

    Attributes:
        areas: pixels of each class by name, 0 where it is absent.
        nodata_pixels: pixels without data.
        size_hw: height and width in pixels.
        pixel_area_m2: square metres of a pixel; None if the raster does not state it.
        labels: the written GeoTIFF of label ids.
        overview: the written picture, if one was asked for.
        probabilities: the written GeoTIFF of probabilities, if it was asked for.
    """

    areas: dict[str, int]
    nodata_pixels: int
    size_hw: tuple[int, int]
    pixel_area_m2: float | None
    labels: Path
    overview: Path | None = None
    probabilities: Path | None = None


def segment_raster(
    predictor: SegmentationPredictor,
    source: str | Path,
    output: str | Path,
    *,
    bands: tuple[int, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    nodata: float | None = None,
    mpp: float | None = None,
    overview: bool = True,
    probabilities: bool = False,
    workers: int = 2,
    progress: bool = True,
) -> RasterResult:
    """Segment a raster or slide of any size in little memory.

    The result is a tiled, compressed 8-bit GeoTIFF of label ids with the source's georeference, a colour map, and
    smaller copies for viewers. Pixels without data get 255, or the largest value that is not a label id. With NAME as
    its stem, the files beside it are NAME_overview.jpg, a picture of at most 2048 px with a legend, and
    NAME_probabilities.tif with a band for each class, where 255 means 1 and pixels without data are 0 in all bands.

    Args:
        predictor: as for images, but a window of None means 512 px, scales apply to each tile, and a CPU computes
            one tile at a time; its network is in eval mode.
        source: a raster that GDAL reads or, by its suffix or if `mpp` is given, a slide that OpenSlide reads.
        output: the file to write, ending in .tif.
        bands: see `Reading`; None, as in `value_range` and `nodata`, reads a raster as those that the network was
            trained on. Not for slides.
        value_range: see `Reading`.
        nodata: see `Reading`.
        mpp: see `SlideFile`.
        overview: whether to write the picture.
        probabilities: whether to write the probabilities; this holds 256 or more rows of all classes in memory.
        workers: threads that read ahead of the network.
        progress: whether to show a progress bar.

    Raises:
        InputError: the source cannot be read as asked, the output cannot be written or is the source, a setting is
            out of range, or an extra is missing.
    """
    label_path = Path(output)
    overview_path = label_path.with_name(f"{label_path.stem}_overview.jpg")
    probability_path = label_path.with_name(f"{label_path.stem}_probabilities.tif")
    _check_output(label_path, (label_path, overview_path, probability_path), Path(source))
    reading = Reading(bands, value_range, nodata)
    if workers < 1:
        msg = f"workers is {workers}; it must be at least 1."
        raise InputError(msg)
    config = predictor.inference
    if config.window is None:
        config = replace(config, window=DEFAULT_WINDOW)
        predictor = predictor.with_inference(config)
    classes = predictor.classes
    empty = empty_value(classes)
    counts = np.zeros(256, dtype=np.int64)
    with ExitStack() as stack:
        pixels = stack.enter_context(closing(open_raster(source, reading, mpp=mpp, usual=predictor.reading)))
        tiling = config.tiling(pixels.size_hw, predictor.stride)
        assert tiling is not None
        stack.enter_context(bounded_cache(pixels, tiling.window, workers))
        labels = RasterWriter(
            label_path, pixels.size_hw, pixels.georeference, nodata=empty,
            colors=dict(zip(classes.label_ids, classes.colors, strict=True)), tags=_names(classes),
        )  # fmt: skip
        shares = RasterWriter(
            probability_path, pixels.size_hw, pixels.georeference, bands=len(classes), tags=_names(classes, rows=True),
            scale=1 / 255, pyramid=False,
        )  # fmt: skip
        with labels, shares if probabilities else nullcontext():
            table = classes.label_by_class.copy()
            table[IGNORED] = empty
            bar = stack.enter_context(
                tqdm(total=len(tiling), desc=Path(source).name, unit="tile", disable=not progress)
            )
            strips = blended_rows(predictor, pixels, tiling, keep=probabilities, workers=workers, on_tiles=bar.update)
            with closing(strips):
                for strip in strips:
                    counts += np.bincount(strip.class_ids.ravel(), minlength=256)
                    labels.append(table[strip.class_ids])
                    if strip.probabilities is not None:
                        shares.append(strip.probabilities)
                    del strip  # rows of all classes are large
        if overview:
            _write_overview(overview_path, pixels, label_path, classes)
    return RasterResult(
        dict(zip(classes.names, counts[: len(classes)].tolist(), strict=True)), int(counts[IGNORED]), pixels.size_hw,
        pixels.georeference.pixel_area_m2, label_path, overview_path if overview else None,
        probability_path if probabilities else None,
    )  # fmt: skip


def empty_value(classes: MaskClasses) -> int:
    """The value of pixels without data: 255, or the largest that is not a label id."""
    return max(set(range(256)) - set(classes.label_ids))


def _names(classes: MaskClasses, *, rows: bool = False) -> dict[str, str]:
    """Tags `class_7=road`: the value in the label map, or the band's number."""
    numbers = range(1, len(classes) + 1) if rows else classes.label_ids
    return {f"class_{number}": name for number, name in zip(numbers, classes.names, strict=True)}


def _check_output(output: Path, written: Sequence[Path], source: Path) -> None:
    if output.suffix.lower() not in (".tif", ".tiff"):
        msg = f"a segmented raster is written as GeoTIFF; '{output}' does not end in .tif. Rename it."
        raise InputError(msg)
    if source.resolve() in [path.resolve() for path in written]:
        msg = f"'{source}' would be overwritten by its own result. Give another output."
        raise InputError(msg)


def _write_overview(path: Path, pixels: PixelSource, labels: Path, classes: MaskClasses) -> None:
    size_hw = preview_size(pixels.size_hw, LONGEST_OVERVIEW)
    class_ids = classes.class_by_label[read_small(labels, size_hw)]
    picture = draw_overlay(pixels.picture(size_hw), class_ids, classes)
    with atomic_path(path) as temporary:
        picture.save(temporary, quality=90)
