"""Compound scaling against timm's networks and rounding, the paper's equation and table, and torch's count of MACs."""

import json
import math

import pytest
import timm
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from timm.models._efficientnet_builder import decode_arch_def
from timm.models._efficientnet_builder import round_channels as timm_round_channels
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbones.features import EfficientNetFeatures
from backbones.networks import create_classifier, create_features, resolve_name
from backbones.scaling import (
    BASE_REPEATS,
    MEMBERS,
    PAPER,
    PHI_RANGE,
    Coefficients,
    Point,
    ScaledNetwork,
    member_phi,
    read_scaled_name,
    round_channels,
    round_repeats,
    scaled_name,
)
from engine.errors import InputError
from segmentation.network.model import Segmenter

PHIS = [0.5, 1.5, 3.3]


def macs(network: nn.Module, side: int) -> float:
    """Multiply-accumulates of convolutions and linear layers, as torch counts them (two operations each)."""
    network.eval()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


def on_meta(network):
    with torch.device("meta"):
        return create_classifier(network)


@pytest.fixture(scope="module")
def base_macs() -> float:
    with torch.device("meta"):
        return macs(timm.create_model("tf_efficientnet_b0"), 224)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


# The members.


@pytest.mark.by_default("b0", "b3", "b7")
@pytest.mark.parametrize("member", MEMBERS)
def test_members_are_timms_to_the_last_parameter(member):
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_efficientnet_{member}")
    ours = on_meta(MEMBERS[member])
    assert shapes(ours) == shapes(theirs)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert timm.get_pretrained_cfg(f"tf_efficientnet_{member}").input_size == (3, *2 * [MEMBERS[member].resolution])


@pytest.mark.parametrize(("phi", "member"), [(0, "b0"), (0.5, "b1"), (1, "b2"), (2, "b3"), (3.3, "b4")])
def test_the_official_rounding_of_the_equation_gives_members(phi, member):
    with torch.device("meta"):
        theirs = timm.create_model(f"efficientnet_{member}")
    assert shapes(on_meta(scaled_name(phi, padding="symmetric", rounding="official"))) == shapes(theirs)


@pytest.mark.parametrize("member", ["b5", "b6", "b7"])
def test_the_largest_members_are_on_no_phi(member):
    found = MEMBERS[member]
    by_depth, by_width = math.log(found.depth) / math.log(1.2), math.log(found.width) / math.log(1.1)
    assert by_width - by_depth > 0.5  # and half a φ is more than a decimal of the multipliers
    phis = [step / 50 for step in range(200, 400)]
    assert all((p.width, p.depth) != (found.width, found.depth) for p in (PAPER.at(phi, "official") for phi in phis))


@pytest.mark.parametrize(("name", "theirs"), [("tf_efficientnet_phi0", "tf_efficientnet_b0"),
                                              ("efficientnet_phi0.5_official", "efficientnet_b1")])  # fmt: skip
def test_outputs_equal_timms(name, theirs):
    torch.manual_seed(0)
    reference, own = timm.create_model(theirs), create_classifier(name)
    own.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 75, 96)
    # In training too, which shows momentum and activation; in evaluation epsilon tells against the new statistics.
    with torch.no_grad():
        for training in (True, False):
            torch.testing.assert_close(own.train(training)(images), reference.train(training)(images), rtol=0, atol=0)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_equal_timms(output_stride):
    options = {"out_indices": (1, 2, 4), "output_stride": output_stride, "in_chans": 2, "drop_path_rate": 0.3}
    reference = timm.create_model("tf_efficientnet_b0", features_only=True, **options)
    own = create_features("tf_efficientnet_phi0", **options)
    own.load_state_dict(reference.state_dict())
    images = torch.randn(2, 2, 65, 64)
    with torch.no_grad():
        for training in (True, False):  # training with the same dropped paths
            torch.manual_seed(1)
            expected = reference.train(training)(images)
            torch.manual_seed(1)
            for ours, theirs in zip(own.train(training)(images), expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


# The rules.


def test_the_equation():
    """Equation 3, and the sizes that readers of the paper compute from it (tensorflow/tpu issue 390)."""
    assert (PAPER.alpha, PAPER.beta, PAPER.gamma) == (1.2, 1.1, 1.15)
    assert PAPER.cost == pytest.approx(1.9203, abs=1e-4)
    for phi, side in ((0, 224), (1, 257.6), (2, 296.24), (3, 340.68), (4, 391.78), (5, 450.54), (7, 595.84)):
        point = PAPER.at(phi)
        assert abs(point.resolution - side) <= 2
        assert point.resolution % 4 == 0
        assert math.log(point.depth, 1.2) == pytest.approx(phi)
        assert math.log(point.width, 1.1) == pytest.approx(phi)


@settings(max_examples=200, deadline=None)
@given(st.integers(8, 2000), st.floats(0.1, 16))
def test_channels_are_timms_multiples_of_eight(channels, width):
    rounded = round_channels(channels, width)
    assert rounded == timm_round_channels(channels, width)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels * width


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.floats(0.1, 8))
def test_repeats_are_timms(repeats, depth):
    assume(repeats * depth % 1 != 0.5)  # Python's rounding, which timm uses, takes halves to the even neighbour
    for rounding, theirs in (("official", "ceil"), ("nearest", "round")):
        blocks = decode_arch_def([[f"ir_r{repeats}_k3_s1_e6_c16"]], depth, depth_trunc=theirs)
        assert round_repeats(repeats, depth, rounding) == len(blocks[0])


