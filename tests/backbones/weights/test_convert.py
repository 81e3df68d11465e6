"""The project's own weight file: bit-identical, reproducible, and read with its metadata."""

import hashlib
import json

import efficientnet_pytorch
import pytest
import safetensors
import safetensors.torch
import timm
import torch
import torchvision

from backbones.features import EfficientNetFeatures
from backbones.layouts.own import read_metadata
from backbones.weights.convert import convert
from engine.errors import InputError
from tests.backbones.foreign import assert_close, images, randomised, zylo_state

LITE0 = "tf_efficientnet_lite0"


def written(path):
    """Tensors and metadata of a converted file."""
    with safetensors.safe_open(path, framework="pt") as file:
        return safetensors.torch.load_file(path), json.loads(file.metadata()["effdense"])


def bits(state):
    """The bytes of all tensors, without their names and order."""
    return sorted(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for tensor in state.values())


@pytest.fixture(scope="module")
def lite0():
    return randomised(timm.create_model(LITE0)).state_dict()


SOURCES = {
    "timm": (LITE0, lambda: timm.create_model(LITE0).state_dict(), LITE0),
    "torchvision": ("efficientnet_b0", lambda: randomised(torchvision.models.efficientnet_b0()).state_dict(), None),
    "efficientnet_pytorch": (
        "tf_efficientnet_b0",
        lambda: randomised(efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0")).state_dict(),
        None,
    ),
}


@pytest.mark.parametrize("library", SOURCES)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_conversion_is_bit_identical_and_repeatable(tmp_path, library, dtype):
    name, build, given = SOURCES[library]
    state = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in build().items()}
    torch.save(state, tmp_path / "source.pth")
    convert(tmp_path / "source.pth", tmp_path / "once.safetensors", given)
    tensors, metadata = written(tmp_path / "once.safetensors")
    assert bits(tensors) == bits(state)
    assert metadata["name"] == name
    assert metadata["source"] == library
    assert metadata["file"] == "source.pth"

    from_source = EfficientNetFeatures(name, weights=tmp_path / "source.pth").state_dict()
    from_converted = EfficientNetFeatures(name, weights=tmp_path / "once.safetensors").state_dict()
    assert all(torch.equal(from_source[key], from_converted[key]) for key in from_source)

    convert(tmp_path / "once.safetensors", tmp_path / "twice.safetensors")
    convert(tmp_path / "source.pth", tmp_path / "again.safetensors", given)
    once = (tmp_path / "once.safetensors").read_bytes()
    assert (tmp_path / "twice.safetensors").read_bytes() == once
    assert (tmp_path / "again.safetensors").read_bytes() == once


def test_only_the_backbone_of_a_detector_is_written(tmp_path):
    network = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0")
    state = zylo_state(randomised(network))
    torch.save(state, tmp_path / "d0.pth")
    convert(tmp_path / "d0.pth", tmp_path / "b0.safetensors")
    tensors, _ = written(tmp_path / "b0.safetensors")
    assert bits(tensors) == bits({key: value for key, value in state.items() if key.startswith("backbone_net")})


@torch.no_grad()
def test_epsilon_travels_with_the_weights(tmp_path):
    network = randomised(torchvision.models.efficientnet_v2_s())
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    metadata = convert(tmp_path / "weights.pth", tmp_path / "own.safetensors")
    assert metadata.norm_eps == 1e-3
    expected = network.features[:-1](images(64))
    for norm_eps in (None, 1e-3):
        same = EfficientNetFeatures(
            "efficientnetv2_s", weights=tmp_path / "own.safetensors", levels=(5,), norm_eps=norm_eps
        ).eval()
        assert_close(same(images(64))[0], expected)
    assert torch.equal(same.bn1.running_var, network.features[0][1].running_var)


def test_metadata_of_a_published_tag(tmp_path, lite0):
    name = "tf_efficientnet_lite0.in1k"
    torch.save(lite0, tmp_path / f"{name}.pth")
    metadata = convert(tmp_path / f"{name}.pth", tmp_path / "own.safetensors")
    config = timm.get_pretrained_cfg(name)
    assert (metadata.name, metadata.licence) == (name, config.license)
    assert (metadata.mean, metadata.std) == (config.mean, config.std)
    assert metadata.input_size == config.input_size
    assert (metadata.padding, metadata.norm_eps, metadata.version) == ("same", 1e-3, 1)
    assert read_metadata(tmp_path / "own.safetensors") == metadata


