"""The family table, its names, and the values that replace a member's own."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones.scaling import member_phi, read_scaled_name
from detection.network.family import (
    FAMILY,
    DetectorArchitecture,
    DetectorOverrides,
    MemberName,
    PhiName,
    architecture,
    head_repeats,
    image_side,
    pyramid_cells,
    pyramid_channels,
)
from detection.network.model import EfficientDet
from engine.errors import InputError

# google/automl `efficientdet/hparams_config.py` (6a54c87) and `efficientdet/README.md`:
# backbone, pixels, channels, cells, head repeats, fusion, coarsest level, anchor scale
TABLE = {
    "d0": ("tf_efficientnet_b0", 512, 64, 3, 3, "fast_attention", 7, 4),
    "d1": ("tf_efficientnet_b1", 640, 88, 4, 3, "fast_attention", 7, 4),
    "d2": ("tf_efficientnet_b2", 768, 112, 5, 3, "fast_attention", 7, 4),
    "d3": ("tf_efficientnet_b3", 896, 160, 6, 4, "fast_attention", 7, 4),
    "d4": ("tf_efficientnet_b4", 1024, 224, 7, 4, "fast_attention", 7, 4),
    "d5": ("tf_efficientnet_b5", 1280, 288, 7, 4, "fast_attention", 7, 4),
    "d6": ("tf_efficientnet_b6", 1280, 384, 8, 5, "sum", 7, 4),
    "d7": ("tf_efficientnet_b6", 1536, 384, 8, 5, "sum", 7, 5),
    "d7x": ("tf_efficientnet_b7", 1536, 384, 8, 5, "sum", 8, 4),
    "lite0": ("tf_efficientnet_lite0", 320, 64, 3, 3, "sum", 7, 3),
    "lite1": ("tf_efficientnet_lite1", 384, 88, 4, 3, "sum", 7, 3),
    "lite2": ("tf_efficientnet_lite2", 448, 112, 5, 3, "sum", 7, 3),
    "lite3": ("tf_efficientnet_lite3", 512, 160, 6, 4, "sum", 7, 4),
    "lite3x": ("tf_efficientnet_lite3", 640, 200, 6, 4, "sum", 7, 3),
    "lite4": ("tf_efficientnet_lite4", 640, 224, 7, 4, "sum", 7, 4),
}


def test_members_are_the_tables() -> None:
    assert list(FAMILY) == list(TABLE) == list(get_args(MemberName))


@pytest.mark.parametrize("name", TABLE)
def test_values_are_the_tables(name: str) -> None:
    backbone, pixels, channels, cells, repeats, fusion, max_level, scale = TABLE[name]
    member = architecture(name)
    assert member.name == name
    assert member.backbone == backbone
    assert member.image_size == (pixels, pixels)
    assert (member.fpn_channels, member.fpn_cells, member.head_repeats) == (channels, cells, repeats)
    assert (member.fusion, member.max_level, member.anchor_scale) == (fusion, max_level, scale)
    assert (member.norm_eps, member.norm_momentum, member.anchors_per_cell) == (1e-3, 0.01, 9)
    lite = name.startswith("lite")
    assert member.activation == ("relu6" if lite else "silu")
    assert (member.mean[0], member.std[0]) == ((0.5, 0.5) if lite else (0.485, 0.229))
    assert member.drop_path == (0.0 if backbone.endswith("0") else 0.2)
    assert member.levels == tuple(range(3, max_level + 1))
    assert member.stride == 2**max_level


def test_one_value_replaced_leaves_the_others() -> None:
    changed = architecture("d3", fpn_cells=2, image_size=640, fusion=None)
    assert changed == dataclasses.replace(FAMILY["d3"], fpn_cells=2, image_size=(640, 640))
    assert architecture("d3", image_size=[384, 640]).image_size == (384, 640)


def test_lists_of_a_config_file_equal_tuples() -> None:
    listed = architecture("d0", anchor_ratios=[[1.0, 1.0], [2.0, 0.5]], mean=[0.5] * 3, std=[0.5] * 3)
    tupled = architecture("d0", anchor_ratios=((1.0, 1.0), (2.0, 0.5)), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert listed == tupled
    assert hash(listed) == hash(tupled)
    assert listed.anchors_per_cell == 6


@pytest.mark.parametrize("name", TABLE)
def test_round_trip_through_json(name: str) -> None:
    member = architecture(name, image_size=(256, 384))
    assert DetectorArchitecture.from_dict(json.loads(json.dumps(member.to_dict()))) == member


def test_stored_dictionary_of_another_version() -> None:
    stored = FAMILY["d0"].to_dict()
    with pytest.raises(InputError, match=r"'fpn_chanels' is unknown.*Did you mean 'fpn_channels'\?"):
        DetectorArchitecture.from_dict(stored | {"fpn_chanels": 64})
    # A value that an older version did not have yet takes its default.
    del stored["anchor_ratios"]
    assert DetectorArchitecture.from_dict(stored) == FAMILY["d0"]


def test_overrides_are_the_architectures_fields() -> None:
    fields = [field.name for field in dataclasses.fields(DetectorArchitecture)]
    assert [field.name for field in dataclasses.fields(DetectorOverrides)] == [
        name for name in fields if name not in ("name", "head")
    ]
    assert DetectorOverrides().given() == {}
    assert DetectorOverrides(drop_path=0.0, image_size=128).given() == {"drop_path": 0.0, "image_size": 128}


def test_unknown_member_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        architecture("litte4")
    message = str(caught.value)
    assert "'litte4'" in message
    assert all(f"{name}," in message for name in ("d0", "d7x", "lite0"))
    assert "Did you mean 'lite4'?" in message
    assert "\n" not in message


def test_unknown_field_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'imagesize' is unknown; allowed: .*Did you mean 'image_size'\?"):
        architecture("d0", imagesize=512)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("fusion", "fast_atention", "Did you mean 'fast_attention'?"),
        ("activation", "swish", "silu, relu6"),
        ("padding", "valid", "same, symmetric"),
        ("fpn_channels", 0, "at least 1"),
        ("fpn_cells", -1, "at least 1"),
        ("anchor_scale", 0.0, "above 0"),
        ("norm_eps", 0.0, "above 0"),
        ("image_size", 16, "at least 32"),
        ("image_size", (512, 20), "at least 32"),
        ("image_size", (512,), "two, each a whole number, at least 32"),
        ("max_level", 4, "allowed are 5 to 9"),
        ("max_level", 10, "allowed are 5 to 9"),
        ("anchor_ratios", (), "one ratio at least"),
        ("anchor_ratios", ((1.0, 0.0),), "above 0"),
        ("std", (0.2, 0.0, 0.2), "above 0"),
        ("mean", (0.5,), "three means"),
    ],
)
def test_value_out_of_range(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture("d0", **{field: value})
    message = str(caught.value)
    assert field in message
    assert allowed in message
    assert "\n" not in message


# Any φ. The paper's table 1, and what its equations give by hand where the two differ.
DEPARTURES = {
    ("d2", "fpn_channels"): 120, ("d4", "fpn_channels"): 216, ("d7", "fpn_channels"): 520,
    ("d5", "fpn_cells"): 8, ("d6", "fpn_cells"): 9, ("d7", "fpn_cells"): 10,
    ("d5", "side"): 1152, ("d7", "side"): 1408,
}  # fmt: skip


@pytest.mark.parametrize("phi", range(8))
def test_the_equations_give_the_members_but_for_the_named_departures(phi: int) -> None:
    name = f"d{phi}"
    member = FAMILY[name]
    published = {
        "fpn_channels": member.fpn_channels,
        "fpn_cells": member.fpn_cells,
        "head_repeats": member.head_repeats,
        "side": member.image_size[0],
    }
    computed = {
        "fpn_channels": pyramid_channels(phi),
        "fpn_cells": pyramid_cells(phi),
        "head_repeats": head_repeats(phi),
        "side": image_side(phi),
    }
    for key, value in published.items():
        assert computed[key] == DEPARTURES.get((name, key), value), key
    assert all(value != published[key] for (of, key), value in DEPARTURES.items() if of == name)
    assert architecture(f"phi{phi}") == architecture(f"phi{phi}.0") == member


def test_between_the_members_the_equations_hold() -> None:
    # 64 * 1.35^1.5 = 100.4, 3 + 1.5 and 512 + 128 * 1.5 = 704 between multiples of 128, all rounded.
    config = architecture("phi1.5")
    assert (config.name, config.fpn_channels, config.fpn_cells, config.head_repeats) == ("phi1.5", 104, 5, 3)
    assert config.image_size == (768, 768)
    assert (config.fusion, config.max_level, config.drop_path, config.anchor_scale) == ("fast_attention", 7, 0.2, 4)
    backbone = read_scaled_name(config.backbone)
    assert backbone is not None
    assert member_phi(1) < backbone.phi < member_phi(2)
    assert backbone.padding == "same"
    assert architecture("phi6.5").fusion == "sum"  # as d6 and d7
    assert architecture("phi0.5").drop_path == 0  # as d0
    assert architecture("phi-2").fpn_cells == 1
    assert architecture("phi1.50", image_size=512) == dataclasses.replace(config, image_size=(512, 512))


# The paper's table 2: multiply-accumulates of D0 to D6 in billions, there called FLOPs.
PUBLISHED_GMACS = (2.5, 6.1, 11, 25, 55, 135, 226)


@pytest.mark.by_default("0")
@pytest.mark.parametrize("below", range(6))
def test_the_cost_between_two_members_lies_between_theirs(below: int) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = EfficientDet(f"phi{below + 0.5}").eval()
        model(torch.zeros(1, 3, *model.config.image_size))
    gmacs = counter.get_total_flops() / 2e9
    assert PUBLISHED_GMACS[below] < gmacs < PUBLISHED_GMACS[below + 1]


def test_a_detector_at_any_phi_learns_and_comes_back_from_its_settings() -> None:
    torch.manual_seed(0)
    model = EfficientDet("phi-0.75", 3)
    classes, boxes = model(torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8))
    (sum(level.square().mean() for level in classes) + sum(level.square().mean() for level in boxes)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    stored = json.loads(json.dumps(model.settings()))
    assert stored["member"] == "phi-0.75"
    other = EfficientDet.from_settings(stored)
    assert other.config == model.config
    other.load_state_dict(model.state_dict())
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = model.eval()(images), other.eval()(images)
    for theirs, ours in zip((*expected[0], *expected[1]), (*found[0], *found[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("phi9", "phi is 9; a detector's lies between -2 and 8"),
        ("phi-2.5", "phi is -2.5; a detector's lies between -2 and 8"),
        ("phinan", "write phi and a number from -2 to 8, as in phi1.5"),
        ("phi1,5", "'phi1,5' is not a member; write phi"),
        ("phi", "'phi' is not a member; write phi"),
    ],
)
def test_no_member_at_phi(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        architecture(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_lines_names_of_any_phi() -> None:
    assert PhiName("phi-1.25") == "phi-1.25"
    for text in ("phi", "phi1.", "d0", "phi1.5 "):
        with pytest.raises(ValueError, match="phi and a number"):
            PhiName(text)
