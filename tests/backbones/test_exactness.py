"""The dense network holds the maps of the network of stride 32: they are compared with that network cell by cell.

Differences are measured twice, by the largest deviation over the largest magnitude and by the norm of the deviation
over the norm of the map less its mean in each channel; both must be small.
"""

from __future__ import annotations

import copy
import functools
from itertools import product

import pytest
import torch

from backbones.features import EfficientNetFeatures
from backbones.grid import Grid, feature_grid, subsample
from benchmarks.atrous_exactness import difference, smp_differences, trained
from engine.errors import InputError

BOUND = 1e-5
SEEN = 100 * BOUND  # the smallest deviation by gates of the dense grid
# Over 8, the sides of these give even and odd counts, whose halves are even and odd in turn; at least 2 x 2 cells.
SIZES = [(96, 97), (84, 66), (65, 50), (81, 104)]
MORE_SIZES = [(64, 64), (97, 97), (72, 88), (90, 73), (95, 80)]
GATED = [
    "tf_efficientnet_b0",
    "efficientnet_b0",
    "tf_efficientnetv2_b0",  # small, with the blocks of V2-S
    "tf_efficientnet_phi0.5",
]
PLAIN = ["tf_efficientnet_lite0", "efficientnet_lite0"]
B = [f"{kind}efficientnet_b{phi}" for kind in ("tf_", "") for phi in range(8)]
LITE = [f"{kind}efficientnet_lite{phi}" for kind in ("tf_", "") for phi in range(5)]
V2 = ["tf_efficientnetv2_s", "efficientnetv2_s"]


@functools.lru_cache(maxsize=2)
def coarse_network(name: str) -> EfficientNetFeatures:
    return trained(EfficientNetFeatures(name, levels=(4, 5)))


def dense_network(name: str, output_stride: int, **settings) -> EfficientNetFeatures:
    dense = EfficientNetFeatures(name, levels=(4, 5), output_stride=output_stride, **settings)
    # Strict: neither option nor stride changes a key.
    dense.load_state_dict(coarse_network(name).state_dict())
    return dense.eval()


def image(size_hw, count=1, **settings):
    return torch.randn(count, 3, *size_hw, generator=torch.Generator().manual_seed(1), **settings)


@torch.no_grad()
def worst(found, expected) -> float:
    """The larger of both measures over all maps."""
    results = []
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert min(theirs.shape[-2:]) >= 2
        assert 0.1 < theirs.std() < 100  # neither vanished nor exploded
        results += [float((ours - theirs).abs().max() / theirs.abs().max()), difference(ours, theirs)]
    return max(results)


@torch.no_grad()
def worst_of(name: str, output_stride: int, size_hw, **settings) -> float:
    dense = dense_network(name, output_stride, **settings)
    return worst(dense.without_dilation(dense(image(size_hw)), size_hw), coarse_network(name)(image(size_hw)))


@pytest.mark.by_default("16-tf_efficientnet_b0")
@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("output_stride", [16, 8])
def test_gates_over_the_coarse_cells_make_the_dense_map_exact(name, output_stride):
    for size_hw in SIZES:
        assert worst_of(name, output_stride, size_hw, exact_gates=True) <= BOUND, size_hw
        assert worst_of(name, output_stride, size_hw) > SEEN, size_hw


@pytest.mark.by_default("8-True-tf_efficientnet_lite0", "16-False-efficientnet_lite0")
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(("output_stride", "exact_gates"), [(16, False), (8, False), (8, True)])
def test_without_gates_the_dense_map_is_exact(name, output_stride, exact_gates):
    for size_hw in SIZES:
        assert worst_of(name, output_stride, size_hw, exact_gates=exact_gates) <= BOUND, size_hw


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", B + LITE + V2)
def test_the_whole_family_is_exact(name, record_property):
    gated = name not in LITE
    exact, usual = [], []
    for size_hw, output_stride in product(SIZES + MORE_SIZES, (16, 8)):
        exact.append(worst_of(name, output_stride, size_hw, exact_gates=gated))
        usual += [worst_of(name, output_stride, size_hw)] if gated else []
    record_property("largest", max(exact))
    print(f"{name:22} largest {max(exact):.1e}" + (f", without the option {min(usual):.1e} or more" if gated else ""))
    assert max(exact) <= BOUND
    assert not gated or min(usual) > SEEN


