"""Int8 for ExecuTorch: its layers have the network's names, and the file gives nearly what the network gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from deployment.export.options import Options
from deployment.export.write import export
from deployment.networks import load_any
from deployment.precision.formats.executorch_int8 import ExecutorchInt8, with_own_names
from deployment.precision.layers import Operation, groups_of, in_float
from deployment.precision.pictures import Picture
from engine.exports.files import open_exported
from tests.deployment.networks import picture

SIDES = (160, 224)


class Shown:
    """Pictures of the canvas's size."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> Picture:
        images = picture(*SIDES, place).transpose(2, 0, 1)[None]
        return Picture(np.ascontiguousarray(images), np.array([SIDES], dtype=np.float32))


def test_layers_of_all_levels_have_one_name():
    graph = [Operation("stem", "network.backbone.conv_stem.weight", ())]
    for level in range(2):
        above = "stem"
        for place in (0, 2, 4):
            for half in (0, 1):
                name = f"conv_{level}_{place}_{half}"
                graph.append(Operation(name, f"network.class_head.levels.{level}.{place}.{half}.weight", (above,)))
                above = name
    groups = {group.name: [layer.name for layer in group.layers] for group in groups_of(with_own_names(graph))}
    assert groups == {
        "backbone.conv_stem": ["backbone.conv_stem"],
        "class_head.convs.0": ["class_head.convs.0.depthwise", "class_head.convs.0.pointwise"],
        "class_head.convs.1": ["class_head.convs.1.depthwise", "class_head.convs.1.pointwise"],
        "class_head.predict": ["class_head.predict.depthwise", "class_head.predict.pointwise"],
    }
    assert len(in_float(groups_of(with_own_names(graph)), ["class_head.predict"])) == 4


@pytest.mark.slow
def test_a_detector(ckpt, tmp_path):
    loaded = load_any(ckpt("detection"))
    float32 = export(loaded, tmp_path / "float.pte", "executorch", Options())
    made = ExecutorchInt8(loaded.network, replace(float32.about, precision="int8"), Shown(), tmp_path)
    made.write(tmp_path / "int8.pte", ())
    assert (tmp_path / "int8.pte").stat().st_size < 0.4 * float32.path.stat().st_size
    whole, nothing = made.deviations([(), in_float(made.groups, [group.name for group in made.groups])])
    assert nothing < 1e-4 < whole < 0.5
    images = torch.from_numpy(Shown()[3].images)
    ours, other = (open_exported(tmp_path / name, "detection") for name in ("int8.pte", "float.pte"))
    assert ours.about.precision == "int8"
    found, expected = (each.run(images, torch.zeros(0)) for each in (ours, other))
    for name in ("class_logits", "box_deltas"):
        pair = torch.stack((found[name].flatten(), expected[name].flatten()))
        assert 0.95 < torch.corrcoef(pair)[0, 1] < 1 - 1e-6, name
