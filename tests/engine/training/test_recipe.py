"""The recipe against values computed by hand and against torch's own schedulers."""

import copy
import math

import pytest
import torch
from timm.optim import Lion, Muon
from torch import nn

from detection.network.model import EfficientDet
from engine.errors import InputError
from engine.training.recipe import Optimizer, Schedule, build_optimizer, build_scheduler, lr_factor

WARM = Schedule(warmup_epochs=1.0, warmup_start=0.1)
OFFICIAL = {"lr": 0.08, "lr_batch": 64, "weight_decay": 4e-5}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)
        self.fusion = nn.Parameter(torch.ones(3))


def decays(optimizer: torch.optim.Optimizer, net: nn.Module) -> dict[str, tuple[float, float]]:
    """Weight decay and learning rate by parameter name."""
    names = {id(p): name for name, p in net.named_parameters()}
    return {names[id(p)]: (g["weight_decay"], g["lr"]) for g in optimizer.param_groups for p in g["params"]}


def test_only_kernels_decay_and_every_trainable_parameter_is_there_once():
    net = Net()
    net.head.bias.requires_grad_(False)
    found = decays(build_optimizer(net, Optimizer(**OFFICIAL), 64), net)
    decayed = {name for name, (decay, _) in found.items() if decay}
    assert decayed == {"backbone.0.weight", "head.weight"}
    assert set(found) == {name for name, p in net.named_parameters() if p.requires_grad}
    assert {decay for decay, _ in found.values()} == {0.0, 4e-5}


@pytest.mark.parametrize(("batch", "lr_batch", "peak"), [(64, 64, 0.08), (128, 64, 0.16), (8, 64, 0.01), (8, 0, 0.08)])
def test_the_learning_rate_is_linear_in_the_global_batch(batch, lr_batch, peak):
    net = Net()
    found = decays(build_optimizer(net, Optimizer(**OFFICIAL | {"lr_batch": lr_batch}), batch), net)
    assert [lr for _, lr in found.values()] == pytest.approx([peak] * len(found))


def test_the_backbone_can_learn_slower():
    net = Net()
    found = decays(build_optimizer(net, Optimizer(**OFFICIAL, backbone_lr=0.1), 64), net)
    for name, (_, lr) in found.items():
        assert lr == pytest.approx(0.008 if name.startswith("backbone") else 0.08), name


def test_early_stages_can_learn_slowest():
    """The factors of ConvNeXt's `optim_factory.py`: decay ** (layers + 1 - layer), the head's is 1."""
    detector = EfficientDet("lite0", 3, image_size=128, fpn_channels=16, fpn_cells=1, head_repeats=1)
    found = decays(build_optimizer(detector, Optimizer(lr=1.0, layer_decay=0.8, backbone_lr=0.5), 4), detector)
    stages = 1 + len(detector.backbone.blocks)
    assert set(found) == {name for name, _ in detector.named_parameters()}
    for name, (_, lr) in found.items():
        parts = name.split(".")
        if parts[0] != "backbone":
            assert lr == 1.0, name
            continue
        stage = 1 + int(parts[2]) if parts[1] == "blocks" else 0
        assert lr == pytest.approx(0.5 * 0.8 ** (stages - stage)), name


def test_without_stages_there_is_no_decay_by_layer():
    with pytest.raises(InputError, match="the network's backbone does not say"):
        build_optimizer(Net(), Optimizer(layer_decay=0.8), 4)


