"""Losses that are no numbers: the first step, its batch, and the layer that it comes from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from engine.finiteness.batch_files import write_batch
from engine.finiteness.culprit import first_culprit
from engine.finiteness.gradients import GradientNorms
from engine.finiteness.steps import LastSteps, Step


class Batch(NamedTuple):
    images: Tensor
    class_ids: Tensor
    names: tuple[str, ...]


def batch_of(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, 3, 9, 7), generator=generator).to(torch.uint8)
    return Batch(images, torch.tensor([[seed, -1], [3, 4]]), ("a", "b"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_step_of_those_since_the_last_look_is_found(bad):
    steps = LastSteps(5)
    for number in range(9):
        steps.add(Step(number, torch.tensor(bad if number in (2, 6, 7) else 1.0), {}))
    looked = steps.look()
    assert looked.bad is not None
    assert looked.bad.number == 6  # 2 is older than what is remembered
    assert [number for number, _ in looked.losses] == [4, 5, 6, 7, 8]
    assert looked.losses[0][1] == 1.0
    assert steps.look().bad is None  # what was looked at is forgotten


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("looked_between", [False, True])
def test_a_gradient_is_bad_where_its_loss_is_not(bad, looked_between):
    """The layer is the last of the bad ones, at which the way back from the loss begins."""
    network = Halves(2.0)
    network(batch_of(0).images)[0].sum().backward()
    steps = LastSteps(5)
    for number in range(4):
        if number == 2:
            for weights in (*network.first.parameters(), *network.second.parameters()):
                weights.grad.flatten()[-1] = bad
        step = Step(number, torch.tensor(1.0), {})
        steps.add(step)
        if looked_between:
            steps.look()
        steps.learned(step._replace(gradients=GradientNorms.of(network.named_parameters())))
    found = steps.look().bad
    assert found is not None
    assert found.number == (3 if looked_between else 2)
    assert found.gradients.culprit() == "second.norm"


def test_large_gradients_are_no_infinite_ones():
    network = nn.Linear(3, 2)
    network.weight.grad = torch.full((2, 3), 3e38)
    found = GradientNorms.of(network.named_parameters())
    assert found.names == ("weight",)
    assert bool(found.sound)
    assert found.culprit() is None
    assert GradientNorms.of(nn.Linear(3, 2).named_parameters()) is None


def test_nothing_is_read_from_the_device_before_the_look():
    network = Halves(2.0).to("meta")
    for weights in network.parameters():
        weights.grad = torch.empty_like(weights)
    steps = LastSteps(3)
    step = Step(0, torch.empty((), device="meta"), {})
    steps.add(step)
    steps.learned(step._replace(gradients=GradientNorms.of(network.named_parameters())))
    with pytest.raises((RuntimeError, NotImplementedError)):  # what is on this device cannot be read
        steps.look()


class Halves(nn.Module):
    """Divides by a number in its second layer."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), Divided(divisor)
        self.third = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.third(self.second(self.first(images.float())))]


class Divided(nn.Module):
    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor, self.norm = divisor, nn.BatchNorm2d(4)

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        return self.norm(maps / self.divisor)


def test_the_layer_is_named():
    images = batch_of(0).images
    sound = Halves(2.0)
    assert "comes from the labels or the loss" in first_culprit(sound, lambda: sound(images))
    broken = Halves(0.0)
    assert first_culprit(broken, lambda: broken(images)).endswith("is 'second.norm'")
    with torch.no_grad():
        sound.third.bias[1] = float("inf")
    assert "the weights 'third.bias'" in first_culprit(sound, lambda: sound(images))
    assert not any(module._forward_hooks for module in broken.modules())


def test_the_batch_can_be_looked_at(tmp_path):
    batch = batch_of(7)
    step = Step(41, torch.tensor(float("nan")), {"train_class_loss": torch.tensor(2.5)}, batch)
    path = write_batch(tmp_path, step)
    assert path == tmp_path / "bad_batch.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"step": "41", "loss": "nan", "train_class_loss": "2.5"}
        assert sorted(file.keys()) == ["class_ids", "images"]
        assert torch.equal(file.get_tensor("images"), batch.images)
        assert torch.equal(file.get_tensor("class_ids"), batch.class_ids)
    for place in range(2):
        picture = np.array(Image.open(tmp_path / f"bad_batch_{place}.png"))
        assert np.array_equal(picture, batch.images[place].permute(1, 2, 0).numpy())
    assert write_batch(tmp_path, step._replace(batch=[torch.ones(2)])) is None
