"""Int8 of .pt2 files: with each value rounded or compiled, and nothing else in place of what is asked for."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deployment.export.formats.torch_file import write_torch
from deployment.export.options import Options
from deployment.export.write import export
from deployment.networks import load_any
from deployment.precision.formats.torch_int8 import TorchInt8
from deployment.precision.layers import in_float
from deployment.running import inductor, torch_file
from deployment.running.inductor import COMPILE_NAME, compiled, register_int8
from engine.errors import InputError
from engine.exports.files import About, open_exported
from tests.deployment.executorch.test_int8 import Shown

register_int8()
INT8 = torch.ops.quantized_decomposed
IMAGES = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).mul(7).remainder(256).to(torch.uint8)


class Rounded(nn.Module):
    """Two convolutions of int8 as PT2E writes them: weights of int8, inputs rounded to numbers of seven bits.

    No value lies beyond its range.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name, shape in (("first", (16, 3, 3, 3)), ("last", (8, 16, 3, 3))):
            self.register_buffer(name, torch.randint(-127, 128, shape, dtype=torch.int8))
            self.register_buffer(f"{name}_scales", torch.rand(shape[0]) * 0.002 + 0.001)
            self.register_buffer(f"{name}_zeros", torch.zeros(shape[0], dtype=torch.int64))

    def forward(self, images):
        x = self.convolved(images.float() / 255, "first", 1 / 127)
        return (self.convolved(x.relu(), "last", 0.05),)

    def convolved(self, x, name, scale):
        """A convolution of what is rounded to multiples of `scale`."""
        rounded = INT8.quantize_per_tensor(x, scale, 0, 0, 127, torch.uint8)
        values = INT8.dequantize_per_tensor(rounded, scale, 0, 0, 127, torch.uint8)
        scales, zeros = getattr(self, f"{name}_scales"), getattr(self, f"{name}_zeros")
        weight = INT8.dequantize_per_channel(getattr(self, name), scales, zeros, 0, -128, 127, torch.int8)
        return nn.functional.conv2d(values, weight, padding=1)


