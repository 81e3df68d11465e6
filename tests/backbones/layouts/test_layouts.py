"""Every importer against the library that wrote the file: equal maps, equal logits, and the right member named."""

import effdet
import efficientnet_lite_pytorch
import efficientnet_pytorch
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from backbones.features import EfficientNetFeatures
from backbones.layouts.members import HEAD, member
from backbones.layouts.recognise import recognise
from backbones.weights.convert import convert
from engine.errors import InputError
from tests.backbones.foreign import assert_close, images, randomised, zylo_state

pytestmark = pytest.mark.filterwarnings("ignore:.*`timm-` encoders are deprecated", "ignore:.*torch.jit.script")


def slowly(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def converted_classifier(source, folder, name=None):
    """Timm's classifier with the weights of a converted file, and the metadata of the file."""
    metadata = convert(source, folder / "converted.safetensors", name)
    network = timm.create_model(metadata.name).eval()
    network.load_state_dict(safetensors.torch.load_file(folder / "converted.safetensors"), strict=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = metadata.norm_eps
    return network, metadata


def last_of_each_size(layers, x):
    """The maps of stride 2 to 32 of a chain of layers."""
    last = {}
    for layer in layers:
        x = layer(x)
        last[x.shape[-1]] = x
    return list(last.values())


def smp_maps(encoder, x):
    """The last maps of stride 4 to 32."""
    if not hasattr(encoder, "_blocks"):
        return encoder(x)[2:]  # the first two are the image and the stem's
    # Not `encoder(x)`: of B0 that gives the first block's output of stride 16, where it gives the last one's elsewhere.
    stem = encoder._swish(encoder._bn0(encoder._conv_stem(x)))
    return last_of_each_size(encoder._blocks, stem)[1:]


@pytest.mark.by_default("b0-97")
@pytest.mark.parametrize(
    ("short", "size"),
    # B5 and V2 have another epsilon than timm's members.
    [("b0", 97), pytest.param("b1", 64, marks=pytest.mark.slow), ("b5", 33), ("v2_s", 64)],
)
@torch.no_grad()
def test_torchvision(tmp_path, short, size):
    network = randomised(getattr(torchvision.models, f"efficientnet_{short}")(num_classes=50))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    name = f"efficientnet{short}" if short.startswith("v2") else f"efficientnet_{short}"
    features = EfficientNetFeatures(name, weights=tmp_path / "weights.pth", levels=(1, 2, 3, 4, 5)).eval()
    x = images(size)
    for ours, theirs in zip(features(x), last_of_each_size(network.features[:-1], x), strict=True):
        assert_close(ours, theirs)
    metadata = convert(tmp_path / "weights.pth", tmp_path / "converted.safetensors")
    assert metadata.name == name
    assert metadata.norm_eps == network.features[0][1].eps


@torch.no_grad()
def test_torchvisions_logits(tmp_path):
    network = randomised(torchvision.models.efficientnet_b0())
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    ours, metadata = converted_classifier(tmp_path / "weights.pth", tmp_path)
    assert_close(ours(images(64)), network(images(64)))
    assert (metadata.source, metadata.padding, metadata.input_size) == ("torchvision", "symmetric", (3, 224, 224))


@pytest.mark.by_default("b0-64", "lite1-97")
@pytest.mark.parametrize(("short", "size"), [("b0", 64), ("b1", 97), ("lite0", 64), ("lite1", 97)])
@torch.no_grad()
def test_efficientnet_pytorch(tmp_path, short, size):
    # Its padding is fixed at construction, so it must be told the size.
    library = efficientnet_lite_pytorch if short.startswith("lite") else efficientnet_pytorch
    theirs = library.EfficientNet.from_name(f"efficientnet-{short}", image_size=size)
    torch.save(randomised(theirs).state_dict(), tmp_path / "weights.pth")
    ours, metadata = converted_classifier(tmp_path / "weights.pth", tmp_path)
    assert metadata.name == f"tf_efficientnet_{short}"
    assert (metadata.norm_eps, metadata.padding) == (1e-3, "same")
    assert_close(ours(images(size)), theirs(images(size)))
    assert_close(ours.forward_features(images(size)), theirs.extract_features(images(size)))


@pytest.mark.parametrize("outer", ["", *slowly("model.")])
@torch.no_grad()
def test_zylos_backbone(tmp_path, outer):
    theirs = randomised(efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0", image_size=64))
    state = {outer + key: tensor for key, tensor in zylo_state(theirs).items()}
    torch.save(state, tmp_path / "efficientdet-d0.pth")
    features = EfficientNetFeatures(weights=tmp_path / "efficientdet-d0.pth", levels=(2, 3, 4, 5)).eval()
    endpoints = theirs.extract_endpoints(images(64))
    for level, ours in zip(features.levels, features(images(64)), strict=True):
        assert_close(ours, endpoints[f"reduction_{level}"])
    metadata = convert(tmp_path / "efficientdet-d0.pth", tmp_path / "converted.safetensors")
    assert (metadata.name, metadata.source) == ("tf_efficientnet_b0", "zylo117's Yet-Another-EfficientDet")


@pytest.mark.by_default("efficientdet_d0", "tf_efficientdet_lite0")
@pytest.mark.parametrize(
    ("name", "backbone", "wrong"),
    [
        ("tf_efficientdet_d0", "tf_efficientnet_b0", "efficientnet_b0"),
        ("tf_efficientdet_lite0", "tf_efficientnet_lite0", "efficientnet_lite0"),
        ("efficientdet_d0", "efficientnet_b0", "tf_efficientnet_b0"),
    ],
)
@torch.no_grad()
def test_effdets_backbone(tmp_path, name, backbone, wrong):
    theirs = randomised(effdet.create_model(name, pretrained=False, pretrained_backbone=False))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "weights.pth")
    features = EfficientNetFeatures(backbone, weights=tmp_path / "weights.pth").eval()
    for ours, expected in zip(features(images(64)), theirs.backbone(images(64)), strict=True):
        assert_close(ours, expected)
    assert convert(tmp_path / "weights.pth", tmp_path / "converted.safetensors").name == backbone
    with pytest.raises(InputError, match=f"networks of effdet pad .* Take {backbone}\\."):
        EfficientNetFeatures(wrong, weights=tmp_path / "weights.pth")


@pytest.mark.by_default("True-tu-tf_efficientnet_b0", "True-efficientnet-b0", "True-timm-efficientnet-b0")
@pytest.mark.parametrize(
    ("encoder", "ours", "size"),
    [
        ("tu-tf_efficientnet_b0", "tf_efficientnet_b0", 97),
        ("tu-efficientnet_lite0", "efficientnet_lite0", 64),
        ("efficientnet-b0", "tf_efficientnet_b0", 64),
        # Its padding is that of the member's own size.
        pytest.param("efficientnet-b1", "tf_efficientnet_b1", 240, marks=pytest.mark.slow),
        ("timm-efficientnet-b0", "efficientnet_b0", 97),
        ("timm-tf_efficientnet_lite0", "efficientnet_lite0", 64),  # whatever its name says
    ],
)
@pytest.mark.parametrize("whole", [True, *slowly(False)])
@torch.no_grad()
def test_smps_encoders(tmp_path, encoder, ours, size, whole):
    theirs = randomised(smp.FPN(encoder, encoder_weights=None, classes=2))
    torch.save((theirs if whole else theirs.encoder).state_dict(), tmp_path / "weights.pth")
    features = EfficientNetFeatures(ours, weights=tmp_path / "weights.pth", levels=(2, 3, 4, 5)).eval()
    for a, b in zip(features(images(size, 1)), smp_maps(theirs.encoder, images(size, 1)), strict=True):
        assert_close(a, b)
    if whole and not encoder.startswith("tu-"):
        wrong = ours.removeprefix("tf_") if ours.startswith("tf_") else f"tf_{ours}"
        with pytest.raises(InputError, match=f"networks of smp's .* pad .* Take {ours}\\."):
            EfficientNetFeatures(wrong, weights=tmp_path / "weights.pth")


@pytest.mark.by_default("tf_efficientnet_lite0")
@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "tf_efficientnet_lite0", *slowly("tf_efficientnetv2_b0", "tf_efficientnet_es")]
)
@torch.no_grad()
def test_timm(tmp_path, name):
    theirs = randomised(timm.create_model(name, num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    features = EfficientNetFeatures(name, weights=tmp_path / "weights.pth").eval()
    reference = timm.create_model(name, features_only=True, out_indices=(2, 3, 4)).eval()
    reference.load_state_dict({key: theirs.state_dict()[key] for key in reference.state_dict()}, strict=True)
    for ours, expected in zip(features(images(64)), reference(images(64)), strict=True):
        assert_close(ours, expected)
    assert convert(tmp_path / "weights.pth", tmp_path / "converted.safetensors", name).source == "timm"


def torchvision_named(short):
    return f"efficientnet{short}" if short.startswith("v2") else f"efficientnet_{short}"


EVERY = [
    *((torchvision_named(short), lambda s=short: getattr(torchvision.models, f"efficientnet_{s}")())
      for short in (*(f"b{i}" for i in range(8)), "v2_s", "v2_m", "v2_l")),
    *((f"tf_efficientnet_b{i}", lambda i=i: efficientnet_pytorch.EfficientNet.from_name(f"efficientnet-b{i}"))
      for i in range(9)),
    ("tf_efficientnet_l2", lambda: efficientnet_pytorch.EfficientNet.from_name("efficientnet-l2")),
    *((f"tf_efficientnet_lite{i}",
       lambda i=i: efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-lite{i}")) for i in range(5)),
    *((f"tf_efficientnet_b{i}", lambda i=i: smp.FPN(f"efficientnet-b{i}", encoder_weights=None)) for i in range(8)),
    *((f"efficientnet_b{i}", lambda i=i: smp.FPN(f"timm-efficientnet-b{i}", encoder_weights=None)) for i in range(9)),
    *((f"efficientnet_lite{i}", lambda i=i: smp.FPN(f"timm-tf_efficientnet_lite{i}", encoder_weights=None))
      for i in range(5)),
    *((f"tf_efficientnet_{backbone}",
       lambda d=detector: effdet.create_model(f"tf_efficientdet_{d}", pretrained=False, pretrained_backbone=False))
      for detector, backbone in (("d1", "b1"), ("d4", "b4"), ("d7", "b6"), ("d7x", "b7"), ("lite4", "lite4"))),
    *((name, lambda name=name: timm.create_model(name)) for name in
      ("efficientnetv2_rw_t", "efficientnetv2_rw_s", "efficientnetv2_rw_m", "tf_efficientnetv2_b3")),
]  # fmt: skip


def small(name):
    return name.endswith(("b0", "b2", "lite0", "lite4", "v2_s"))


@pytest.mark.parametrize(
    ("name", "build"),
    [pytest.param(*entry, marks=() if small(entry[0]) else pytest.mark.slow) for entry in EVERY],
    ids=[f"{i}-{name}" for i, (name, _) in enumerate(EVERY)],
)
def test_names_and_shapes_of_every_member(name, build):
    with torch.device("meta"):
        network = build()
    found = recognise(network.state_dict())
    assert found.nearest().short == member(name).short
    assert found.padding in (None, member(name).padding)
    keys = found.layout.keys(member(name))
    optional = {keys[key] for key in keys if key.startswith(HEAD) or key.endswith("num_batches_tracked")}
    assert set(found.state) <= set(keys.values())
    assert set(keys.values()) - optional <= set(found.state)
    for key, shape in member(name).shapes.items():
        if keys[key] in found.state:
            assert tuple(found.layout.tensor(key, found.state[keys[key]]).shape) == shape, key


@pytest.mark.parametrize(
    ("build", "wrong", "message"),
    [
        (lambda: torchvision.models.efficientnet_b0(), "tf_efficientnet_b0",
         r"torchvision pad symmetrically, tf_efficientnet_b0 does not\. Take efficientnet_b0\."),
        (lambda: torchvision.models.efficientnet_b2(), "efficientnet_b0",
         r"the file holds efficientnet_b2\. Ask for that\."),
        (lambda: efficientnet_pytorch.EfficientNet.from_name("efficientnet-b1"), "efficientnet_b1",
         r"efficientnet_pytorch pad as TensorFlow does, efficientnet_b1 does not\. Take tf_efficientnet_b1\."),
        (lambda: efficientnet_pytorch.EfficientNet.from_name("efficientnet-b1"), "tf_efficientnet_b0",
         r"the file holds tf_efficientnet_b1\. Ask for that\."),
        (lambda: timm.create_model("efficientnet_b1"), "efficientnet_b0",
         r"the file holds efficientnet_b1 or tf_efficientnet_b1\. Ask for that\."),
    ],
)  # fmt: skip
def test_the_wrong_member_is_refused_and_the_right_one_named(tmp_path, build, wrong, message):
    torch.save(build().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as caught:
        EfficientNetFeatures(wrong, weights=tmp_path / "weights.pth")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_a_part_of_the_levels_and_other_channels(tmp_path):
    network = randomised(torchvision.models.efficientnet_b0())
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    features = EfficientNetFeatures("efficientnet_b0", weights=tmp_path / "weights.pth", levels=(2, 3), in_channels=1)
    assert torch.equal(features.conv_stem.weight, network.features[0][0].weight.sum(1, keepdim=True))
    assert torch.equal(features.blocks[2][1].conv_pwl.weight, network.features[3][1].block[3][0].weight)


def test_parts_of_no_known_network_are_named(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    state = {f"net.{key}": tensor for key, tensor in state.items()} | {"criterion.weight": torch.ones(1)}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"under 'net\.' it holds 1 keys? of no known .* \(criterion\.weight\)"):
        EfficientNetFeatures("tf_efficientnet_lite0", weights=tmp_path / "weights.pth")


def test_an_averaged_copy_beside_the_network_is_ambiguous(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    both = {f"net.{key}": tensor for key, tensor in state.items()} | {f"ema.{key}": t for key, t in state.items()}
    torch.save(both, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"holds 2 EfficientNets, with keys that begin with 'net\.', 'ema\.'"):
        EfficientNetFeatures("tf_efficientnet_lite0", weights=tmp_path / "weights.pth")
