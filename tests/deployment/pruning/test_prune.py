"""Pruned networks: the whole one without the removed channels, in a checkpoint that every command takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from backbones.scaling import round_channels
from backbones.slimming import widths_between
from deployment.__main__ import main
from deployment.networks import Network, load_any
from deployment.pruning.prune import checkpoint_of, pruned
from detection.data.classes import BoxClasses
from detection.network.model import EfficientDet
from engine.errors import InputError
from joint.network.model import JointNetwork
from joint.network.norms import PerTaskNetwork
from segmentation.data.classes import MaskClasses
from segmentation.network.model import Segmenter
from tests.deployment.networks import (
    OBJECTS,
    PARTS,
    SURFACES,
    TASKS,
    checkpoint,
    detector,
    network_of,
    picture,
    segmenter,
    vivid,
)
from tests.joint.tiny_network import tiny_network

SHARE = 0.3
D0 = {"fpn_channels": 24, "fpn_cells": 2, "head_repeats": 2}


def per_task() -> PerTaskNetwork:
    """A joint network with norms for each task, on a backbone with gates."""
    torch.manual_seed(0)
    small = {"image_size": (128, 160), "fpn_channels": 24, "fpn_cells": 1, "head_repeats": 1}
    boxes = EfficientDet("d0", classes=OBJECTS, **small)
    masks = Segmenter("b0", classes=SURFACES, decoder_channels=32, skip_channels=16, mean=boxes.config.mean)
    return PerTaskNetwork(boxes, masks)


KINDS = {
    "lite0 detector": lambda: detector(fpn_channels=24),
    # Of the pyramid's width, so that the finest lateral is no layer and the backbone's stage belongs to the pyramid.
    "d0 with a lateral left out": lambda: detector("d0", **(D0 | {"fpn_channels": 40})),
    "quad d0": lambda: detector("d0", pyramid="quad", **D0),
    "lite0 segmenter": lambda: segmenter(decoder_channels=32, skip_channels=16),
    "b0 segmenter with gates and an auxiliary head": lambda: segmenter(
        "b0", exact_gates=True, aux_head=True, decoder_channels=32, skip_channels=16, output_stride=8
    ),
    "v2 segmenter": lambda: segmenter("v2_s", decoder_channels=32, skip_channels=16, separable_aspp=False),
    "joint": lambda: network_of("joint"),
    "joint with norms of each task": per_task,
}


def all_outputs(network: Network, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Logits and deltas of the detector, logits of the segmenter and of its auxiliary head."""
    with torch.no_grad():
        if isinstance(network, JointNetwork):
            found = network(pixels)
            assert found.predictions is not None
            assert found.segmentation is not None
            return [*found.predictions[:2], found.segmentation.logits]
        if isinstance(network, EfficientDet):
            return [*network.predictions(pixels)[:2]]
        outputs = [network(pixels)]
        if network.aux_head is not None:
            hw = (pixels.shape[-2], pixels.shape[-1])
            maps = network.backbone(network.normalise(pixels))
            outputs.append(network.aux_head(maps[1], network.backbone.grids(hw)[1], hw))
        return outputs


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.from_numpy(picture(128, 192)).permute(2, 0, 1)[None]


