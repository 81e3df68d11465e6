"""A detector from level 2 on: its lattice, and the weights of a trained one that has no such level."""

from __future__ import annotations

import pytest
import torch

from detection import EfficientDet
from detection.weights.finest_level import with_finest_level
from engine.errors import InputError
from joint import JointNetwork
from segmentation import Segmenter

CANVAS_HW = (128, 192)


def small(**given):
    torch.manual_seed(0)
    return EfficientDet("d0", 3, image_size=CANVAS_HW, fpn_channels=16, fpn_cells=2, head_repeats=2, **given)


def same(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(value, given) for (name, value), (other, given) in pairs)


def test_six_levels_with_an_anchor_for_every_cell():
    network = small(min_level=2).train()
    images = torch.randint(0, 256, (2, 3, *CANVAS_HW), dtype=torch.uint8)
    classes, boxes = network(images)
    cells = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    assert [tuple(maps.shape[-2:]) for maps in classes] == cells == [tuple(maps.shape[-2:]) for maps in boxes]
    anchors = network.anchors(CANVAS_HW, torch.device("cpu"))
    assert len(anchors) == 9 * sum(rows * columns for rows, columns in cells)
    assert anchors[0].tolist() == [-6, -6, 10, 10]  # four strides of 4 around the middle of the first cell
    network.predictions(images)[0].sum().backward()
    assert all(p.grad is not None for p in network.fpn.parameters())
    assert network.config.finest_stride == 4


def test_every_part_of_a_level_keeps_its_weights():
    trained = small().eval()
    for tensor in trained.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    finer = with_finest_level(trained, 2, {"frozen_stages": 1}, "it")
    assert finer.config.min_level == 2
    assert not finer.training
    assert same(finer.backbone, trained.backbone)
    for head in ("class_head", "box_head"):
        own, known = getattr(finer, head), getattr(trained, head)
        assert same(own.convs, known.convs)
        assert same(own.predict, known.predict)
        assert len(own.norms) == 6
        assert all(same(own.norms[place + 1], known.norms[place]) for place in range(5))
    for own, known in zip(finer.fpn.cells, trained.fpn.cells, strict=True):
        # By level: the lists count from the finest, and `bottom_up` and `laterals_up` from the one above it.
        assert all(same(own.top_down[level - 2], known.top_down[level - 3]) for level in (3, 4, 5, 6))
        assert all(same(own.bottom_up[level - 3], known.bottom_up[level - 4]) for level in (4, 5, 6, 7))
        assert all(same(own.laterals_down[level - 2], known.laterals_down[level - 3]) for level in (3, 4, 5, 6, 7))
        assert all(same(own.laterals_up[level - 3], known.laterals_up[level - 4]) for level in (4, 5, 6))
        assert same(own.laterals_up[0], known.laterals_down[0])
    assert same(finer.fpn.coarser, trained.fpn.coarser)
    assert with_finest_level(trained, 3, {}, "it") is trained
    with pytest.raises(InputError, match="from level 2 on, and is asked for from level 3 on"):
        with_finest_level(finer, 3, {}, "it")


def test_a_joint_network_has_the_level_too():
    network = JointNetwork(small(min_level=2), Segmenter("b0", 3, decoder_channels=16, skip_channels=8)).eval()
    images = torch.randint(0, 256, (1, 3, *CANVAS_HW), dtype=torch.uint8)
    with torch.no_grad():
        both = network(images).predictions
        alone = network(images, segment=False).predictions
    assert both is not None
    assert alone is not None
    for own, other in zip(both, alone, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)
