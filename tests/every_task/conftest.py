"""Small sets for each task, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = {"detection": "small.yaml", "segmentation": "streets.yaml", "joint": "both.yaml"}


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> Path:
    """A folder with one folder for each task, in which `small.yaml` trains it; canvases are not of the images' size."""
    import yaml

    from engine.scenes.generate import write_scenes
    from tests.detection import small as detection
    from tests.joint import small as joint
    from tests.segmentation import small as segmentation

    root: Path = tmp_path_factory.mktemp("sets")
    counts, size_hw = {"train": 6, "val": 4}, (90, 150)
    for task in NAMES:
        (root / task).mkdir()
    write_scenes(root / "detection/scenes", counts, size_hw, seed=1, workers=1)
    for number, path in enumerate(sorted((root / "detection/scenes/gtFine/val").rglob("*Ids.png"))):
        mask = np.array(Image.open(path))
        mask[:, : 7 * (number // 2)] = 0  # unlabeled, which is not counted
        Image.fromarray(mask).save(path)
    for task in ("segmentation", "joint"):
        shutil.copytree(root / "detection/scenes", root / task / "scenes")
    joint.write_configs(root / "joint", root / "joint/scenes", root / "none")
    streets = {**segmentation.STREETS, "data": {**segmentation.STREETS["data"], "crop_size": [64, 96]}}
    for task, config in (("detection", detection.CONFIG), ("segmentation", streets)):
        (root / task / NAMES[task]).write_text(yaml.safe_dump(config))
    for task, name in NAMES.items():
        (root / task / name).rename(root / task / "small.yaml")
    return root


@pytest.fixture(params=list(NAMES))
def task(request, sets, tmp_path, monkeypatch) -> str:
    """The name of a task, for each; the working folder has its set and `small.yaml`."""
    for path in (sets / request.param).iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return request.param
