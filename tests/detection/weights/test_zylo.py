"""zylo117's layout, written here from effdet's network by the reference's key map.

The library itself is not a package (and LGPL), so these tests check the renaming and the network behind it: a state
dict with zylo117's names, made of effdet's random weights, must give effdet's outputs. That the names are those of
its files, and that its anchors, deltas, mean and deviation are the official ones, is taken from the reference.
"""

from __future__ import annotations

import re
from pathlib import Path

import effdet
import pytest
import torch
from torch import Tensor

from detection.network.family import FAMILY
from detection.network.model import EfficientDet
from detection.weights.load import load_pretrained
from detection.weights.published import ZYLO
from engine.errors import InputError
from tests.detection.network.test_effdet_parity import images, randomise, relative

# Blocks per stage of B0; its flat numbers run through the stages.
B0_STAGES = (1, 2, 2, 3, 3, 4, 1)
SEPARABLE = {"conv_dw": "_depthwise_conv.conv", "bn1": "_bn1", "se.conv_reduce": "_se_reduce.conv",
             "se.conv_expand": "_se_expand.conv", "conv_pw": "_project_conv.conv", "bn2": "_bn2"}  # fmt: skip
INVERTED = {"conv_pw": "_expand_conv.conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv.conv", "bn2": "_bn1",
            "se.conv_reduce": "_se_reduce.conv", "se.conv_expand": "_se_expand.conv",
            "conv_pwl": "_project_conv.conv", "bn3": "_bn2"}  # fmt: skip
# effdet's nodes in the order of zylo117's names; with P8 there is one more each way.
NODES = {5: ["conv6_up", "conv5_up", "conv4_up", "conv3_up", "conv4_down", "conv5_down", "conv6_down", "conv7_down"],
         6: ["conv7_up", "conv6_up", "conv5_up", "conv4_up", "conv3_up",
             "conv4_down", "conv5_down", "conv6_down", "conv7_down", "conv8_down"]}  # fmt: skip
WEIGHTS = {5: ["p6_w1", "p5_w1", "p4_w1", "p3_w1", "p4_w2", "p5_w2", "p6_w2", "p7_w2"]}
LATERALS = {"1.2": "p5_down_channel", "2.1": "p4_down_channel", "3.0": "p3_down_channel",
            "4.1": "p4_down_channel_2", "5.2": "p5_down_channel_2"}  # fmt: skip


def zylo_key(key: str, stages: tuple[int, ...]) -> str:
    """zylo117's name of a tensor of effdet's five-level network (reference, section 10)."""
    wrapped = {"conv_dw.": "depthwise_conv.conv.", "conv_pw.": "pointwise_conv.conv."}
    parts = key.split(".")
    if key.startswith("backbone.conv_stem"):
        return "backbone_net.model._conv_stem.conv." + parts[-1]
    if key.startswith("backbone.bn1"):
        return "backbone_net.model._bn0." + parts[-1]
    if parts[0] == "backbone":
        stage, index, module = int(parts[2]), int(parts[3]), ".".join(parts[4:-1])
        names = SEPARABLE if stage == 0 else INVERTED
        return f"backbone_net.model._blocks.{sum(stages[:stage]) + index}.{names[module]}.{parts[-1]}"
    for theirs, zylo in wrapped.items():
        key = key.replace(theirs, zylo)
    if key.startswith("fpn.resample.3"):
        return "bifpn.0.p5_to_p6." + ("0.conv." if ".conv.conv." in key else "1.") + parts[-1]
    if match := re.match(r"fpn\.cell\.(\d+)\.fnode\.(\d+)\.(.+)", key):
        cell, node, rest = match[1], int(match[2]), match[3]
        if rest == "combine.edge_weights":
            return f"bifpn.{cell}.{WEIGHTS[5][node]}"
        if lateral := re.match(r"combine\.resample\.(\d)\.conv\.(conv|bn)\.", rest):
            name = LATERALS[f"{node}.{lateral[1]}"]
            return f"bifpn.{cell}.{name}." + ("0.conv." if lateral[2] == "conv" else "1.") + parts[-1]
        return f"bifpn.{cell}.{NODES[5][node]}." + rest.removeprefix("after_combine.conv.")
    head = {"box_net": "regressor", "class_net": "classifier"}[parts[0]]
    rest = key.partition(".")[2].replace("predict.", "header.").replace("conv_rep.", "conv_list.")
    rest = re.sub(r"bn_rep\.(\d+)\.(\d+)\.bn\.", r"bn_list.\2.\1.", rest)
    return f"{head}.{rest}"


