"""Int8 of .pt2 files: Inductor compiles them where they are opened, and they give nearly what the network gives."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from deployment.export.options import Options
from deployment.export.write import export
from deployment.networks import load_any
from deployment.precision.formats.torch_int8 import TorchInt8
from deployment.precision.layers import in_float
from deployment.running.torch_file import compiled
from engine.errors import InputError
from engine.exports.files import open_exported
from tests.deployment.executorch.test_int8 import Shown


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler. Install g\+\+"):
        compiled(nn.Identity(), tmp_path / "int8.pt2")


@pytest.mark.slow
def test_a_detector(ckpt, tmp_path):
    loaded = load_any(ckpt("detection"))
    float32 = export(loaded, tmp_path / "float.pt2", "torch", Options(batch_size=1, nms="outside"))
    made = TorchInt8(loaded.network, replace(float32.about, precision="int8"), Shown(), tmp_path)
    made.write(tmp_path / "int8.pt2", ())
    assert (tmp_path / "int8.pt2").stat().st_size < 0.5 * float32.path.stat().st_size
    whole, nothing = made.deviations([(), in_float(made.groups, [group.name for group in made.groups])])
    assert nothing < 1e-4 < whole < 0.5
    images = torch.from_numpy(Shown()[3].images)
    ours, other = (open_exported(tmp_path / name, "detection") for name in ("int8.pt2", "float.pt2"))
    assert ours.about.precision == "int8"
    found, expected = (each.run(images, torch.zeros(0)) for each in (ours, other))
    for name in ("class_logits", "box_deltas"):
        pair = torch.stack((found[name].flatten(), expected[name].flatten()))
        assert 0.95 < torch.corrcoef(pair)[0, 1] < 1 - 1e-6, name
