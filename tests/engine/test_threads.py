"""The variables that are set for OpenMP; those that a user has set stay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.threads import SPINS, free_cores, give_way, processor_quota, set_up_threads, usable_cores

ROOT = Path(__file__).parents[2]


def version_2(folder: Path, text: str) -> Path:
    (folder / "cpu.max").write_text(text)
    return folder


def version_1(folder: Path, quota: str, period: str) -> Path:
    (folder / "cpu").mkdir()
    (folder / "cpu/cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu/cpu.cfs_period_us").write_text(period)
    return folder


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", None), ("150000 100000\n", 2), ("50000 100000\n", 1), ("400000 100000\n", 4), ("broken", None)],
)
def test_quota_of_version_2(tmp_path: Path, text: str, cores: int | None) -> None:
    assert processor_quota(version_2(tmp_path, text)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", None), ("250000\n", 3), ("100000\n", 1)])
def test_quota_of_version_1(tmp_path: Path, quota: str, cores: int | None) -> None:
    assert processor_quota(version_1(tmp_path, quota, "100000\n")) == cores


def test_free_cores_are_those_of_the_quota_and_of_the_process(tmp_path: Path) -> None:
    assert free_cores(tmp_path) == usable_cores()
    assert free_cores(version_2(tmp_path, "50000 100000")) == 1
    assert free_cores(version_2(tmp_path, f"{100000 * (usable_cores() + 5)} 100000")) == usable_cores()


def test_no_control_group(tmp_path: Path) -> None:
    assert processor_quota(tmp_path) is None


@pytest.mark.parametrize("own", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_a_user_has_set_stays(tmp_path: Path, own: str) -> None:
    environment = {own: "mine", "OMP_NUM_THREADS": "7"}
    before = dict(environment)
    set_up_threads(environment, version_2(tmp_path, "100 100000"))
    assert environment == before


def test_what_is_set(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    set_up_threads(environment, version_2(tmp_path, "max 100000"))
    assert environment == {"GOMP_SPINCOUNT": str(SPINS)}
    set_up_threads(environment, version_2(tmp_path, f"{100000 * usable_cores()} 100000"))
    assert "OMP_NUM_THREADS" not in environment  # no limit is needed if all cores may be used


def test_a_quota_below_the_cores_limits_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.threads.usable_cores", lambda: 8)
    environment: dict[str, str] = {}
    set_up_threads(environment, version_2(tmp_path, "150000 100000"))
    assert environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.slow
def test_commands_set_it_before_torch_is_imported() -> None:
    code = (
        "import sys, engine.threads\n"
        "seen = []\n"
        "engine.threads.set_up_threads = lambda: seen.append('torch' in sys.modules)\n"
        "from engine.cli.main import main\n"
        "assert main(['detection', 'validate']) == 2\n"
        "assert seen and not seen[0] and 'torch' in sys.modules, seen\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="threads have nice values of their own on Linux alone")
def test_only_the_thread_that_gives_way_is_slowed():
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []

    def given_way() -> None:
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = threading.Thread(target=given_way)
    thread.start()
    thread.join()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    assert seen == [max(before, 10)]
