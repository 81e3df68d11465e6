"""The precision of a training: what `auto` takes, and what is said of a user's own choice."""

from __future__ import annotations

import pytest
import torch

from engine.errors import InputError
from engine.hardware import precision as room
from engine.hardware.devices import check_devices
from engine.hardware.precision import auto_precision, chosen_precision, device_of, processor_flags, slow_precision

AVX2, BF16 = frozenset(["avx2"]), frozenset(["avx2", "avx512_bf16", "amx_bf16"])


@pytest.mark.parametrize(
    ("device", "flags", "cuda_bf16", "precision", "why"),
    [
        ("cpu", AVX2, False, "32-true", "emulated"),
        ("cpu", BF16, False, "32-true", "no faster"),
        ("cuda", AVX2, True, "bf16-mixed", "computes in bfloat16"),
        ("cuda", BF16, False, "32-true", "does not"),
        ("mps", AVX2, False, "32-true", "mps"),
    ],
)
def test_what_auto_takes(device, flags, cuda_bf16, precision, why):
    choice = auto_precision(device, flags, cuda_bf16=cuda_bf16)
    assert choice.precision == precision
    assert why in choice.why


@pytest.mark.parametrize("asked", ["bf16-mixed", "bf16-true", "bf16"])
def test_bfloat16_is_slow_where_it_is_emulated(asked):
    assert "many times slower" in str(slow_precision(asked, "cpu", AVX2))
    assert slow_precision(asked, "cpu", BF16) is None
    assert slow_precision(asked, "cuda", AVX2) is None
    assert slow_precision("32-true", "cpu", AVX2) is None


def test_a_choice_of_the_user_stays(monkeypatch):
    monkeypatch.setattr(room, "processor_flags", lambda: AVX2)
    precision, note = chosen_precision("bf16-mixed", "cpu", training=True)
    assert precision == "bf16-mixed"
    assert "emulated" in str(note)
    assert chosen_precision(None, "cpu", training=True) == (None, None)
    assert chosen_precision(64, "cpu", training=True) == ("64", None)


def test_scores_and_answers_are_float32():
    """They do not depend on the machine."""
    assert chosen_precision("auto", "cpu", training=False) == ("32-true", None)


def test_the_flags_of_linux(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu avx2 amx_bf16\nbugs : x\nflags\t: fpu avx2\n")
    assert processor_flags(path) == {"fpu", "avx2", "amx_bf16"}
    assert processor_flags(tmp_path / "none") == frozenset()


def test_the_device_is_the_trainers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("gpu") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == "cpu"
    assert device_of("tpu") == "tpu"


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_processes_are_no_more_than_a_processor_bears(accelerator, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("engine.hardware.devices.free_cores", lambda: 2)
    for fine in (1, 8, "8", "auto", -1, [0, 1]):
        check_devices(accelerator, fine)
    with pytest.raises(InputError, match=r"trainer.devices is 99, but .* 2 cores. Give --trainer.devices 1, or 8"):
        check_devices(accelerator, 99)


def test_devices_of_a_gpu_are_lightnings_business(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_devices("gpu", 99)
