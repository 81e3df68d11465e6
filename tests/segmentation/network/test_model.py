"""The network: smp's where smp is right, aligned where it is not, any size, any decoder."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from benchmarks import alignment
from benchmarks.atrous_exactness import trained
from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.network.aspp import ASPP, PooledBatchNorm
from segmentation.network.deeplab import DeepLabHead
from segmentation.network.family import FAMILY, SegmenterArchitecture, SegmenterOverrides, architecture
from segmentation.network.model import Segmenter
from segmentation.task import SegmentationTask
from segmentation.weights.smp import load_smp

DECODERS = ["unet", "unetplusplus", "fpn", "pan", "manet", "linknet", "upernet"]


def shaken(network, seed=0):
    """The network in evaluation mode, with batch norms as after a training."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return network.eval()


def small(**overrides):
    torch.manual_seed(0)
    return Segmenter("lite0", num_classes=3, **{"decoder_channels": 16, "drop_path": 0.0, **overrides})


def images(*size, seed=0):
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("output_stride", "size_hw"), [(16, (64, 96)), (16, (96, 33 * 16)), (8, (64, 40))])
def test_logits_equal_smp(output_stride, size_hw, tmp_path):
    torch.manual_seed(1)
    theirs = smp.DeepLabV3Plus(
        "tu-tf_efficientnet_b0", encoder_weights=None, classes=7, encoder_output_stride=output_stride
    )
    shaken(theirs).save_pretrained(tmp_path)
    ours = load_smp(tmp_path)
    picture = images(2, 3, *size_hw).float()
    with torch.no_grad():
        expected = theirs((picture - ours.mean) / ours.std)
        found = ours(picture)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_aspp_equals_smp_and_its_gradients_too():
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPP as Theirs  # noqa: N811

    torch.manual_seed(0)
    theirs, ours = Theirs(12, 8, (2, 4, 6), True, 0.0).train(), ASPP(12, 8, (2, 4, 6), dropout=0.0).train()
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(2, 12, 9, 11, generator=torch.Generator().manual_seed(3)).requires_grad_() for _ in range(2)]
    for module, features in zip((theirs, ours), maps, strict=True):
        module(features).square().sum().backward()
    assert torch.allclose(maps[0].grad, maps[1].grad, atol=1e-5)
    for (name, expected), found in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(expected.grad, found.grad, atol=1e-4), name


@pytest.mark.slow
def test_every_size_returns_itself():
    network = shaken(small())
    picture = images(1, 3, 1025, 1025)
    with torch.no_grad():
        for side in range(33, 301):
            other = 33 + (side * 7) % 32
            assert network(picture[..., :side, :other]).shape == (1, 3, side, other)
            assert network(picture[..., :other, :side]).shape == (1, 3, other, side)
        for side in range(1000, 1026):
            assert network(picture[..., :side, :34]).shape == (1, 3, side, 34)
            assert network(picture[..., :33, :side]).shape == (1, 3, 33, side)


@pytest.mark.parametrize("decoder", DECODERS)
def test_other_decoders_take_any_size_and_use_every_weight(decoder):
    torch.manual_seed(0)
    network = Segmenter("lite0", num_classes=2, decoder=decoder, drop_path=0.0)
    logits = network.train()(images(1, 3, 65, 99))  # one image per device, too
    assert logits.shape == (1, 2, 65, 99)
    logits.square().mean().backward()
    # What DDP would call unused parameters.
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    with torch.no_grad():
        assert network.eval()(images(2, 3, 64, 33)).shape == (2, 2, 64, 33)


@pytest.mark.parametrize("decoder", DECODERS)
def test_another_decoder_equals_smp_at_its_sizes(decoder):
    known = smp.encoders.get_encoder_names()
    ours = Segmenter("lite0", num_classes=2, decoder=decoder)
    assert smp.encoders.get_encoder_names() == known  # the library's own list is left alone
    stride = {"encoder_output_stride": ours.config.output_stride} if decoder == "pan" else {}
    theirs = smp.create_model(decoder, "tu-tf_efficientnet_lite0", encoder_weights=None, classes=2, **stride)
    shaken(theirs)
    ours.backbone.load_state_dict({k.removeprefix("model."): v for k, v in theirs.encoder.state_dict().items()})
    ours.head.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.head.classifier.load_state_dict(theirs.segmentation_head.state_dict())
    picture = images(1, 3, 128, 256).float()
    with torch.no_grad():
        expected = theirs((picture - ours.mean) / ours.std)
        assert torch.allclose(ours.eval()(picture), expected, atol=1e-4 * float(expected.abs().max()))


