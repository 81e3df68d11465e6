"""Tests that need a CUDA device; run with `-m gpu`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def plain_arithmetic() -> Iterator[None]:
    """Float32 as it is, without TensorFloat-32, so that answers can be compared with a processor's."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    former = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = former