@pytest.mark.by_default("lite0 detector", "joint with norms of each task")
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_whole_network_with_the_removed_channels_at_zero(kind: str, pixels: torch.Tensor) -> None:
    """A channel is removed where its norm, whose scale no other channel has, is not in the pruned network."""
    torch.manual_seed(1)
    network = vivid(KINDS[kind]())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    untouched = all_outputs(network, pixels)
    slim = pruned(network, SHARE).network

    whole = KINDS[kind]()
    whole.load_state_dict(state)
    left = {name: module for name, module in slim.named_modules() if isinstance(module, nn.BatchNorm2d)}
    removed = 0
    with torch.no_grad():
        for name, module in whole.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                gone = ~torch.isin(module.weight, left[name].weight)
                assert int((~gone).sum()) == left[name].num_features
                module.weight[gone], module.bias[gone] = 0.0, 0.0
                removed += int(gone.sum())
    assert removed > 0.15 * sum(m.num_features for m in whole.modules() if isinstance(m, nn.BatchNorm2d))
    # In float64, as forty blocks with such norms would make much of the roundings of float32.
    answers, wanted = all_outputs(slim.double(), pixels), all_outputs(whole.eval().double(), pixels)
    for answer, expected, before in zip(answers, wanted, untouched, strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
        assert not torch.allclose(answer.float(), before, rtol=1e-2)  # the removed channels mattered


def test_widths_are_those_of_a_narrower_network() -> None:
    network = detector(fpn_channels=64)
    slim = pruned(network, SHARE).network
    assert isinstance(slim, EfficientDet)
    assert slim.backbone.channels == tuple(round_channels(width, 1 - SHARE) for width in (40, 112, 320))
    nodes = [module for name, module in slim.named_modules() if name.endswith("pointwise") and "predict" not in name]
    assert {node.out_channels for node in nodes} == {round_channels(64, 1 - SHARE)}
    rows = len(OBJECTS) * slim.config.anchors_per_cell
    assert slim.class_head.predict.pointwise.out_channels == rows


def test_the_least_important_channels_are_those_that_go() -> None:
    """Channels that nothing reads and that are almost nothing themselves go before all others."""
    network = detector(fpn_channels=64)
    small = [3, 10, 17, 40]
    with torch.no_grad():
        for level in network.class_head.norms:
            level[0].weight[small] = 0.001
        network.class_head.convs[0].pointwise.weight[small] *= 0.001
        network.class_head.predict.depthwise.weight[small] *= 0.001
        network.class_head.predict.pointwise.weight[:, small] *= 0.001
    kept = network.class_head.norms[0][0].weight.detach().clone()
    slim = pruned(network, SHARE).network
    assert isinstance(slim, EfficientDet)
    assert (kept == 0.001).sum() == len(small)
    assert not (slim.class_head.norms[0][0].weight == 0.001).any()


class Pruned(dict[str, Path]):
    """Pruned checkpoints of the tasks, each written by the command when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, task: str) -> Path:
        whole = checkpoint(task, self.folder / f"{task}.ckpt")
        path = self.folder / f"{task}_pruned.ckpt"
        assert main(["prune", "--ckpt_path", str(whole), "--output", str(path)]) == 0
        self[task] = path
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Pruned(tmp_path_factory.mktemp("pruned"))


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_gives_the_pruned_network_back(task: str, files: dict[str, Path], pixels: torch.Tensor) -> None:
    whole = network_of(task)
    layers = {name: tuple(value.shape) for name, value in whole.state_dict().items()}
    slim = pruned(whole, SHARE).network
    loaded = load_any(files[task])
    for answer, expected in zip(all_outputs(loaded.network, pixels), all_outputs(slim, pixels), strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert {name: tuple(value.shape) for name, value in loaded.network.state_dict().items()} != layers
    if task != "segmentation":
        assert loaded.model["postprocess"]["iou_threshold"] == 0.4  # the settings of the former checkpoint are kept


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", TASKS)
def test_a_predictor_takes_it(task: str, files: dict[str, Path]) -> None:
    import detection
    import joint
    import segmentation

    load = {"detection": detection.load, "segmentation": segmentation.load, "joint": joint.load}[task]
    answer = load(files[task]).predict(picture(120, 170))
    assert answer is not None


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", TASKS)
def test_it_can_be_pruned_again(task: str, files: dict[str, Path]) -> None:
    once = load_any(files[task])
    twice = pruned(once.network, 0.5)
    assert twice.after.parameters < 0.8 * twice.before.parameters
    assert isinstance(checkpoint_of(once, twice.network)["state_dict"], dict)


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_other_classes_fit_the_cut_layers(task: str, files: dict[str, Path], pixels: torch.Tensor) -> None:
    network = load_any(files[task]).network
    if isinstance(network, EfficientDet):
        network.set_classes(BoxClasses.numbered(5))
    else:
        assert isinstance(network, Segmenter)
        network.set_classes(MaskClasses.numbered(5))
    again = type(network).from_settings(network.settings())
    again.load_state_dict(network.state_dict())
    for answer, expected in zip(all_outputs(again.eval(), pixels), all_outputs(network, pixels), strict=True):
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_an_auxiliary_head_takes_other_classes() -> None:
    network = pruned(segmenter(aux_head=True), SHARE).network
    assert isinstance(network, Segmenter)
    network.set_classes(MaskClasses.numbered(5))
    Segmenter.from_settings(network.settings()).load_state_dict(network.state_dict())


@pytest.mark.slow  # an export to ONNX; no part of it knows of pruning
@pytest.mark.parametrize("task", TASKS)
def test_an_exported_file_is_equal(task: str, files: dict[str, Path], tmp_path: Path, pixels: torch.Tensor) -> None:
    path = tmp_path / "pruned.onnx"
    raw = {"detection": ["--nms", "outside"], "segmentation": ["--argmax", "false"]}
    raw["joint"] = [*raw["detection"], *raw["segmentation"]]
    options = [*raw[task], "--image_size", "[128, 192]", "--batch_size", "1"]
    assert main(["export", "--ckpt_path", str(files[task]), "--output", str(path), *options]) == 0
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: pixels.numpy()}
    found = dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))
    expected = all_outputs(load_any(files[task]).network, pixels)
    for value in expected:
        nearest = min(
            float(np.abs(other - value.numpy()).max()) for other in found.values() if other.shape == tuple(value.shape)
        )
        assert nearest < 1e-3


def test_a_network_without_widths_is_what_it_was() -> None:
    network = detector()
    assert network.config.widths == ()
    assert widths_between(network, detector()) == ()


def spoilt(task: str, path: Path, files: dict[str, Path], widths: object) -> Path:
    """The pruned checkpoint with other widths."""
    content = torch.load(files[task], weights_only=True)
    model = content["effdense"]["model"]
    for part in (model, model.get("detector"), model.get("segmenter")):
        if part is not None and "architecture" in part:
            stored = part["architecture"]["widths"]
            part["architecture"]["widths"] = widths(stored) if callable(widths) else widths
    torch.save(content, path)
    return path


BAD = {
    "text": ("wide", "architecture.widths has 'wide'"),
    "no number": ([["backbone.bn1", "x", 8]], "architecture.widths has"),
    "zero": ([["backbone.bn1", 0, 0]], "architecture.widths has"),
    "no entry": ([["backbone.bn1", 8]], "architecture.widths has"),
    "twice": (lambda stored: [*stored, stored[0]], "twice"),
    "no such layer": ([["backbone.bn99", 8, 8]], "is no layer of this network"),
    "another kind": ([["backbone.blocks", 8, 8]], "is a Sequential"),
    "too wide": ([["backbone.bn1", 999, 999]], "allowed: at most 32, 32"),
    "two numbers of a norm": ([["backbone.bn1", 8, 16]], "allowed: equal numbers"),
    "one layer alone": ([["backbone.bn1", 8, 8]], "do not fit each other"),
}


@pytest.mark.by_default("text-detection", "too wide-detection", "one layer alone-detection")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", BAD)
def test_widths_that_are_wrong_are_refused(case: str, task: str, files: dict[str, Path], tmp_path: Path) -> None:
    widths, words = BAD[case]
    path = spoilt(task, tmp_path / "bad.ckpt", files, widths)
    with pytest.raises(InputError, match=r"architecture\.widths") as error:
        load_any(path)
    assert words in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.by_default("detection")
@pytest.mark.parametrize("task", TASKS)
def test_weights_of_other_widths_are_refused(task: str, files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_any(spoilt(task, tmp_path / "bad.ckpt", files, []))


def test_image_net_weights_do_not_go_into_a_cut_backbone() -> None:
    widths = pruned(detector(), SHARE).network.config.widths
    with pytest.raises(InputError, match="Set backbone_weights to null"):
        EfficientDet("lite0", fpn_channels=16, widths=widths, backbone_weights="imagenet")


def test_a_pruned_part_is_not_joined_to_a_whole_one() -> None:
    network = tiny_network()
    boxes = EfficientDet.from_settings(network.detector.settings())
    masks = Segmenter.from_settings(network.segmenter.settings())
    slim = pruned(boxes, SHARE).network
    assert isinstance(slim, EfficientDet)
    with pytest.raises(InputError, match="prune the joint network"):
        JointNetwork(slim, masks)


def test_other_decoders_and_given_backbones_are_refused() -> None:
    with pytest.raises(InputError, match="decoder is unet"):
        pruned(segmenter(decoder="unet"), SHARE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--share", "1"], "share"),
        (["--share", "0"], "share"),
        (["--output", "x.onnx"], "a checkpoint's name ends in .ckpt"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], words: str, files: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["prune", "--ckpt_path", str(files["detection"]), *options]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_prefix_of_the_weights_is_the_tasks() -> None:
    for task in TASKS:
        loaded = load_any_of(task)
        assert all(key.startswith(f"{PARTS[task]}.") for key in checkpoint_of(loaded, loaded.network)["state_dict"])


def load_any_of(task: str):
    from deployment.networks import Loaded

    return Loaded(network_of(task), task, {}, "x.ckpt", "", "")
