"""Networks as ExecuTorch's: the program equals the network; the file too (its environment, 6 GB, is made once)."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from deployment.compare import patches
from deployment.export.graphs import graph_of
from deployment.export.kinds.contract import Form
from deployment.export.lowering.program import plain_program
from deployment.export.options import Options
from deployment.export.write import export
from deployment.networks import load_any
from engine.errors import InputError
from tests.deployment.networks import detector, network_of, picture

HEIGHT, WIDTH = 160, 224
# Of pictures: one that fills no canvas, one larger than it, one of the canvas's own shape, one that is small and odd.
PICTURES = [picture(140, 300, 1), picture(400, 350, 2), picture(160, 224, 3), picture(61, 83, 4)]
# Those that XNNPACK takes, and those that only say what they make or where values lie.
TAKEN = {
    "conv2d", "conv_transpose2d", "hardtanh", "relu", "silu", "sigmoid", "add", "sub", "mul", "div", "mean", "cat",
    "slice", "adaptive_avg_pool2d", "max_pool2d", "pad", "permute", "view", "_unsafe_view", "clone",
    "upsample_bilinear2d",
}  # fmt: skip
AROUND = {"_to_copy", "_assert_tensor_metadata", "argmax"}


def load(task: str, path: object) -> object:
    return importlib.import_module(task).load(path)


@torch.no_grad()
@pytest.mark.parametrize("image_hw", [(160, 224), pytest.param((131, 203), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "task", ["detection", *(pytest.param(x, marks=pytest.mark.slow) for x in ("segmentation", "joint"))]
)
def test_the_program_equals_the_graph(task, image_hw):
    graph = graph_of(network_of(task), Form(None, True, image_hw))
    program = plain_program(graph, image_hw, 1)
    names = {
        node.target.name().partition("::")[2].partition(".")[0]
        for node in program.graph.nodes
        if node.op == "call_function"
    }
    assert names <= TAKEN | AROUND
    images = patches(1, image_hw)
    for ours, expected in zip(program.module()(images=images), graph(images=images), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_network_is_left_as_it_was():
    network = detector()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain_program(graph_of(network, Form(None, False, (160, 224))), (160, 224), 1)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_suppression_is_refused(ckpt, tmp_path):
    loaded = load_any(ckpt("detection"))
    for asked in ({"nms": "inside"}, {"score_threshold": 0.3}):
        with pytest.raises(InputError, match=rf"{next(iter(asked))} is a setting of a suppression inside the file"):
            export(loaded, tmp_path / "x.pte", "executorch", Options(**asked))
    with pytest.raises(InputError, match="--format executorch, whose files are for one size"):
        export(loaded, tmp_path / "x.pte", "executorch", Options(letterbox="inside"))
    assert not list(tmp_path.iterdir())


def same_boxes(ours, expected):
    assert len(ours.scores) == len(expected.scores) > 5
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(ours.boxes_xyxy, expected.boxes_xyxy, atol=0.5)
    assert ours.labels == expected.labels


@pytest.mark.slow
def test_a_detector(ckpt, exported):
    file = load("detection", exported("detection", "executorch", batch_size=2))
    found = file.predict_many(PICTURES, score_threshold=0.05)
    network = load("detection", ckpt("detection"))
    for one in zip(found, network.predict_many(PICTURES, score_threshold=0.05), strict=True):
        same_boxes(*one)
    with pytest.raises(InputError, match=r"of 160 x 224 pixels \(height x width\), not 128 x 128"):
        file.predict_many(PICTURES[:2], image_size=128)


@pytest.mark.slow
def test_a_segmenter(ckpt, exported):
    path = exported("segmentation", "executorch", image_size=(HEIGHT, WIDTH))
    file, network = load("segmentation", path), load("segmentation", ckpt("segmentation"))
    for seed in range(2):
        image = picture(HEIGHT, WIDTH, seed)
        expected = network.predict(image).class_ids
        assert len(np.unique(expected)) == 3
        assert (file.predict(image).class_ids == expected).mean() > 0.999


@pytest.mark.slow
def test_a_joint_network(ckpt, exported):
    file, network = load("joint", exported("joint", "executorch")), load("joint", ckpt("joint"))
    image = picture(128, 256, 1)
    found, expected = file.predict(image, score_threshold=0.05), network.predict(image, score_threshold=0.05)
    same_boxes(found.found, expected.found)
    assert (found.segmented.class_ids == expected.segmented.class_ids).mean() > 0.999
