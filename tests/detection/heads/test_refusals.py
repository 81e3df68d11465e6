"""What a head does not know is refused in one line that says what to do; so is what only EfficientDet has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detection.network.build import build_detector, restore_detector
from detection.network.family import FAMILY, architecture
from detection.network.heads.choice import sizes
from detection.network.postprocess import Postprocess
from engine.errors import InputError
from tests.detection.heads.small import fit
from tests.detection.small import command

BAD = {
    "--model.head ssd --model.loss.assigner atss": "model.loss.assigner is for head efficientdet",
    "--model.head fcos --model.loss.box_weight 3": "model.loss.box_weight is for head efficientdet",
    "--model.head fcos --model.architecture.anchor_scale 5": "architecture.anchor_scale means nothing to head fcos",
    "--model.head retinanet --model.architecture.head_repeats 7": "architecture.head_repeats means nothing",
    "--model.head ssd --model.architecture.fpn_cells 2": "or set architecture.pyramid to bifpn",
    "--model.head fcos --model.architecture.fpn_channels 40": "multiples of 32",
    "--model.head ssd --model.architecture.max_level 8": "allowed are 5, 6 and 7",
    "--model.head faster_rcnn --model.postprocess.nms soft": "torchvision's own suppression",
    "--model.head ssd --model.postprocess.max_candidates 9": "postprocess.max_candidates is 9",
    "--model.architecture.pyramid fpn": "Take bifpn or quad, or another model.head.",
    "--model.head ssd --trainer.precision bf16-true": "Give 16-mixed or bf16-mixed.",
    "--model.head yolo": "model.head is 'yolo'",
}


@pytest.mark.parametrize("line", BAD)
def test_settings_without_a_meaning(line, there):
    said = command(f"fit --config heads.yaml {line}")
    assert said.code == 2
    assert BAD[line] in said.err
    assert "Traceback" not in said.err
    assert not list(Path().rglob("*.ckpt"))


def test_another_head_than_the_checkpoint_has(trained, there):
    head, checkpoint = trained
    other = "ssd" if head == "fcos" else "fcos"
    said = command(f"validate --config heads.yaml --ckpt_path {checkpoint} --model.head {other}")
    assert said.code == 2
    assert f"model.head is '{other}', but the checkpoint" in said.err
    said = fit(other, f"--model.pretrained {checkpoint}")
    assert said.code == 2
    assert f"are of head {head}" in said.err


def test_what_only_efficientdet_has(trained, there):
    from joint.network.parts import load_detector, only_efficientdet

    _, checkpoint = trained
    with pytest.raises(InputError, match="the joint network takes EfficientDet's only"):
        only_efficientdet(load_detector(checkpoint), checkpoint, "the joint network")


@pytest.mark.parametrize("head", ["retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_sizes_grow_with_phi(head):
    widths = [architecture(f"phi{phi}", head=head).fpn_channels for phi in range(-2, 8)]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == (64, 256)
    for member in FAMILY:
        config = architecture(member, head=head)
        assert config.head == head
        assert config.pyramid == "fpn"
        assert config.backbone == FAMILY[member].backbone
        assert config.image_size == FAMILY[member].image_size
    assert sizes(head, 88)["fpn_channels"] == 96


def test_settings_build_the_same_network_again():
    network = build_detector("lite0", head="fcos", num_classes=2, pyramid="bifpn", image_size=128)
    again = restore_detector(network.settings())
    assert again.config == network.config
    assert again.state_dict().keys() == network.state_dict().keys()
    assert "head" not in build_detector("lite0", num_classes=2).settings()  # as before there were others


def test_other_thresholds_are_no_matter():
    from detection.network.heads.parts import refuse_postprocess

    usual = Postprocess(score_threshold=0.3, iou_threshold=0.6, max_detections=7)
    refuse_postprocess("fcos", replace(usual, max_candidates=10))
    with pytest.raises(InputError, match="Leave it at False"):
        refuse_postprocess("fcos", replace(usual, class_agnostic=True))