def expected(network, images):
    """What it gives, by NumPy's numbers of eight bits and PyTorch's convolution of whole numbers in float64."""
    x = images.numpy() / np.float32(255)
    for name, scale in (("first", 1 / 127), ("last", 0.05)):
        rounded = np.clip(np.rint(x / np.float32(scale)), 0, 127).astype(np.float64)
        sums = nn.functional.conv2d(torch.from_numpy(rounded), getattr(network, name).double(), padding=1).numpy()
        x = sums * scale * getattr(network, f"{name}_scales").double().numpy()[:, None, None]
        x = np.maximum(x, 0) if name == "first" else x
    return x


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file in int8, and the network in it."""
    network = Rounded().eval()
    with torch.no_grad():
        program = torch.export.export(network, (), {"images": IMAGES})
    about = About("segmentation", {}, batch=2, image_hw=(8, 8), precision="int8")
    return write_torch(program, tmp_path_factory.mktemp("torch") / "int8.pt2", about), network


def test_uncompiled_each_value_is_rounded(file):
    path, network = file
    opened = open_exported(path, "segmentation")
    assert opened.about.precision == "int8"
    found = opened.run(IMAGES, torch.zeros(0))["logits"]
    assert np.abs(found.numpy() - expected(network, IMAGES)).max() < 1e-4


def test_an_open_file_is_compiled_once_that_is_asked_for(file, monkeypatch):
    opened, given = open_exported(file[0]), []

    def fake(module, images, path):
        given.append((images.shape, path))
        return lambda images: (images * 0,)

    monkeypatch.setattr(torch_file, "compiled", fake)
    assert opened.run(IMAGES, torch.zeros(0))["logits"].any()
    monkeypatch.setenv(COMPILE_NAME, "1")
    for _ in range(2):
        assert not opened.run(IMAGES, torch.zeros(0))["logits"].any()
    assert given == [((2, 3, 8, 8), file[0])]


@pytest.mark.parametrize("given", ["yes", "", "2"])
def test_what_is_neither_on_nor_off_is_refused(file, monkeypatch, given):
    monkeypatch.setenv(COMPILE_NAME, given)
    with pytest.raises(InputError, match=rf"^{COMPILE_NAME} is '{given}'; allowed: 0, 1\.$"):
        open_exported(file[0])


def test_without_a_compiler_it_says_so(file, monkeypatch):
    monkeypatch.setenv(COMPILE_NAME, "1")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"int8\.pt2' is compiled where it is opened, .* needs a C\+\+ compiler"):
        open_exported(file[0])


def test_without_torchao_it_says_so(file, monkeypatch):
    monkeypatch.setenv(COMPILE_NAME, "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package torchao, .* pip install 'effdense\[inductor\]'"):
        open_exported(file[0])


def test_what_the_compiler_says_is_one_line(file, monkeypatch):
    def broken(module, images, path):
        raise ImportError("cauak.main.so: file too short\nTraceback")

    monkeypatch.setattr(torch_file, "compiled", broken)
    monkeypatch.setenv(COMPILE_NAME, "1")
    with pytest.raises(InputError, match=r"could not compile .*: cauak\.main\.so: file too short\. Delete its cache"):
        open_exported(file[0])


def test_a_program_without_convolutions_of_int8_is_no_compiled_one(file, monkeypatch):
    monkeypatch.setattr(inductor, "teach", lambda: None)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)  # as where Inductor has no such kernels
    with pytest.raises(InputError, match=r"Inductor makes no convolution of int8 of .*int8\.pt2' on this processor"):
        compiled(file[1], IMAGES, file[0])


@pytest.mark.slow
def test_compiled_it_computes_in_int8(file, monkeypatch):
    pytest.importorskip("torchao")
    from torch._dynamo.utils import counters

    monkeypatch.setenv(COMPILE_NAME, "1")
    before = inductor._taken()
    opened = open_exported(file[0])
    assert inductor._taken() == before + 2
    graphs = counters["stats"]["unique_graphs"]
    with torch.inference_mode():
        images = IMAGES.clone(memory_format=torch.channels_last)
        found = opened.run(images, torch.zeros(0))["logits"]
    assert counters["stats"]["unique_graphs"] == graphs, "compiled for a second time"
    # A value between two numbers may be rounded to the other one: by that much times the largest weight.
    step = 0.05 * 127 * float(file[1].last_scales.max())
    apart = np.abs(found.numpy() - expected(file[1], IMAGES))
    assert apart.max() < 2 * step
    assert np.mean(apart > 1e-3) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "segmentation", "joint"])
def test_a_network(ckpt, tmp_path, task):
    loaded = load_any(ckpt(task))
    nms, argmax = (None if task == "segmentation" else "outside"), (None if task == "detection" else False)
    options = Options((160, 224), 1, nms, argmax)
    float32 = export(loaded, tmp_path / "float.pt2", "torch", options)
    made = TorchInt8(loaded.network, replace(float32.about, precision="int8"), Shown(), tmp_path)
    made.write(tmp_path / "int8.pt2", ())
    assert (tmp_path / "int8.pt2").stat().st_size < 0.6 * float32.path.stat().st_size
    whole, nothing = made.deviations([(), in_float(made.groups, [group.name for group in made.groups])])
    assert nothing < 1e-4 < whole < 0.5
    images = torch.from_numpy(Shown()[3].images)
    ours, other = (open_exported(tmp_path / name, task) for name in ("int8.pt2", "float.pt2"))
    assert ours.about.precision == "int8"
    found, wanted = (each.run(images, torch.zeros(0)) for each in (ours, other))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        pair = torch.stack((found[name].flatten(), value.flatten()))
        assert 0.95 < torch.corrcoef(pair)[0, 1] < 1 - 1e-6, name
