"""Files of others become pixels in one place each: the openings of Pillow, GDAL and OpenCV are allow-lists."""

from __future__ import annotations

import ast

from tests.house.source import MODULES, name_of, tree

ONLY = {
    "Image.open": "engine/reading/images.py",
    "rasterio.open": "engine/reading/raster_file.py",
    "cv2.imdecode": "engine/reading/jpeg.py",
    "cv2.VideoCapture": "engine/video/capture.py",
}


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


# Who looks into folders itself, and why these are no folders of a user's files.
WALKS = {
    "engine/reading/listing.py": "the listing",
    "engine/cli/configs.py": "the project's own configs",
    "engine/cli/runs.py": "runs",
    "engine/training/checkpoint_files.py": "runs",
    "engine/training/claims.py": "runs",
    "engine/training/keeping.py": "runs",
    "engine/training/whole_files.py": "what a killed writer left",
    "engine/data/bad_images.py": "whether files named by annotations are there",
    "segmentation/data/cityscapes/files.py": "names of splits, for a message",
    "backbones/weights/load.py": "installed packages",
    "deployment/setup/environment.py": "what a killed set-up left",
}


def test_folders_are_listed_in_one_place():
    names = {"glob", "rglob", "iterdir", "walk", "scandir", "iglob", "listdir"}
    found = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) != "ast"
    }
    assert found <= set(WALKS)
    assert "engine/reading/listing.py" in found