@pytest.mark.by_default("tf_efficientnet_b0")
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0"])
def test_what_is_left_is_rounding(name):
    coarse = copy.deepcopy(coarse_network(name)).double()
    for output_stride in (16, 8):
        dense = dense_network(name, output_stride, exact_gates=True).double()
        pixels = image((84, 65), dtype=torch.float64)
        with torch.no_grad():
            assert worst(dense.without_dilation(dense(pixels), (84, 65)), coarse(pixels)) < 1e-13


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0"])
@pytest.mark.parametrize("size_hw", SIZES)
def test_the_cells_are_those_that_fit_best(name, size_hw):
    # Without any grid: of all places where every fourth cell may start, one fits, and it is the one that is read.
    dense = dense_network(name, 8, exact_gates=True)
    with torch.no_grad():
        maps, expected = dense(image(size_hw)), coarse_network(name)(image(size_hw))[1]
    read = dense.without_dilation(maps, size_hw)[1]
    differences = {}
    for y, x in product(range(4), repeat=2):
        started = maps[1][..., y::4, x::4]
        if started.shape == expected.shape:
            differences[y, x] = difference(started, expected), torch.equal(started, read)
    assert sorted(differences.values())[0] <= (BOUND, True)
    assert all(other > 0.1 and not same for other, same in sorted(differences.values())[1:])


def test_strides_16_and_8_agree_too():
    # So a network trained at stride 16 finds at stride 8 the features that it knows, in more cells.
    for name, size_hw in product(("tf_efficientnet_b0", "efficientnet_b0"), SIZES):
        finer, fine = (dense_network(name, stride, exact_gates=True) for stride in (8, 16))
        with torch.no_grad():
            found, expected = finer(image(size_hw)), fine(image(size_hw))
        found = [subsample(*group) for group in zip(found, finer.grids(size_hw), fine.grids(size_hw), strict=True)]
        assert worst(found, expected) <= BOUND