def test_deeplab_uses_every_weight_and_takes_one_image_per_device():
    network = small(aux_head=True).train()
    logits, aux_logits = network.outputs(images(1, 3, 49, 66))
    assert logits.shape == aux_logits.shape == (1, 3, 49, 66)
    (logits.square().mean() + aux_logits.square().mean()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    assert network.eval().outputs(images(1, 3, 49, 66)).aux_logits is None


def test_a_single_value_is_normalised_by_the_running_statistics_and_two_by_their_own():
    norm, plain = PooledBatchNorm(4), torch.nn.BatchNorm2d(4)
    norm.running_mean.fill_(2.0)
    single = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="more than 1 value"):
        plain(single)
    assert torch.allclose(norm(single), (single - 2.0) / (1 + norm.eps) ** 0.5)
    assert norm.running_mean.tolist() == [2.0] * 4
    assert norm.num_batches_tracked == 0
    pair = torch.randn(2, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(norm(pair), plain(pair))


@pytest.mark.slow
def test_classes_do_not_drift_against_the_image():
    for width in (1024, 1001):
        found = alignment.drift(alignment.build_ours(), width, 33, places=3, centred=False)
        assert max(abs(shift) for _, shift in found) < 0.1
    theirs = alignment.drift(alignment.build_smp(), 1024, 32, places=2, centred=True)
    assert max(abs(shift) for _, shift in theirs) > 10  # the effect that the measurement must see


def test_a_picture_that_moves_by_the_stride_moves_its_classes():
    # Away from the borders, and without image pooling, which sees the borders everywhere.
    network = shaken(small(image_pooling=False, atrous_rates=(1, 2, 3)))
    picture = images(1, 3, 64, 2048)
    with torch.no_grad():
        whole = network(picture)
        moved = network(picture[..., network.stride :])
    inner = slice(900, 1100)
    assert torch.allclose(
        whole[..., inner.start + network.stride : inner.stop + network.stride], moved[..., inner], atol=1e-4
    )


@pytest.mark.parametrize("size_hw", [(97, 129), (96, 128)])
def test_the_dilated_network_finds_the_coarse_ones_context(size_hw):
    # Lite has no squeeze-and-excitation: without image pooling ASPP at stride 8 gives at every other cell what it
    # gives at stride 16, as its rates are doubled.
    coarse = shaken(small(image_pooling=False))
    fine = coarse.at_stride(8)
    assert fine.config.atrous_rates == (12, 24, 36)
    picture = images(1, 3, *size_hw)
    with torch.no_grad():
        maps = [net.head.aspp[0](net.backbone(net.normalise(picture))[-1]) for net in (coarse, fine)]
    phase = 1 if size_hw[0] % 2 == 0 else 0
    assert torch.allclose(maps[1][..., phase::2, phase::2], maps[0], atol=1e-5)


def test_exact_gates_do_the_same_with_squeeze_and_excitation():
    settings = {"num_classes": 3, "decoder_channels": 16, "drop_path": 0.0, "image_pooling": False}
    torch.manual_seed(0)
    coarse = Segmenter("b0", output_stride=32, exact_gates=True, **settings)
    trained(coarse.backbone)
    picture = images(1, 3, 96, 97)
    usual = Segmenter("b0", output_stride=8, **settings)
    usual.load_state_dict(coarse.state_dict())
    differences = []
    for fine in (coarse.at_stride(8), Segmenter.from_settings(coarse.settings()).at_stride(8), usual.eval()):
        fine.load_state_dict(coarse.state_dict())
        fine.eval()
        with torch.no_grad():
            maps, dense = ((net.backbone(net.normalise(picture))) for net in (coarse.eval(), fine))
        found = fine.backbone.without_dilation(dense, (96, 97))
        differences.append(float((found[-1] - maps[-1]).abs().max() / maps[-1].abs().max()))
    assert max(differences[:2]) <= 1e-5
    assert differences[2] > 0.01


def test_checkpoints_from_before_exact_gates_build_as_they_were():
    stored = small().settings()
    del stored["architecture"]["exact_gates"]
    assert Segmenter.from_settings(stored).config.exact_gates is False


def test_another_stride_keeps_the_weights_and_shares_none():
    network = shaken(small())
    other = network.at_stride(32)
    assert other.config.atrous_rates == (3, 6, 9)
    assert other.config.output_stride == other.backbone.strides[-1] == 32
    for (name, own), theirs in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(own, theirs), name
        assert own.data_ptr() != theirs.data_ptr()
    with pytest.raises(InputError, match="decoder unet has the one output stride 32"):
        Segmenter("lite0", decoder="unet").at_stride(8)


@pytest.mark.parametrize("member", FAMILY)
def test_every_member_describes_a_network_that_timm_has(member):
    config = architecture(member)
    assert config.atrous_rates == (6, 12, 18)
    assert SegmenterArchitecture.from_dict(config.to_dict()) == config
    with torch.device("meta"):
        head = DeepLabHead(8, 16, 3, config)
    assert head.classifier.out_channels == 3
    assert member.removeprefix("v2_") in config.backbone


def test_settings_build_the_same_network():
    network = shaken(small(atrous_rates=(2, 4, 6), aux_head=True))
    again = Segmenter.from_settings(network.settings())
    again.load_state_dict(network.state_dict())
    picture = images(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(again.eval()(picture), network(picture))
    assert again.classes == network.classes


def test_a_checkpoint_s_settings_build_another_decoder_again_as_the_task_does():
    stored = Segmenter("lite0", num_classes=3, decoder="unet").settings()
    task = SegmentationTask(
        stored["member"], SegmenterOverrides(**stored["architecture"]), MaskClasses.from_dict(stored["classes"])
    )
    assert task.network.settings() == stored


def test_one_class_of_smp_becomes_two_with_equal_probabilities(tmp_path):
    torch.manual_seed(1)
    theirs = shaken(smp.DeepLabV3Plus("tu-tf_efficientnet_lite0", encoder_weights=None, classes=1))
    theirs.save_pretrained(tmp_path)
    ours = load_smp(tmp_path, classes=MaskClasses(("ground", "water")))
    picture = images(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs((picture.float() - ours.mean) / ours.std)[:, 0].sigmoid()
        found = ours(picture).softmax(1)[:, 1]
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_incomplete_smp_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_smp(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"_model_class": "DeepLabV3Plus"}')
    with pytest.raises(InputError, match="does not say 'encoder_name'"):
        load_smp(tmp_path)


def test_other_classes_exchange_the_last_layer_only():
    for network in (small(aux_head=True), Segmenter("lite0", num_classes=3, decoder="unet")):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        network.set_classes(MaskClasses(("a", "b", "c", "d", "e")))
        after = network.state_dict()
        changed = {key for key, value in after.items() if value.shape != before[key].shape}
        assert changed
        assert all("classifier" in key or key.startswith("aux_head.layers.4") for key in changed)
        kept = [key for key in after if key not in changed and not key.startswith("aux_head")]
        assert all(torch.equal(after[key], before[key]) for key in kept)
        with torch.no_grad():
            assert network.eval()(images(1, 3, 64, 64)).shape[1] == 5
    same = small()
    renamed = MaskClasses(same.classes.names, (5, 6, 7))
    weight = same.head.classifier.weight
    same.set_classes(renamed)
    assert same.classes == renamed
    assert same.head.classifier.weight is weight


def test_without_a_class_list_the_classes_are_those_of_cityscapes():
    assert Segmenter("lite0").classes == CITYSCAPES


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"member": "b9"}, "member 'b9' is unknown"),
        ({"decoder": "unett"}, "Did you mean 'unet'"),
        ({"outputstride": 8}, "Did you mean 'output_stride'"),
        ({"output_stride": 4}, "allowed: 8, 16, 32"),
        ({"decoder": "unet", "output_stride": 16}, "allowed: 32 for unet"),
        ({"decoder": "fpn", "atrous_rates": (1, 2, 3)}, "is DeepLabv3+'s, but the decoder is fpn"),
        ({"atrous_rates": (1, 2)}, "allowed: three, each a whole number, at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_classes": 0}, "allowed are 1 to 255"),
        ({"num_classes": 4, "classes": MaskClasses(("a", "b"))}, "has 2 rows"),
        ({"backbone": "resnet50"}, "no EfficientNet"),
        ({"member": SegmenterArchitecture(), "dropout": 0.5}, "not both"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(InputError) as caught:
        Segmenter(**{"member": "lite0", **settings})
    assert words in str(caught.value)
