"""The command line in processes of its own, which know the hub by `HF_ENDPOINT` alone, as users set it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.every_task.sharing.hub_server import TOKEN, serving
from tests.every_task.sharing.test_hub import DATA, PICTURE

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_network_goes_to_the_hub_and_comes_back(tmp_path):
    with serving() as hub:
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
        options = "--score_threshold 0.05 --pictures false --trainer.accelerator cpu"
        for line in (
            f"share --ckpt_path {DATA}/detection.ckpt --to hf://me/cars --licence mit",
            f"predict --ckpt_path {DATA}/detection.ckpt --source {PICTURE} --output own {options}",
            f"predict --ckpt_path hf://me/cars --source {PICTURE} --output pulled {options}",
        ):
            command = [sys.executable, "-m", "detection", *line.split()]
            said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert said.returncode == 0, said.stderr
        tables = [tmp_path / name / "detections.json" for name in ("own", "pulled")]
        found = [json.loads(table.read_text())["annotations"] for table in tables]
        assert found[0] == found[1] != []
        # Prediction by the hub's network fetched its weights once, and asked for nothing else.
        got = [one for one in hub.requests if one.startswith("GET") and ("/cdn/" in one or "/resolve/" in one)]
        assert len(got) == 2