def test_the_publishers_licence_needs_the_publishers_bytes(tmp_path):
    torch.save(torchvision.models.efficientnet_b0().state_dict(), tmp_path / "mine.pth")
    content = (tmp_path / "mine.pth").read_bytes()
    published = tmp_path / f"efficientnet_b0-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    forged = tmp_path / "efficientnet_b0-7f5810bc.pth"
    for path, licence in ((published, "BSD-3-Clause"), (forged, "unknown"), (tmp_path / "mine.pth", "unknown")):
        path.write_bytes(content)
        assert convert(path, tmp_path / "own.safetensors").licence.startswith(licence)
    assert convert(forged, tmp_path / "own.safetensors", licence="MIT").licence == "MIT"


def test_where_keys_do_not_tell_the_padding_the_name_must(tmp_path, lite0):
    torch.save(lite0, tmp_path / "mine.pth")
    with pytest.raises(
        InputError, match=r"fits efficientnet_lite0 and tf_efficientnet_lite0, .* Say which by the name"
    ):
        convert(tmp_path / "mine.pth", tmp_path / "own.safetensors")
    for name in ("efficientnet_lite0", LITE0):
        assert convert(tmp_path / "mine.pth", tmp_path / "own.safetensors", name).name == name
        torch.save(lite0, tmp_path / f"{name}-0123abcd.pth")
        assert convert(tmp_path / f"{name}-0123abcd.pth", tmp_path / "own.safetensors").name == name


def test_a_scaled_network(tmp_path):
    name = "tf_efficientnet_phi0.5"
    features = EfficientNetFeatures(name, levels=(1, 2, 3, 4, 5))
    torch.save(features.state_dict(), tmp_path / "scaled.pth")
    metadata = convert(tmp_path / "scaled.pth", tmp_path / "own.safetensors", name)
    loaded = EfficientNetFeatures(name, weights=tmp_path / "own.safetensors", levels=(5,)).state_dict()
    assert all(torch.equal(tensor, features.state_dict()[key]) for key, tensor in loaded.items())
    assert (metadata.padding, metadata.licence) == ("same", "unknown")


@pytest.fixture
def own(tmp_path, lite0):
    torch.save(lite0, tmp_path / "source.pth")
    convert(tmp_path / "source.pth", tmp_path / "own.safetensors", LITE0)
    return tmp_path / "own.safetensors"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tf_efficientnet_b0"])
def test_a_converted_file_is_only_of_its_member(own, name):
    with pytest.raises(InputError, match=f"do not fit {name}: the file holds {LITE0}. Ask for that"):
        EfficientNetFeatures(name, weights=own)
    with pytest.raises(InputError, match=f"it holds {LITE0}, not {name}"):
        convert(own, own.with_name("other.safetensors"), name)


def test_another_normalisation_is_told(own):
    tensors, metadata = written(own)
    metadata["mean"] = [0.485, 0.456, 0.406]
    safetensors.torch.save_file(tensors, own, metadata={"effdense": json.dumps(metadata)})
    with pytest.warns(UserWarning, match="trained with mean and std"):
        EfficientNetFeatures(LITE0, weights=own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda metadata: metadata.update(version=2), "version 2 of EffDense's layout"),
        (lambda metadata: metadata.pop("mean"), "damaged metadata"),
        (lambda metadata: metadata.update(padding="valid"), "damaged metadata"),
        (lambda metadata: metadata.update(norm_eps="x"), "damaged metadata"),
        (lambda metadata: metadata.update(mean=[float("nan")] * 3), "damaged metadata"),
        (lambda metadata: metadata.update(surprise=1), "damaged metadata"),
    ],
    ids=["version", "mean", "padding", "epsilon", "nan", "unknown"],
)
def test_metadata_that_cannot_be_read(own, change, message):
    tensors, metadata = written(own)
    change(metadata)
    safetensors.torch.save_file(tensors, own, metadata={"effdense": json.dumps(metadata)})
    with pytest.raises(InputError, match=message):
        EfficientNetFeatures(LITE0, weights=own)


@pytest.mark.parametrize(
    ("destination", "name", "message"),
    [
        ("own.pth", LITE0, "does not end in .safetensors"),
        ("source.safetensors", LITE0, "is the source itself"),
        ("own.safetensors", "tf_efficientnet_b0", "cannot be converted: .*missing"),
        ("own.safetensors", "resnet50", "no EfficientNet"),
        ("file/own.safetensors", LITE0, "cannot write into"),
    ],
)
def test_nothing_is_written_after_an_error(tmp_path, lite0, destination, name, message):
    safetensors.torch.save_file(lite0, tmp_path / "source.safetensors")
    (tmp_path / "file").write_text("")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "source.safetensors", tmp_path / destination, name)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
