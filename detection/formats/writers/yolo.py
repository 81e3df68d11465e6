"""A set as YOLO: `images/SPLIT/`, `labels/SPLIT/`, and `data.yaml`; a set without splits has `classes.txt` instead.

YOLO has no crowds, and its numbers are fractions of the image from 0 to 1: crowds are left out, and boxes are cut at
the edges of the image.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from detection.formats.writers.parts import SetToWrite, folder_in
from engine.annotations.splits import ALL
from engine.data.contracts import SPLITS
from engine.outputs import write_text


def write(given: SetToWrite, folder: Path) -> dict[str, str]:
    """Write the labels, and say in which folder the images of each split belong."""
    for split in given.splits:
        for image in given.images(split):
            height, width = image.size_hw
            sides = np.array([width, height, width, height], np.float64)
            edges = np.clip(image.corners_xyxy, 0, sides) / sides
            centres, sizes = (edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]
            lines = [
                " ".join([str(row), *(repr(value) for value in (*centre, *size))])
                for row, centre, size, crowd in zip(
                    image.rows.tolist(), centres.tolist(), sizes.tolist(), image.crowd.tolist(), strict=True
                )
                if not crowd
            ]
            stem = PurePosixPath(image.name).stem
            write_text(folder / folder_in("labels", split) / f"{stem}.txt", "".join(f"{line}\n" for line in lines))
    if ALL in given.splits:
        write_text(folder / "classes.txt", "\n".join(given.classes) + "\n")
    else:
        content: dict[str, object] = {split: f"images/{split}" for split in SPLITS if split in given.splits}
        names = dict(enumerate(given.classes))
        # Without `path`, readers start from the folder of the YAML; with `.` some start from where they run.
        text = yaml.safe_dump(content | {"names": names}, sort_keys=False, allow_unicode=True)
        write_text(folder / "data.yaml", text)
    return {split: folder_in("images", split) for split in given.splits}
