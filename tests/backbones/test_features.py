"""The feature extractor against timm's own networks, and its strides, gradients and freezing."""

import copy
import warnings

import pytest
import timm
import torch
from torch import nn

from backbones.contract import ImageNorm
from backbones.features import EfficientNetFeatures
from backbones.networks import resolve_name
from engine.errors import InputError

MEMBERS = [
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "tf_efficientnet_b3",
    "tf_efficientnet_b7",
    "efficientnet_lite0",
    "tf_efficientnet_lite4",
    "efficientnetv2_s",
    "tf_efficientnetv2_b0",
    "efficientnetv2_rw_t",
    "efficientnet_b0_gn",
]


def randomise_statistics(module: nn.Module) -> None:
    """Running statistics like those after a training: at their initial values a misplaced batch norm would not show."""
    for key, tensor in module.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)


def total(maps: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([(level_map * level_map.detach().sign()).mean() for level_map in maps]).sum()


@pytest.mark.by_default("efficientnet_b0", "efficientnetv2_s", "tf_efficientnet_lite4")
@pytest.mark.parametrize("name", MEMBERS)
def test_maps_have_the_described_channels_and_strides_of_timm(name):
    with torch.device("meta"):
        reference = timm.create_model(name, features_only=True)
        features = EfficientNetFeatures(name, levels=(1, 2, 3, 4, 5))
        maps = features(torch.zeros(2, 3, 96, 64))
    assert features.channels == tuple(reference.feature_info.channels())
    assert features.strides == (2, 4, 8, 16, 32)
    for level_map, channels, stride in zip(maps, features.channels, features.strides, strict=True):
        assert level_map.shape == (2, channels, 96 // stride, 64 // stride)
    shapes = {key: tensor.shape for key, tensor in features.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in reference.state_dict().items()}


@pytest.mark.parametrize("name", ["efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_b0"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_equal_timms(name, output_stride):
    torch.manual_seed(0)
    reference = timm.create_model(name, features_only=True, output_stride=output_stride).eval()
    randomise_statistics(reference)
    features = EfficientNetFeatures(name, levels=(2, 3, 5), output_stride=output_stride).eval()
    features.load_state_dict(reference.state_dict())
    images = torch.randn(1, 3, 75, 96)
    with torch.no_grad():
        maps, expected = features(images), reference(images)
    for level_map, level in zip(maps, (2, 3, 5), strict=True):
        torch.testing.assert_close(level_map, expected[level - 1], rtol=0, atol=0)


# timm pads `tf_` members as TensorFlow does: of an even size, the strided convolutions keep the odd rows.
@pytest.mark.parametrize(
    ("name", "size", "output_stride", "phase"),
    [
        ("efficientnet_lite0", 96, 16, 0),
        ("efficientnet_lite0", 96, 8, 0),
        ("efficientnet_lite0", 97, 16, 0),
        ("tf_efficientnet_lite0", 96, 16, 1),
        ("tf_efficientnet_lite0", 96, 8, 3),
        ("tf_efficientnet_lite0", 97, 16, 0),
        ("tf_efficientnet_lite0", 97, 8, 0),
    ],
)
def test_atrous_features_contain_the_stride_32_features(name, size, output_stride, phase):
    torch.manual_seed(0)
    coarse = EfficientNetFeatures(name).eval()
    randomise_statistics(coarse)
    fine = EfficientNetFeatures(name, output_stride=output_stride).eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        expected, dense = coarse(images)[-1], fine(images)[-1]
    step = 32 // output_stride
    assert fine.strides == tuple(min(2**level, output_stride) for level in (3, 4, 5))
    assert relative_error(dense[..., phase::step, phase::step], expected) < 1e-4
    # The bound tells phases apart: the neighbouring grid is far away.
    neighbour = dense[..., (phase + 1) % step :: step, phase::step][..., : expected.shape[-2], :]
    rows = neighbour.shape[-2]
    assert relative_error(neighbour, expected[..., :rows, :]) > 0.1


def test_atrous_squeeze_excitation_members_stay_close():
    # Their gates average over a denser grid, so equality cannot hold.
    torch.manual_seed(0)
    coarse = EfficientNetFeatures("tf_efficientnet_b0").eval()
    randomise_statistics(coarse)
    fine = EfficientNetFeatures("tf_efficientnet_b0", output_stride=16).eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, 97, 97)
    with torch.no_grad():
        assert relative_error(fine(images)[-1][..., ::2, ::2], coarse(images)[-1]) < 0.04


def relative_error(given: torch.Tensor, expected: torch.Tensor) -> float:
    return float((given - expected).norm() / (expected - expected.mean()).norm())


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_b0"])
@pytest.mark.parametrize("levels", [(3, 4, 5), (1, 2), (2, 3), (3,), (2, 4)])
def test_every_trainable_parameter_gets_a_gradient(name, levels):
    features = EfficientNetFeatures(name, levels=levels)
    total(features(torch.randn(2, 3, 64, 64))).backward()
    assert [key for key, parameter in features.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_checkpointing_gives_equal_gradients_and_running_statistics(drop_path):
    plain = EfficientNetFeatures("tf_efficientnet_b0", levels=(2, 5), drop_path=drop_path)
    recomputed = copy.deepcopy(plain)
    recomputed.grad_checkpointing = True
    images = torch.randn(2, 3, 64, 64)
    for features in (plain, recomputed):
        torch.manual_seed(1)
        total(features(images)).backward()
    for ours, theirs in zip(recomputed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for (key, ours), theirs in zip(recomputed.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=f"{key}: the recomputed pass must not count twice")
    assert int(recomputed.bn1.num_batches_tracked) == int(recomputed.blocks[1][0].bn1.num_batches_tracked) == 1


def test_checkpointing_keeps_fewer_activations():
    def saved_bytes(grad_checkpointing: bool) -> int:
        features = EfficientNetFeatures("tf_efficientnet_lite0", grad_checkpointing=grad_checkpointing)
        stored: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            stored[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            maps = features(torch.randn(1, 3, 96, 96))
        assert maps
        return sum(stored.values()) - sum(parameter.nbytes for parameter in features.parameters())

    assert saved_bytes(grad_checkpointing=True) < 0.5 * saved_bytes(grad_checkpointing=False)


def test_drop_path_grows_with_depth_and_only_acts_in_training():
    features = EfficientNetFeatures("tf_efficientnet_lite0", drop_path=0.2)
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, drop_path_rate=0.2)
    rates = [module.drop_prob for module in features.modules() if hasattr(module, "drop_prob")]
    assert rates == [module.drop_prob for module in reference.modules() if hasattr(module, "drop_prob")]
    assert rates == sorted(rates)
    assert 0.15 < rates[-1] < 0.2
    images = torch.randn(2, 3, 64, 64)
    features.eval()
    assert torch.equal(features(images)[-1], features(images)[-1])


@pytest.mark.parametrize("frozen_stages", [0, 1, 3, -1])
def test_frozen_stages_never_move(frozen_stages):
    features = EfficientNetFeatures("tf_efficientnet_lite0", frozen_stages=frozen_stages, drop_path=0.2)
    prefixes = ["conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(7))]
    count = len(prefixes) if frozen_stages == -1 else frozen_stages and frozen_stages + 1
    frozen = tuple(prefixes[:count])
    changed = step_and_compare(features)
    assert changed == {key for key in features.state_dict() if not key.startswith(frozen)}


def test_frozen_norm_keeps_statistics_and_affine_parameters_everywhere():
    features = EfficientNetFeatures("tf_efficientnet_lite0", freeze_norm=True)
    changed = step_and_compare(features)
    assert changed == {f"{key}.weight" for key, module in features.named_modules() if isinstance(module, nn.Conv2d)}


def step_and_compare(features: EfficientNetFeatures) -> set[str]:
    """State-dict keys that a training step, entered through `.train()` after `.eval()`, changes."""
    before = copy.deepcopy(features.state_dict())
    features.eval().train()
    trainable = [parameter for parameter in features.parameters() if parameter.requires_grad]
    maps = features(torch.randn(4, 3, 64, 64))
    if trainable:
        # Adam moves every parameter that has a gradient, however small.
        optimizer = torch.optim.Adam(trainable, lr=0.1)
        total(maps).backward()
        optimizer.step()
    return {key for key, tensor in features.state_dict().items() if not torch.equal(tensor, before[key])}


def test_freezing_outlives_sync_batch_norm_conversion():
    features = EfficientNetFeatures("tf_efficientnet_lite0", frozen_stages=2, freeze_norm=True)
    converted = timm.layers.convert_sync_batchnorm(features).train()
    norms = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == 1 + 2 + 15 * 3
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_batch_norm_settings():
    def settings(features: EfficientNetFeatures) -> set[tuple[float, float]]:
        return {(norm.eps, norm.momentum) for norm in features.modules() if isinstance(norm, nn.BatchNorm2d)}

    assert settings(EfficientNetFeatures("tf_efficientnet_b0")) == {(1e-3, 0.01)}
    assert settings(EfficientNetFeatures("efficientnet_b0")) == {(1e-5, 0.01)}
    assert settings(EfficientNetFeatures("efficientnet_b0", norm_eps=1e-4, norm_momentum=0.1)) == {(1e-4, 0.1)}


@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_input_channels(in_channels):
    features = EfficientNetFeatures("tf_efficientnet_lite0", in_channels=in_channels)
    assert features(torch.zeros(1, in_channels, 64, 64))[0].shape == (1, 40, 8, 8)
    assert len(features.image_norm.mean) == in_channels


def test_image_norm_follows_the_weight_tag():
    imagenet = ImageNorm((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ImageNorm((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with torch.device("meta"):
        assert EfficientNetFeatures("tf_efficientnet_b0").image_norm == imagenet
        assert EfficientNetFeatures("tf_efficientnet_b0.ap_in1k").image_norm == half
        assert EfficientNetFeatures("tf_efficientnet_lite0").image_norm == half
        grey = EfficientNetFeatures("tf_efficientnet_b0", in_channels=1).image_norm
    assert grey.mean == pytest.approx((0.449,))


def test_old_names_mean_what_timm_says_without_its_warning():
    old = {
        name: current
        for name, current in timm.models.get_deprecated_models("efficientnet").items()
        if "efficientnet" in name
    }
    assert old["tf_efficientnet_b7_ns"] == "tf_efficientnet_b7.ns_jft_in1k"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {name: resolve_name(name) for name in old} == old
        with torch.device("meta"):
            assert EfficientNetFeatures("tf_efficientnet_b0_ap").name == "tf_efficientnet_b0.ap_in1k"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "tf_eficientnet_b0"}, "Did you mean 'tf_efficientnet_b0'"),
        ({"name": "resnet50"}, "'resnet50' is no EfficientNet"),
        ({"name": "mixnet_s"}, "'mixnet_s' is no EfficientNet"),
        ({"name": "tf_efficientnet_b0.ap"}, "has: aa_in1k, ap_in1k, in1k, ns_jft_in1k"),
        ({"levels": ()}, "out of 1 to 5"),
        ({"levels": (5, 4)}, "increasing levels"),
        ({"levels": (3, 6)}, "out of 1 to 5"),
        ({"output_stride": 4}, "allowed are 8, 16 and 32"),
        ({"in_channels": 0}, "at least 1"),
        ({"drop_path": 1.0}, "below 1"),
        ({"frozen_stages": 9}, "0 \\(none\\) to 8 or -1 \\(all\\)"),
        ({"frozen_stages": -2}, "0 \\(none\\) to 8 or -1 \\(all\\)"),
        ({"frozen_stages": 5, "levels": (2, 3)}, "0 \\(none\\) to 4 or -1 \\(all\\)"),
        ({"norm_momentum": 0.0}, "above 0"),
        ({"norm_eps": 0.0}, "between 0 and 1"),
    ],
)
def test_bad_arguments_are_named_with_what_is_allowed(arguments, message):
    with torch.device("meta"), pytest.raises(InputError, match=message) as caught:
        EfficientNetFeatures(**arguments)
    assert "\n" not in str(caught.value)


def test_extractor_can_be_exported():
    features = EfficientNetFeatures("tf_efficientnet_lite0", levels=(2, 3)).eval()
    images = torch.randn(1, 3, 64, 64)
    exported = torch.export.export(features, (images,), strict=False).module()
    for ours, theirs in zip(exported(images), features(images), strict=True):
        torch.testing.assert_close(ours, theirs)