@torch.no_grad()
def effdets(num_classes: int = 90) -> torch.nn.Module:
    config = effdet.get_efficientdet_config("tf_efficientdet_d0")
    config.image_size = (128, 128)
    config.num_classes = num_classes
    network = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    randomise(network, EfficientDet("d0", num_classes).eval().normalise(images(2, (128, 128))))
    return network


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    return effdets()


@pytest.fixture
def state(theirs: torch.nn.Module) -> dict[str, Tensor]:
    renamed = {zylo_key(key, B0_STAGES): value for key, value in theirs.state_dict().items()}
    assert len(renamed) == 784  # no key of effdet's is lost because a name is given twice
    return renamed


@pytest.mark.by_default("efficientdet-d0.pth")
@pytest.mark.parametrize("file", ["efficientdet-d0.pth", "efficientdet-d0_49_8300.pth", "best.pth"])
@torch.no_grad()
def test_outputs_are_those_of_the_weights(
    theirs: torch.nn.Module, state: dict[str, Tensor], tmp_path: Path, file: str
) -> None:
    torch.save(state, tmp_path / file)
    ours = load_pretrained(tmp_path / file)
    pixels = images(1, (128, 128))
    assert relative(ours(pixels), theirs(ours.normalise(pixels))) < 1e-5
    assert ours.config == FAMILY["d0"]  # ImageNet's mean and deviation, TensorFlow's padding, epsilon 1e-3
    assert ours.classes.names[0] == "person"
    assert len(ours.classes) == 90


