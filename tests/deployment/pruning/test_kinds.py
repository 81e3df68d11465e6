"""Classifiers and torchvision's heads without some of their channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from classification.data.classes import LabelClasses
from classification.network.model import Classifier
from deployment.__main__ import main
from deployment.networks import AnyNetwork, load_any
from deployment.pruning.prune import pruned
from detection.data.classes import BoxClasses
from detection.network.build import build_detector, restore_detector
from detection.network.heads.detector import HeadedDetector
from tests.classification.small import command, write_set
from tests.deployment.benchmark.test_kinds import by_hand
from tests.deployment.kinds.networks import CANVAS, classifier, headed, loaded, saved
from tests.deployment.networks import OBJECTS, picture, vivid

SHARE = 0.3
FOUR = LabelClasses(("a", "b", "c", "d"))


def detector(head: str, **overrides: object) -> AnyNetwork:
    network = build_detector("lite0", head=head, classes=OBJECTS, image_size=CANVAS, **overrides)
    assert isinstance(network, HeadedDetector)
    return network


KINDS = {
    "lite0 classifier": lambda: Classifier("lite0", classes=FOUR, image_size=64),
    "b0 classifier with gates": lambda: Classifier("b0", classes=FOUR, image_size=64),
    "v2 classifier": lambda: Classifier("v2_s", classes=LabelClasses(FOUR.names, several=True), image_size=64),
    "retinanet": lambda: detector("retinanet"),
    "fcos": lambda: detector("fcos"),
    "ssd": lambda: detector("ssd"),
    "ssd on a BiFPN": lambda: detector("ssd", pyramid="bifpn"),
    "faster_rcnn": lambda: detector("faster_rcnn"),
    "mask_rcnn": lambda: detector("mask_rcnn"),
}


def distinct(network: AnyNetwork) -> AnyNetwork:
    """Give norms and biases values of which each is once in its layer, so that a channel is known by its own."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.normal_(0, 0.1)
    return vivid(network)


def outputs(network: AnyNetwork, pixels: torch.Tensor) -> list[torch.Tensor]:
    """What the head gives of every cell, or of R-CNN the maps that it proposes from; of a classifier its logits."""
    with torch.no_grad():
        if not isinstance(network, HeadedDetector):
            return [network(pixels)]
        found, levels = network.predictions(pixels), len(network.config.levels)
        return [*(found[levels:] or found)]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.from_numpy(picture(128, 192)).permute(2, 0, 1)[None]


@pytest.mark.by_default("lite0 classifier")
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_whole_network_with_the_removed_channels_at_zero(kind: str, pixels: torch.Tensor) -> None:
    torch.manual_seed(1)
    network = distinct(KINDS[kind]())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    untouched = outputs(network, pixels)
    found = pruned(network, SHARE)
    slim = found.network

    whole = KINDS[kind]()
    whole.load_state_dict(state)
    left = dict(slim.named_modules())
    removed = channels = 0
    with torch.no_grad():
        for name, module in whole.named_modules():
            norm = isinstance(module, nn.BatchNorm2d)
            if norm or (isinstance(module, nn.Conv2d) and module.bias is not None):
                own, others = (each.weight if norm else each.bias for each in (module, left[name]))
                gone = ~torch.isin(own, others)
                assert int((~gone).sum()) == len(others)
                module.weight[gone], module.bias[gone] = 0.0, 0.0
                removed, channels = removed + int(gone.sum()), channels + len(own)
    assert removed > (0.05 if "rcnn" in kind else 0.15) * channels
    answers, wanted = outputs(slim.double(), pixels), outputs(whole.eval().double(), pixels)
    for answer, expected, before in zip(answers, wanted, untouched, strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
        assert not torch.allclose(answer.float(), before, rtol=1e-2)  # the removed channels mattered
    assert found.after.parameters == sum(each.numel() for each in slim.parameters())
    assert found.after.macs < found.before.macs


def test_what_is_counted_is_what_is_computed() -> None:
    network = classifier().network
    found = pruned(network, SHARE)
    slim = found.network
    assert isinstance(slim, Classifier)
    assert found.canvas_hw == (64, 64)
    assert found.after.macs == by_hand(slim, lambda: slim(torch.zeros(1, 3, 64, 64))) < 0.7 * found.before.macs
    # The last layer reads the vector that is left, and still tells four classes apart.
    assert slim.head.classifier.in_features == slim.head.conv_head.out_channels == slim.width < 1000
    assert slim.head.classifier.out_features == 4


@pytest.mark.slow
@pytest.mark.parametrize("head", ["classifier", "retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_a_checkpoint_gives_the_pruned_network_back(head: str, tmp_path: Path, pixels: torch.Tensor) -> None:
    import classification
    import detection

    source = classifier() if head == "classifier" else loaded(headed(head))
    path = saved(source, tmp_path / "whole.ckpt")
    assert main(["prune", "--ckpt_path", str(path), "--output", str(tmp_path / "slim.ckpt")]) == 0
    slim = load_any(tmp_path / "slim.ckpt").network
    expected = pruned(load_any(path).network, SHARE).network
    for answer, wanted in zip(outputs(slim, pixels), outputs(expected, pixels), strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    load = classification.load if head == "classifier" else detection.load
    assert load(tmp_path / "slim.ckpt").predict(picture(120, 170)) is not None
    if isinstance(slim, HeadedDetector):
        slim.set_classes(BoxClasses.numbered(5))
        again = restore_detector(slim.settings())
    else:
        assert isinstance(slim, Classifier)
        slim.set_classes(LabelClasses(("x", "y")))
        again = Classifier.from_settings(slim.settings())
    again.load_state_dict(slim.state_dict())
    for answer, wanted in zip(outputs(again.eval(), pixels), outputs(slim, pixels), strict=True):
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    twice = pruned(load_any(tmp_path / "slim.ckpt").network, 0.5)
    assert twice.after.parameters < twice.before.parameters


@pytest.mark.slow
def test_a_pruned_classifier_is_trained_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path)
    said = command("fit --config small.yaml --run.name whole --trainer.max_epochs 1")
    assert said.code == 0, said.err
    assert main(["prune", "--ckpt_path", "runs/classification/whole/checkpoints/last.ckpt", "--output", "s.ckpt"]) == 0
    fit = "fit --config small.yaml --run.name slim --model.pretrained s.ckpt --trainer.max_epochs 2"
    said = command(f"{fit} --model.backbone_weights null")
    assert said.code == 0, said.err
    slim, tuned = (load_any(path).network for path in ("s.ckpt", "runs/classification/slim/checkpoints/last.ckpt"))
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (slim, tuned)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(slim.state_dict()["head.conv_head.weight"], tuned.state_dict()["head.conv_head.weight"])
    said = command("validate --config small.yaml --ckpt_path runs/classification/slim/checkpoints/last.ckpt")
    assert said.code == 0, said.err
