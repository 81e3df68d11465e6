"""Boxes on the ground: corners as rasterio places them, rings by the rule of GeoJSON, systems by name or in WGS 84."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from detection.prediction.found import Found
from detection.prediction.geojson import has_place, write_geojson
from engine.reading.raster_file import Georeference

rasterio = pytest.importorskip("rasterio")
from rasterio.transform import Affine, xy  # noqa: E402
from rasterio.warp import transform as reproject  # noqa: E402

BOXES = np.array([[10, 20, 30, 60], [0.5, 0.25, 7.75, 3]], np.float32)
FOUND = Found(BOXES, np.array([0.9, 0.5], np.float32), ["tree", 'a "b"'], np.array([0, 1]), np.array([3, 7]), (100, 80))
NORTH_UP = Affine(0.5, 0, 500000, 0, -0.5, 5300000)
TRANSFORMS = {
    "north up": NORTH_UP,
    "south up": Affine(0.5, 0, 500000, 0, 0.5, 5300000),
    "turned": NORTH_UP @ Affine.rotation(30),
    "sheared": NORTH_UP @ Affine.shear(10, 0),
    "oblong": Affine(2, 0, 500000, 0, -0.25, 5300000),
}
UTM = rasterio.crs.CRS.from_epsg(32632)
# A system of its own, which no list has.
OWN = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=47.3 +lon_0=9.1 +x_0=500000 +y_0=5300000 +ellps=GRS80 +units=m")


def written(folder, crs, transform):
    write_geojson(folder / "a.geojson", FOUND, Georeference(crs, transform))
    return json.loads((folder / "a.geojson").read_text())


def corners(box, transform):
    """The four corners by rasterio, whose rows and columns are those of pixels with an offset to their upper left."""
    left, top, right, bottom = box.tolist()
    return {xy(transform, row, column, offset="ul") for row in (top, bottom) for column in (left, right)}


def signed_area(ring):
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_rings(tmp_path, transform):
    content = written(tmp_path, UTM, transform)
    assert content["type"] == "FeatureCollection"
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    assert len(content["features"]) == 2
    for box, feature in zip(BOXES, content["features"], strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["geometry"]["type"] == "Polygon"
        assert len(ring) == 5
        assert ring[0] == ring[4]
        origin = np.array([500000, 5300000])
        assert signed_area((np.array(ring) - origin).tolist()) > 0  # counter-clockwise
        given = sorted(map(tuple, ring[:4]))
        np.testing.assert_allclose(given, sorted(corners(box, transform)), atol=1e-6)
    assert content["features"][1]["properties"] == {"class": 'a "b"', "category_id": 7, "score": 0.5}


def test_degrees_of_wgs84_need_no_name(tmp_path):
    degrees = Affine(1e-4, 0, 9.0, 0, -1e-4, 47.0)
    content = written(tmp_path, rasterio.crs.CRS.from_epsg(4326), degrees)
    assert "crs" not in content
    assert content["features"][0]["geometry"]["coordinates"][0][0] == pytest.approx([9.001, 46.998])


def test_a_system_without_a_number_is_written_in_wgs84(tmp_path):
    assert OWN.to_epsg() is None
    content = written(tmp_path, OWN, NORTH_UP)
    assert "crs" not in content
    longitudes, latitudes = reproject(OWN, "EPSG:4326", *zip(*corners(BOXES[0], NORTH_UP), strict=True))
    ring = content["features"][0]["geometry"]["coordinates"][0]
    np.testing.assert_allclose(sorted(map(tuple, ring[:4])), sorted(zip(longitudes, latitudes, strict=True)), atol=1e-9)


def test_no_boxes_are_a_collection_too(tmp_path):
    nothing = np.zeros(0, np.int64)
    empty = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), [], nothing, nothing, (5, 5))
    write_geojson(tmp_path / "a.geojson", empty, Georeference(UTM, NORTH_UP))
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


def test_what_has_a_place():
    assert has_place(Georeference(UTM, NORTH_UP))
    assert not has_place(Georeference(UTM, None))
    assert not has_place(Georeference(None, NORTH_UP))
