"""The contracts between tasks and data hold for the real classes, and mypy would see a breach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import contracts

ROOT = Path(__file__).parents[1]
BREACH = """
from detection.data.contracts import DetectionData
from segmentation.data.module import SegmentationDataModule

def breach(masks: SegmentationDataModule) -> DetectionData:
    return masks
"""


def mypy(*arguments: str) -> str:
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_every_contract_is_named() -> None:
    functions = (contracts.tasks, contracts.data_modules, contracts.sources)
    named = {word for function in functions for word in str(function.__annotations__["return"]).split("[")[1:][0:1]}
    text = " ".join(named)
    wanted = ("DetectorTask", "SegmenterTask", "JointNetworkTask", "DetectionData", "SegmentationData", "JointData")
    assert all(name in text for name in (*wanted, "BoxSource", "MaskSource"))


@pytest.mark.slow
def test_mypy_accepts_the_contracts_and_sees_a_breach(tmp_path: Path) -> None:
    assert "Success" in mypy("-m", "tests.contracts")
    (tmp_path / "breach.py").write_text(BREACH)
    told = mypy(str(tmp_path / "breach.py"))
    assert 'got "SegmentationDataModule", expected "DetectionData"' in told
    assert '"SegmentationDataModule" is missing following "DetectionData" protocol member' in told
