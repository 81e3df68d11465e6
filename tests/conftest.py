"""What every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Two test processes share two cores; more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and annotations, for tests marked `real`."""
    folder = os.environ.get("EFFDENSE_REAL")
    if not folder or not Path(folder).is_dir():
        pytest.fail("tests marked `real` need $EFFDENSE_REAL, the folder of the real images")
    return Path(folder)
