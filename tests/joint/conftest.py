"""Small sets for all joint tests, one with boxes and masks, and one with boxes alone; and a training on the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SIZE_HW = (64, 128)
COUNTS = {"train": 6, "val": 3}
PHOTO_COUNTS = {"train": 9, "val": 4}
PHOTO_HW = (72, 96)


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cityscapes with instances, `COUNTS` scenes of `SIZE_HW`, and `annotations/instances_{train,val}.json`."""
    from engine.scenes.generate import write_scenes

    root: Path = tmp_path_factory.mktemp("joint") / "streets"
    write_scenes(root, COUNTS, SIZE_HW, seed=1, workers=1)
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO set without masks: `{train,val}/`, `PHOTO_COUNTS` other scenes of `PHOTO_HW`, and `{train,val}.json`."""
    from engine.scenes.generate import write_scenes

    root: Path = tmp_path_factory.mktemp("joint") / "photos"
    drawn = root.with_name("drawn")
    write_scenes(drawn, PHOTO_COUNTS, PHOTO_HW, seed=2, workers=1)
    for split in PHOTO_COUNTS:
        shutil.copytree(drawn / "leftImg8bit" / split, root / split)
        shutil.copy(drawn / "annotations" / f"instances_{split}.json", root / f"{split}.json")
    return root


@pytest.fixture(scope="session")
def trained(streets: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `both.yaml`, `two.yaml` and `learnt`, a run of four epochs on the scenes."""
    from tests.joint.small import command, write_configs

    folder: Path = tmp_path_factory.mktemp("trained")
    write_configs(folder, streets, photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = command("fit --config both.yaml --run.name learnt --trainer.max_epochs 4 --data.batch_size 2")
    assert said.code == 0, said.err
    return folder
