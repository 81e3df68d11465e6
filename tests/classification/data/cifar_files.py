"""Files in the binary form of CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_cifar10(folder: Path, rng: np.random.Generator, each: int = 20) -> dict[str, np.ndarray]:
    """The files of the binary version; returns labels and pixels of each."""
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(f"kind{row}" for row in range(10)) + "\n\n")
    written = {}
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (each, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
        written[name] = records
    return written
