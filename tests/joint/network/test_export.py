"""What `load` returns can be traced and exported, folded or not, with the answers of the network itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detection.network.model import EfficientDet
from joint.network.norms import PerTaskNetwork
from segmentation.network.model import Segmenter
from tests.joint.tiny_network import tiny_network

# Even and odd sizes of maps, which folded convolutions pad in different ways.
IMAGES = torch.randint(0, 256, (1, 3, 96, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
OTHERS = 255 - IMAGES


def made(kind: str, folded: bool) -> nn.Module:
    torch.manual_seed(0)
    small = {"fpn_channels": 16, "fpn_cells": 1, "head_repeats": 1}
    network: EfficientDet | Segmenter | PerTaskNetwork
    if kind in ("lite0", "d0"):
        network = EfficientDet(kind, num_classes=3, **small)
    elif kind in ("b0", "unet"):
        decoder = {"decoder": "unet"} if kind == "unet" else {"decoder_channels": 16, "skip_channels": 8}
        network = Segmenter("b0", num_classes=3, **decoder)
    else:
        network = tiny_network()
        network = PerTaskNetwork.from_settings(network.settings()) if kind == "per_task" else network
    network.eval().requires_grad_(False)
    return network.fold() if folded else network


def tensors(outputs: object) -> list[Tensor]:
    """The tensors of nested outputs; the empty one that stands for None in a trace is left out."""
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.numel() else []
    if outputs is None:
        return []
    assert isinstance(outputs, tuple | list)
    return [tensor for part in outputs for tensor in tensors(part)]


KINDS = pytest.mark.parametrize("kind", ["lite0", "d0", "b0", "unet", "joint", "per_task"])
FOLDED = pytest.mark.parametrize("folded", [False, True], ids=["as it is", "folded"])


@pytest.mark.by_default("folded-joint", "folded-d0", "folded-unet")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@KINDS
@FOLDED
def test_a_trace_gives_the_answers_of_the_network(kind, folded):
    network = made(kind, folded)
    with torch.no_grad():
        traced = torch.jit.trace(network, IMAGES, check_trace=False)
        found, expected = tensors(traced(OTHERS)), tensors(network(OTHERS))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    # Exporters to ONNX need the kernels and the paddings of convolutions as constants.
    graph = traced.inlined_graph  # which its nodes do not keep
    for node in graph.findAllNodes("aten::_convolution"):
        inputs = list(node.inputs())
        assert inputs[1].node().kind() == "prim::GetAttr"
        assert all(one.node().kind() == "prim::Constant" for one in inputs[4].node().inputs())


@pytest.mark.by_default("as it is-joint")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["lite0", "b0", "joint"])
@FOLDED
def test_an_exported_program_gives_the_answers_of_the_network(kind, folded):
    network = made(kind, folded)
    with torch.no_grad():
        program = torch.export.export(network, (IMAGES,)).module()
        found, expected = tensors(program(OTHERS)), tensors(network(OTHERS))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@KINDS
@FOLDED
def test_onnx_files_give_the_answers_of_the_network(kind, folded, dynamo, tmp_path: Path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")
    network = made(kind, folded)
    file = str(tmp_path / "network.onnx")
    torch.onnx.export(network, (IMAGES,), file, dynamo=dynamo)
    session = runtime.InferenceSession(file)
    outputs = session.run(None, {session.get_inputs()[0].name: OTHERS.numpy()})
    found = [torch.from_numpy(output) for output in outputs if output.size]
    for mine, expected in zip(found, tensors(network(OTHERS)), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3)
