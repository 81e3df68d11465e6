"""Separate batch norms for each task: a pass of one task changes neither the norms nor the answer of the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.network.model import EfficientDet
from engine.errors import InputError
from engine.training.plugins import SyncBatchNorm
from joint.network.model import JointNetwork
from joint.network.norms import PerTaskNetwork, TaskNorm, network_from, shared_parameters, task_norms
from segmentation.network.model import Segmenter
from tests.joint.tiny_network import OBJECTS, SURFACES

IMAGES = torch.randint(0, 256, (2, 3, 128, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def parts():
    torch.manual_seed(0)
    detector = EfficientDet(
        "lite0", classes=OBJECTS, image_size=(128, 256), fpn_channels=16, fpn_cells=1, head_repeats=1
    )
    segmenter = Segmenter("lite0", classes=SURFACES, decoder_channels=16, skip_channels=8, mean=(0.5, 0.5, 0.5))
    for norm in detector.backbone.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
    return detector, segmenter


@pytest.fixture
def network():
    return PerTaskNetwork(*parts()).eval()


def of(network, task):
    """The state of one task's norms in the backbone."""
    state = network.backbone.state_dict()
    return {key: value.clone() for key, value in state.items() if f".{task}." in key}


def same(first, second):
    return all(torch.equal(value, second[key]) for key, value in first.items())


def test_at_the_start_both_answers_are_those_of_shared_norms(network):
    shared = JointNetwork(*parts()).eval()
    with torch.no_grad():
        found, expected = network(IMAGES), shared(IMAGES)
        alone = shared(IMAGES, segment=False).predictions
    assert torch.equal(found.segmentation.logits, expected.segmentation.logits)
    # The pass of the detector is at stride 32 here, as when it runs alone.
    assert all(torch.equal(*pair) for pair in zip(found.predictions, alone, strict=True))
    for mine, theirs in zip(found.predictions, expected.predictions, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


def test_each_task_moves_its_own_statistics_only(network):
    network.train()
    before = {task: of(network, task) for task in ("detection", "segmentation")}
    assert len(before["detection"]) == len(before["segmentation"]) > 100
    network(IMAGES, segment=False)
    middle = {task: of(network, task) for task in before}
    assert same(before["segmentation"], middle["segmentation"])
    assert not any(
        torch.equal(value, before["detection"][key])
        for key, value in middle["detection"].items()
        if "running_mean" in key
    )
    network(255 - IMAGES, detect=False)
    after = {task: of(network, task) for task in before}
    assert same(middle["detection"], after["detection"])
    assert not same(middle["segmentation"], after["segmentation"])


def test_other_norms_change_the_other_answer_only(network):
    with torch.no_grad():
        before = network(IMAGES)
        for norm in task_norms(network.backbone):
            norm.segmentation.weight.mul_(0.5)
        after = network(IMAGES)
    assert all(torch.equal(*pair) for pair in zip(before.predictions, after.predictions, strict=True))
    assert not torch.equal(before.segmentation.logits, after.segmentation.logits)


def test_the_parts_alone_take_their_own_norms_too(network):
    """The answers are the same in any order."""
    network.train()(255 - IMAGES, segment=False)
    network.eval()
    with torch.no_grad():
        both = network(IMAGES)
        assert torch.equal(network.segmenter(IMAGES), both.segmentation.logits)
        assert torch.equal(network.detector.predictions(IMAGES)[0], both.predictions[0])
        assert torch.equal(network.segmenter(IMAGES), both.segmentation.logits)


def test_gradients_reach_a_task_s_own_norms_and_all_convolutions(network):
    network.train()
    network(IMAGES, segment=False).predictions[0].sum().backward()
    for norm in task_norms(network.backbone):
        assert norm.detection.weight.grad is not None
        assert norm.segmentation.weight.grad is None
    shared = shared_parameters(network)
    assert all(p.grad is not None for p in shared)
    convolutions = [module for module in network.backbone.modules() if isinstance(module, nn.Conv2d)]
    assert {id(p) for p in shared} == {id(conv.weight) for conv in convolutions}
    plain = JointNetwork(*parts())
    assert len(shared_parameters(plain)) == len(list(plain.backbone.parameters()))


def test_settings_and_weights_make_the_same_network(network):
    network.train()(255 - IMAGES, segment=False)
    network.eval()
    other = network_from(network.settings())
    assert type(other) is PerTaskNetwork
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(other.eval()(IMAGES).segmentation.logits, network(IMAGES).segmentation.logits)
    assert type(network_from(JointNetwork(*parts()).settings())) is JointNetwork


def test_a_folded_copy_says_the_same(network):
    network.train()(255 - IMAGES)
    network.eval()
    folded = copy.deepcopy(network).fold()
    with torch.no_grad():
        found, expected = folded(IMAGES), network(IMAGES)
    torch.testing.assert_close(found.segmentation.logits, expected.segmentation.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.predictions[0], expected.predictions[0], rtol=1e-3, atol=1e-3)


def test_synchronised_norms_stay_each_task_s_own(network):
    with torch.no_grad():
        expected = network(IMAGES).segmentation.logits
        converted = SyncBatchNorm().apply(network)
        torch.testing.assert_close(converted(IMAGES).segmentation.logits, expected, rtol=0, atol=1e-5)
    assert all(isinstance(norm.detection, nn.SyncBatchNorm) for norm in task_norms(converted))


def test_frozen_stages_freeze_both_sets():
    network = PerTaskNetwork(*parts(), freezing={"frozen_stages": 2}).train()
    frozen = [*task_norms(network.backbone.bn1), *task_norms(network.backbone.blocks[0])]
    assert len(frozen) > 2
    for norm in frozen:
        assert not any(p.requires_grad for p in norm.parameters())
        assert not any(module.training for module in norm.modules())
    assert network.backbone.blocks[1][0].bn1.segmentation.training
    assert isinstance(network.backbone.bn1, TaskNorm)


def test_gradient_checkpointing_is_refused():
    with pytest.raises(InputError, match="grad_checkpointing does not go with norms 'per_task'"):
        PerTaskNetwork(*parts(), freezing={"grad_checkpointing": True})
