"""Files of others become pixels in one place each: the openings of Pillow, GDAL and OpenCV are allow-lists."""

from __future__ import annotations

import ast

from tests.house.source import MODULES, name_of, tree

ONLY = {"Image.open": "engine/data/images.py", "rasterio.open": "segmentation/large/raster_io.py",
        "cv2.VideoCapture": "segmentation/large/video_frames.py"}  # fmt: skip


def test_files_are_opened_in_one_place():
    found = {
        (ast.unparse(node.func), name_of(path))
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ONLY
    }
    assert found == set(ONLY.items())


def test_pillows_formats_are_named():
    calls = [
        node
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert all("formats" in [keyword.arg for keyword in call.keywords] for call in calls)