def test_muon_is_for_kernels_that_mix_channels():
    """Rows of a depthwise kernel are single channels: they, biases and norms take AdamW's step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1))
    twin, start = copy.deepcopy(net), net[2].weight.detach().clone()
    optimizers = [
        build_optimizer(net, Optimizer(name="muon", lr=0.01), 4),
        torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0),
    ]
    images = torch.randn(2, 8, 6, 6)
    for module, optimizer in zip((net, twin), optimizers, strict=True):
        module(images).square().sum().backward()
        optimizer.step()
    for name, parameter in net.named_parameters():
        same = torch.allclose(parameter, twin.get_parameter(name), atol=1e-6)
        assert same == (name != "2.weight"), name
    # An orthogonal step: the singular values of the change are alike, up to the library's five iterations.
    change = torch.linalg.svdvals((net[2].weight - start).flatten(1))
    assert float(change.max() / change.min()) < 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
        ("adamw", torch.optim.AdamW),
        ("lion", Lion),
        ("muon", Muon),
    ],
)
def test_each_optimiser_takes_a_step(name, kind):
    net = Net()
    optimizer = build_optimizer(net, Optimizer(name=name, lr=1e-2, lr_batch=0), 4)
    assert type(optimizer) is kind
    before = net.head.weight.detach().clone()
    net.head(net.backbone(torch.ones(2, 3, 8, 8))).mean().backward()
    optimizer.step()
    assert not torch.equal(before, net.head.weight)


def test_sgd_decay_is_the_gradient_of_the_official_l2_loss():
    weight = nn.Parameter(torch.tensor([[2.0]]))
    module = nn.Module()
    module.kernel = weight
    optimizer = build_optimizer(module, Optimizer(lr=1.0, lr_batch=0, momentum=0, weight_decay=0.1), 1)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    # d/dw of 0.1 * w² / 2 at w = 2 is 0.2.
    assert weight.item() == pytest.approx(2.0 - 0.2)


def test_warm_up_then_cosine_at_points_worked_out_by_hand():
    course = Schedule(warmup_start=0.1)
    points = {0: 0.1, 5: 0.55, 10: 1.0, 35: 0.5 * (1 + math.cos(math.pi / 4)), 60: 0.5, 110: 0.0, 200: 0.0}
    for step, factor in points.items():
        assert lr_factor(step, 110, 10, course) == pytest.approx(factor, abs=1e-12), step


def test_cosine_without_warm_up_is_torchs():
    parameter = nn.Parameter(torch.ones(1))
    ours = torch.optim.SGD([parameter], lr=0.3)
    theirs = torch.optim.SGD([parameter], lr=0.3)
    mine = build_scheduler(ours, Schedule(warmup_steps=0, min_lr=0.1), 20, 5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20, eta_min=0.03)
    for _ in range(20):
        assert mine.get_last_lr() == pytest.approx(reference.get_last_lr())
        ours.step()
        theirs.step()
        mine.step()
        reference.step()


def test_poly_is_torchs_and_constant_is_constant():
    theirs = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.PolynomialLR(theirs, total_iters=9, power=0.9)
    for step in range(10):
        assert lr_factor(step, 9, 0, Schedule(name="poly", power=0.9)) == pytest.approx(
            reference.get_last_lr()[0], abs=1e-9
        )
        assert lr_factor(step, 9, 0, Schedule(name="constant")) == 1.0
        theirs.step()
        reference.step()


def test_flat_then_cosine_at_points_worked_out_by_hand():
    course = Schedule(name="flat_cosine", flat=0.5, min_lr=0.05)
    points = {0: 0.0, 5: 0.5, 10: 1.0, 35: 1.0, 60: 1.0, 85: 0.05 + 0.95 / 2, 110: 0.05, 200: 0.05}
    for step, factor in points.items():
        assert lr_factor(step, 110, 10, course) == pytest.approx(factor, abs=1e-12), step
    assert lr_factor(30, 100, 0, Schedule(name="flat_cosine", flat=0.0)) == lr_factor(30, 100, 0, Schedule())


def test_warm_up_in_epochs_or_steps():
    assert Schedule(warmup_epochs=1).warmup(total_steps=300, epochs=30) == 10
    assert Schedule(warmup_epochs=0.5).warmup(total_steps=300, epochs=30) == 5
    assert Schedule(warmup_epochs=5, warmup_steps=7).warmup(total_steps=300, epochs=30) == 7
    assert Schedule(warmup_epochs=5).warmup(total_steps=10, epochs=1) == 10


def test_a_resumed_schedule_goes_on():
    def run(steps: int, state: dict | None = None) -> tuple[list[float], dict]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
        scheduler = build_scheduler(optimizer, WARM, 12, 4)
        if state:
            scheduler.load_state_dict(state)
        values = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            values.append(scheduler.get_last_lr()[0])
        return values, scheduler.state_dict()

    whole, _ = run(12)
    first, state = run(5)
    rest, _ = run(7, state)
    assert first + rest == whole


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Optimizer(lr=0), "optimizer.lr"),
        (lambda: Optimizer(lr=float("nan")), "optimizer.lr"),
        (lambda: Optimizer(**OFFICIAL, momentum=1.0), "optimizer.momentum"),
        (lambda: Optimizer(**OFFICIAL, name="adamw", nesterov=True), "nesterov"),
        (lambda: Schedule(warmup_epochs=-1), "warmup_epochs"),
        (lambda: Schedule(min_lr=2), "min_lr"),
        (lambda: build_optimizer(Net().requires_grad_(False), Optimizer(**OFFICIAL), 64), "frozen"),
        (lambda: build_optimizer(Net().head, Optimizer(**OFFICIAL, backbone_lr=0.1), 64), "backbone"),
        (
            lambda: build_scheduler(torch.optim.SGD(Net().parameters(), 1.0), WARM, -1, 1),
            "max_epochs",
        ),
    ],
)
def test_bad_settings_are_named(make, names):
    with pytest.raises(InputError, match=names):
        make()