def test_a_half_block_is_rounded_up():
    assert [round_repeats(count, 1.5, "nearest") for count in (1, 2, 3, 5)] == [2, 3, 5, 8]


def test_coefficients_of_one_leave_their_dimension():
    deeper, wider, larger = (Coefficients(*row).at(1) for row in ((2, 1, 1), (1, 1.5, 1), (1, 1, 1.5)))
    assert (deeper.repeats, deeper.width, deeper.resolution) == (tuple(2 * n for n in BASE_REPEATS), 1, 224)
    assert (wider.repeats, wider.channels[:2], wider.resolution) == (BASE_REPEATS, (24, 40), 224)
    assert (larger.repeats, larger.width, larger.resolution) == (BASE_REPEATS, 1, 336)


# What it costs.


@pytest.mark.by_default("1.5", "3.3")
@pytest.mark.parametrize("phi", PHIS)
def test_phi_lies_on_the_cost_curve(phi, base_macs):
    point = PAPER.at(phi)
    assert macs(on_meta(point), point.resolution) / base_macs == pytest.approx(2**phi, rel=0.15)


@pytest.mark.slow
def test_the_whole_curve_and_why_repeats_are_not_rounded_up(base_macs):
    excess = {}
    for rounding in ("nearest", "official"):
        points = {phi: PAPER.at(phi, rounding) for phi in (0.6, 1.25, 2, 2.5, 3)}
        excess[rounding] = [macs(on_meta(p), p.resolution) / base_macs / 2**phi - 1 for phi, p in points.items()]
    assert max(map(abs, excess["nearest"])) < 0.16
    # With every stage's repeats rounded up, a network half a φ above B0 has the blocks of one a whole φ above it.
    assert excess["official"][0] > 0.4


def test_large_phi_follows_the_coefficients_own_cost(base_macs):
    point = PAPER.at(6)
    assert macs(on_meta(point), point.resolution) / base_macs == pytest.approx(PAPER.cost**6, rel=0.1)


@pytest.mark.by_default("0", "3")
@pytest.mark.parametrize("index", range(1, 8))
def test_the_phi_of_a_member_is_that_of_its_cost(index, base_macs):
    with torch.device("meta"):
        theirs = macs(timm.create_model(f"tf_efficientnet_b{index}"), MEMBERS[f"b{index}"].resolution)
    assert member_phi(index) == pytest.approx(math.log(theirs / base_macs) / math.log(1.92), abs=0.1)
    assert member_phi(index - 1) < member_phi(index - 0.5) < member_phi(index)


# In use.