def test_what_data_parallel_training_saves(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({f"module.model.{key}": value for key, value in state.items()}, tmp_path / "best.pth")
    found = load_pretrained(tmp_path / "best.pth").state_dict()
    torch.save(state, tmp_path / "plain.pth")
    plain = load_pretrained(tmp_path / "plain.pth").state_dict()
    assert all(torch.equal(found[key], value) for key, value in plain.items())


def test_classes_without_names(tmp_path: Path) -> None:
    state = {zylo_key(key, B0_STAGES): value for key, value in effdets(7).state_dict().items()}
    torch.save(state, tmp_path / "efficientdet-d0.pth")
    classes = load_pretrained(tmp_path / "efficientdet-d0.pth").classes
    assert classes.category_ids == (1, 2, 3, 4, 5, 6, 7)


def large(member: str) -> dict[str, Tensor]:
    """Names and shapes of a network without fusion weights, which zylo117's have all the same."""
    name = f"tf_efficientdet_{member}"
    with torch.device("meta"):
        keys = effdet.EfficientDet(effdet.get_efficientdet_config(name), pretrained_backbone=False).state_dict()
    levels = 6 if member == "d7x" else 5
    cells = {key.split(".")[2] for key in keys if key.startswith("fpn.cell.")}
    found: dict[str, Tensor] = {}
    lengths: dict[int, int] = {}
    for key in keys:
        if match := re.match(r"backbone\.blocks\.(\d+)\.(\d+)\.", key):
            lengths[int(match[1])] = int(match[2]) + 1
    stages = tuple(lengths[stage] for stage in sorted(lengths))
    for key, tensor in keys.items():
        shifted = key
        if levels == 6 and (match := re.match(r"fpn\.cell\.(\d+)\.fnode\.(\d+)\.(.+)", key)):
            node, rest = int(match[2]), match[3]
            if lateral := re.match(r"combine\.resample\.(\d)\.", rest):
                shifted = f"fpn.cell.{match[1]}.fnode.{node - 1}.{rest}"
                assert f"{node - 1}.{lateral[1]}" in LATERALS
            else:
                tail = rest.removeprefix("after_combine.conv.")
                tail = tail.replace("conv_dw.", "depthwise_conv.conv.").replace("conv_pw.", "pointwise_conv.conv.")
                found[f"bifpn.{match[1]}.{NODES[6][node]}.{tail}"] = tensor
                continue
        found[zylo_key(shifted, stages)] = tensor
    assert len(found) == len(keys)
    for cell in cells:
        found |= {f"bifpn.{cell}.{name}": torch.empty(3 if name in ("p4_w2", "p5_w2", "p6_w2") else 2, device="meta")
                  for name in WEIGHTS[5]}  # fmt: skip
    return found


@pytest.mark.by_default("d6")
@pytest.mark.parametrize("member", ["d6", "d7x"])
def test_large_members_have_unused_weights(member: str) -> None:
    """Every name and shape has its place, except the fusion weights, which the network does not use."""
    from detection.weights.effdet_layout import effdet_key, redundant_biases
    from detection.weights.recognise import Traits, layout_of_keys, zylo_name
    from detection.weights.zylo_layout import effdet_keys_from_zylo

    state = large(member)
    assert layout_of_keys(state, "file") == "zylo"
    assert Traits.of_zylo(state).levels == len(FAMILY[member].levels)
    with torch.device("meta"):
        model = EfficientDet(member)
    renamed = effdet_keys_from_zylo(state, model.backbone.name, weighted=False, origin="file")
    wanted = {effdet_key(key, len(model.config.levels)): value.shape for key, value in model.state_dict().items()}
    assert {key: renamed[key].shape for key in wanted} == wanted
    assert set(renamed) - set(wanted) == {bias for bias, _ in redundant_biases(model)}
    if member == "d7x":
        assert zylo_name(state, "file") == "efficientdet-d8"
    else:
        with pytest.raises(
            InputError, match=r"fits efficientdet-d6 and efficientdet-d7 alike\. Say which by layout_of"
        ):
            zylo_name(state, "file")


def message_of(path: Path, state: dict[str, Tensor], **settings: str) -> str:
    torch.save(state, path)
    with pytest.raises(InputError) as caught:
        load_pretrained(path, **settings)
    message = str(caught.value)
    assert len(message.replace(str(path), path.name)) < 300
    assert "\n" not in message
    return message


def test_files_that_do_not_fit(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    strange = state | {"bifpn.0.conv9_up.bn.mean": torch.zeros(1)}
    assert "its key 'bifpn.0.conv9_up.bn.mean' is not the network's" in message_of(path, strange)
    block = state | {"backbone_net.model._blocks.16._bn1.weight": torch.zeros(1)}
    assert "'backbone_net.model._blocks.16._bn1.weight' is not the network's" in message_of(path, block)
    missing = {key: value for key, value in state.items() if key != "bifpn.0.p5_to_p6.1.weight"}
    assert "1 keys are missing (fpn.resample.3.conv.bn.weight)" in message_of(path, missing)
    one = {key: value for key, value in state.items() if not key.startswith("bifpn.2.")}
    assert "has the sizes of none of efficientdet-d0, " in message_of(path, one)
    assert "Did you mean 'efficientdet-d6'?" not in message_of(path, state, layout_of="efficientdet-d6")
    broken = {key: value * float("nan") if "header" in key else value for key, value in state.items()}
    assert "not finite" in message_of(path, broken)
    assert "tf_efficientdet_d0' is unknown" in message_of(path, state, layout_of="tf_efficientdet_d0")


def test_names_are_those_of_the_library() -> None:
    assert list(ZYLO) == [f"efficientdet-d{phi}" for phi in range(9)]
    assert ZYLO["efficientdet-d8"] == "d7x"
