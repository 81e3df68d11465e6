"""Boxes of a raster as polygons in its own coordinates: GeoJSON.

RFC 7946 knows longitude and latitude of WGS 84 only. A raster in another system of the EPSG list gets its boxes in that
system, named in the member `crs` of GeoJSON 2008, which QGIS and GDAL read; one in a system without a number gets them
in WGS 84. Rings are closed and run counter-clockwise (RFC 7946, 3.1.6).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detection.prediction.found import Found
from engine.outputs import atomic_path
from engine.reading.gdal import Crs, Transform, import_rasterio
from engine.reading.raster_file import Georeference

WGS84 = 4326
_CORNERS = ((0, 1), (0, 3), (2, 3), (2, 1), (0, 1))  # columns of a box: left top, left bottom, right bottom, right top


def has_place(georeference: Georeference) -> bool:
    """Whether boxes can be placed on the ground: the raster states its system, and a transform into it."""
    return georeference.crs is not None and georeference.transform is not None


def write_geojson(path: Path, found: Found, georeference: Georeference) -> None:
    """Write the boxes of a raster that `has_place`.

    Args:
        path: of the file.
        found: the boxes, in pixels of the raster, whose edges are whole numbers.
        georeference: where the raster lies.

    Raises:
        OutputError: the file cannot be written.
    """
    crs, transform = georeference.crs, georeference.transform
    assert crs is not None
    assert transform is not None
    rings, number = on_the_ground(found.boxes_xyxy, crs, transform)
    head: dict[str, object] = {"type": "FeatureCollection"}
    if number != WGS84:
        head["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{number}"}}
    rows = zip(rings.tolist(), found.labels, found.category_ids.tolist(), found.scores.tolist(), strict=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [')
        separator = "\n"
        for ring, label, category_id, score in rows:
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"class": label, "category_id": category_id, "score": score},
            }
            file.write(separator + json.dumps(feature, allow_nan=False))
            separator = ",\n"
        file.write("]}\n")


def on_the_ground(
    boxes_xyxy: npt.NDArray[np.float32], crs: Crs, transform: Transform
) -> tuple[npt.NDArray[np.float64], int]:
    """Boxes as closed rings.

    Args:
        boxes_xyxy: (N, 4) pixels of the raster.
        crs: its system.
        transform: from pixels to the system; it may turn and shear.

    Returns:
        (N, 5, 2) x and y, counter-clockwise; and the EPSG number of their system.
    """
    columns = [column for column, _ in _CORNERS]
    lines = [line for _, line in _CORNERS]
    if transform.determinant > 0:  # rows run upwards, so that the ring would run clockwise
        columns, lines = columns[::-1], lines[::-1]
    boxes = boxes_xyxy.astype(np.float64)
    across, down = boxes[:, columns], boxes[:, lines]
    x = transform.a * across + transform.b * down + transform.c
    y = transform.d * across + transform.e * down + transform.f
    number = crs.to_epsg()
    if number is None:
        number = WGS84
        flat = import_rasterio().warp.transform(crs, f"EPSG:{WGS84}", x.ravel().tolist(), y.ravel().tolist())
        x, y = (np.reshape(values, x.shape) for values in flat[:2])
    return np.stack([x, y], -1), number