@pytest.mark.by_default("0.5", "1.5")
@pytest.mark.parametrize("phi", PHIS)
def test_a_step_of_training(phi):
    torch.manual_seed(0)
    features = EfficientNetFeatures(scaled_name(phi), drop_path=0.1)
    before = {key: parameter.detach().clone() for key, parameter in features.named_parameters()}
    optimizer = torch.optim.SGD(features.parameters(), lr=0.1)
    sum((level_map - 1).square().mean() for level_map in features(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    for key, parameter in features.named_parameters():
        assert parameter.isfinite().all(), key
        assert not torch.equal(parameter, before[key]), key


@pytest.mark.by_default("8", "32")
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_the_extractors_options(output_stride):
    name = "efficientnet_phi0.5_a1.4_b1.05_g1.1"
    point = Coefficients(1.4, 1.05, 1.1).at(0.5)
    features = EfficientNetFeatures(
        name, levels=(1, 3, 5), output_stride=output_stride, in_channels=1, frozen_stages=2, drop_path=0.2,
        freeze_norm=True, grad_checkpointing=True, exact_gates=True, norm_momentum=0.2,
    )  # fmt: skip
    assert features.name == name
    assert not features.same_padding
    assert features.stage_lengths == point.repeats
    assert features.channels == (point.channels[0], point.channels[2], point.channels[6])
    assert features.strides == tuple(min(stride, output_stride) for stride in (2, 8, 32))
    assert features.image_norm.mean == pytest.approx(
        (0.449,)
    )  # of ImageNet's three, as timm adapts one-channel weights
    maps = features(torch.randn(2, 1, 65, 97))
    for level_map, channels, stride in zip(maps, features.channels, features.strides, strict=True):
        assert level_map.shape == (2, channels, math.ceil(65 / stride), math.ceil(97 / stride))
    maps[-1].mean().backward()
    still = [key for key, parameter in features.named_parameters() if parameter.grad is None and ".bn" not in key]
    assert {key.rpartition(".")[0] for key in still if "blocks" not in key} == {"conv_stem", "bn1"}
    assert {".".join(key.split(".")[:2]) for key in still if "blocks" in key} == {"blocks.0"}


def test_padding_and_epsilon_go_with_the_name():
    for name, epsilon, same in (("tf_efficientnet_phi0.5", 1e-3, True), ("efficientnet_phi0.5", 1e-5, False)):
        features = EfficientNetFeatures(name)
        assert features.same_padding is same
        assert {m.eps for m in features.modules() if isinstance(m, nn.BatchNorm2d)} == {epsilon}


def test_a_scaled_segmenter_comes_back_from_its_settings():
    segmenter = Segmenter("b0", 3, backbone="tf_efficientnet_phi0.5", decoder_channels=16, output_stride=16).eval()
    assert segmenter.backbone.channels[-1] == PAPER.at(0.5).channels[-1]
    other = Segmenter.from_settings(json.loads(json.dumps(segmenter.settings()))).eval()
    other.load_state_dict(segmenter.state_dict())
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(other(images), segmenter(images), rtol=0, atol=0)


def test_weights_of_another_phi_are_refused(tmp_path):
    torch.save(create_features("tf_efficientnet_phi0.5").state_dict(), tmp_path / "half.pth")
    loaded = EfficientNetFeatures("tf_efficientnet_phi0.5", weights=tmp_path / "half.pth")
    assert torch.equal(loaded.conv_stem.weight, torch.load(tmp_path / "half.pth")["conv_stem.weight"])
    with pytest.raises(InputError, match=r"tf_efficientnet_phi1\.5"):
        EfficientNetFeatures("tf_efficientnet_phi1.5", weights=tmp_path / "half.pth")
    with pytest.raises(InputError, match=r"published for tf_efficientnet_phi1\.5"):
        EfficientNetFeatures("tf_efficientnet_phi1.5", weights="imagenet")


# Names.


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-4_000_000, 10_000_000), st.integers(0, 100_000), st.sampled_from(["same", "symmetric"]),
    st.sampled_from(["nearest", "official"]), st.booleans(),
)  # fmt: skip
def test_names_round_trip(millionths, more, padding, rounding, papers):
    coefficients = PAPER if papers else Coefficients((1_000_000 + more) / 1e6, 1.05, 1)
    scaled = ScaledNetwork(millionths / 1e6, coefficients, padding, rounding)
    assert read_scaled_name(scaled.name) == scaled
    assert resolve_name(scaled.name) == scaled.name


def test_names_as_they_are_written():
    assert scaled_name(1.5) == "tf_efficientnet_phi1.5"
    assert scaled_name(-0.0, padding="symmetric") == "efficientnet_phi0"
    assert scaled_name(1, Coefficients(1.4, 1.05, 1.1), "symmetric") == "efficientnet_phi1_a1.4_b1.05_g1.1"
    assert (
        scaled_name(1, Coefficients(1.4, 1, 1.1), rounding="official") == "tf_efficientnet_phi1_a1.4_b1_g1.1_official"
    )
    assert resolve_name("efficientnet_phi01.50") == "efficientnet_phi1.5"
    assert read_scaled_name("tf_efficientnet_b0.ap_in1k") is None
    assert read_scaled_name("efficientnet_phi2").point == PAPER.at(2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("efficientnet_phi1,5", "Give efficientnet_phi1.5"),
        ("efficientnet_phinan", "Give efficientnet_phi1.5"),
        ("efficientnet_phi", "Give efficientnet_phi1.5"),
        ("tf_efficientnet_phi1_a1.2", "efficientnet_phi1_a1.4_b1.05_g1.1"),
        ("tf_efficientnet_phi1.5.in1k", "names no network"),
        ("efficientnet_phi-5", "phi is -5; give a number from -4 to 10"),
        ("efficientnet_phi99", "phi is 99; give a number from -4 to 10"),
        ("efficientnet_phi1_a0.9_b1_g1", "alpha is 0.9; it must be at least 1"),
        ("efficientnet_phi9_a2_b1_g1", "depth of the scaled network is 512; allowed is 0.1 to 16"),
        ("efficientnet_phi9_a1_b1_g1.5", "resolution of the scaled network is 8612; allowed is 32 to 4096"),
    ],
)
def test_names_of_no_network(name, said):
    for use in (resolve_name, EfficientNetFeatures, create_classifier):
        with pytest.raises(InputError) as caught:
            use(name)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("phi", [math.nan, math.inf, -math.inf, 30, PHI_RANGE[0] - 0.01])
def test_no_network_at_phi(phi):
    for use in (PAPER.at, scaled_name):
        with pytest.raises(InputError, match=r"phi is .*; give a number from -4 to 10"):
            use(phi)


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.99), ("beta", math.nan), ("gamma", math.inf), ("gamma", -1.0)])
def test_coefficients_below_one(name, value):
    with pytest.raises(InputError, match=f"{name} is .*; it must be at least 1"):
        Coefficients(**{name: value})


def test_points_without_use():
    with pytest.raises(InputError, match=r"width of the scaled network is 0\.05"):
        Point(0.05, 1, 224)
    with pytest.raises(InputError, match="depth of the scaled network is nan"):
        Point(1, math.nan, 224)
    with pytest.raises(InputError, match="Did you mean 'nearest'"):
        Point(1, 1, 224, "nearst")