def maps_and_gradients(network, size_hw, weight):
    """Maps read at stride 32 and all gradients of a weighted sum of them, in training mode."""
    maps = network.train()(image(size_hw, 2))
    maps = network.without_dilation(maps, size_hw)
    sum((m * w).sum() for m, w in zip(maps, weight(maps), strict=True)).backward()
    return maps, {key: parameter.grad for key, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.by_default("tf_efficientnet_b0-True")
@pytest.mark.parametrize("grad_checkpointing", [False, True])
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0"])
def test_a_loss_on_the_coarse_cells_trains_as_the_coarse_network(name, grad_checkpointing):
    # In training mode, with batch norms frozen: their statistics would be those of the finer grid.
    def weight(maps):
        generator = torch.Generator().manual_seed(2)
        return [torch.randn(m.shape, generator=generator) for m in maps]

    size_hw = (84, 66)
    networks = []
    for output_stride in (32, 16, 8):
        network = EfficientNetFeatures(
            name, levels=(4, 5), output_stride=output_stride, exact_gates=True, freeze_norm=True,
            grad_checkpointing=grad_checkpointing,
        )  # fmt: skip
        network.load_state_dict(coarse_network(name).state_dict())
        networks.append(network)
    expected_maps, expected = maps_and_gradients(networks[0], size_hw, weight)
    assert len(expected) > 80
    for network in networks[1:]:
        maps, gradients = maps_and_gradients(network, size_hw, weight)
        assert worst(maps, expected_maps) <= BOUND
        largest = max(float(gradient.norm()) for gradient in expected.values())
        for key, gradient in gradients.items():
            deviation = float((gradient - expected[key]).norm())
            assert deviation <= 1e-4 * float(expected[key].norm()) + 1e-6 * largest, key


def test_the_option_changes_no_key_nor_its_place():
    with torch.device("meta"):
        usual, exact = (
            EfficientNetFeatures("tf_efficientnet_b0", output_stride=8, exact_gates=on) for on in (False, True)
        )
    assert list(usual.state_dict()) == list(exact.state_dict())
    assert [key for key, _ in usual.named_parameters()] == [key for key, _ in exact.named_parameters()]
    kinds = [[type(block.se).__name__ for block in stage] for stage in exact.blocks]
    assert [set(stage) for stage in kinds] == [{"SqueezeExcite"}] * 3 + [{"CoarseSqueezeExcite"}] * 4
    assert [stage[0].se.step for stage in exact.blocks[3:]] == [2, 2, 4, 4]


def test_at_stride_32_the_option_does_nothing():
    # Also for networks that it could not make exact.
    for name in ("tf_efficientnet_b0", "efficientnet_b0_gn"):
        with torch.device("meta"):
            network = EfficientNetFeatures(name, exact_gates=True)
        assert "Coarse" not in repr(network)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, but still in use
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0"])
def test_the_exact_network_can_be_exported_and_traced(name):
    network = dense_network(name, 16, exact_gates=True)
    images = image((84, 66))
    exported = torch.export.export(network, (images,), strict=False).module()
    traced = torch.jit.trace(network, images, check_trace=False)
    with torch.no_grad():
        expected = network(images)
        assert worst(exported(images), expected) <= 1e-6
        assert worst(traced(images), expected) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "efficientnet_b0"])
def test_the_exported_network_takes_every_size(name):
    network = dense_network(name, 8, exact_gates=True)
    sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(network, (image((72, 84)),), dynamic_shapes=(sides,), strict=False).module()
    with torch.no_grad():
        for size_hw in SIZES:
            assert worst(exported(image(size_hw)), network(image(size_hw))) <= 1e-6


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("efficientnet_b0_gn", "GroupNormAct"),
        ("efficientnet_cc_b0_4e", "CondConv2d"),
        ("gc_efficientnetv2_rw_t", "GlobalContext"),
        ("efficientnet_blur_b0", "BlurPool2d"),
    ],
)
def test_networks_that_see_the_whole_map_otherwise_are_refused(name, kind):
    message = f"exact_gates needs batch norm and squeeze-and-excite; this network has {kind}. Leave the option out."
    with torch.device("meta"), pytest.raises(InputError, match=message):
        EfficientNetFeatures(name, output_stride=16, exact_gates=True)


@pytest.mark.parametrize("same_padding", [True, False])
def test_subsampling_reads_the_coarse_cells(same_padding):
    # Maps that hold their cells' own positions, built from layers that only keep every second pixel.
    for length in range(1, 140):
        positions = {1: torch.arange(length)}
        for stride in (2, 4, 8, 16, 32):
            before = positions[stride // 2]
            positions[stride] = before[1 if same_padding and len(before) % 2 == 0 else 0 :: 2]
        for fine, coarse in ((1, 32), (8, 16), (8, 32), (16, 32), (16, 16)):
            maps = positions[fine].expand(1, 1, length, -1)
            grids = [feature_grid((length, length), stride, same_padding=same_padding) for stride in (fine, coarse)]
            rows = Grid(fine, (0, grids[0].offset_yx[1])), Grid(coarse, (0, grids[1].offset_yx[1]))
            assert subsample(maps, *rows)[0, 0, 0].tolist() == positions[coarse].tolist()


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_smps_own_encoder_computes_something_else():
    # Why that encoder is not used; a failure after an update of smp says that the reason has gone.
    differences = smp_differences("timm-tf_efficientnet_lite0", [(97, 97)])
    assert min(differences.values()) > 0.5
