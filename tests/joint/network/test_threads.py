"""One network that serves several threads: right answers for mixed requests, and no state that a pass changes."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detection.network.anchors import AnchorCache
from detection.prediction.predictor import DetectionPredictor
from joint.network.model import JointNetwork
from joint.network.norms import PerTaskNetwork
from joint.prediction.predictor import JointPredictor
from segmentation.inference.predictor import SegmentationPredictor
from tests.joint.tiny_network import tiny_network

SIZES_HW = ((64, 64), (96, 64), (64, 160), (100, 130))
REQUESTS = [(True, False), (False, True), (True, True)]
THREADS = 16


def made(kind: str) -> JointNetwork:
    """A network whose norms and gates are far from their start, so that a wrong choice shows."""
    network = tiny_network()
    if kind == "per_task":
        settings, state = network.settings(), network.state_dict()
        network = PerTaskNetwork.from_settings(settings)
        state = {
            key: state[key.replace(".detection.", ".").replace(".segmentation.", ".")] for key in network.state_dict()
        }
        network.load_state_dict(state)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.7, 1.5)
    network = network.eval()
    return network.fold() if kind == "folded" else network


def images_of(number: int) -> Tensor:
    height, width = SIZES_HW[number % len(SIZES_HW)]
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def answer(network: JointNetwork, request: tuple[int, bool, bool]) -> list[Tensor]:
    number, detect, segment = request
    outputs = network(images_of(number), detect=detect, segment=segment)
    return [*(outputs.predictions or ()), *([outputs.segmentation.logits] if outputs.segmentation else [])]


def check_threads(network: JointNetwork, count: int) -> None:
    requests = [(number, *REQUESTS[number % 3]) for number in range(count)]
    random.Random(0).shuffle(requests)
    kinds = {request: answer(network, request) for request in {(n % 12, *rest) for n, *rest in requests}}
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda request: answer(network, (request[0] % 12, *request[1:])), requests))
    wrong = [
        request
        for request, mine in zip(requests, found, strict=True)
        if not all(torch.equal(*pair) for pair in zip(mine, kinds[(request[0] % 12, *request[1:])], strict=True))
    ]
    assert not wrong, f"{len(wrong)} of {count} answers are wrong"


@pytest.mark.by_default("shared")
@pytest.mark.parametrize("kind", ["shared", "per_task", "folded"])
def test_sixteen_threads_get_the_answers_of_one(kind):
    check_threads(made(kind), 96)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shared", "per_task", "folded"])
def test_a_thousand_answers(kind):
    check_threads(made(kind), 1000)


def state(network: nn.Module) -> dict[str, object]:
    """Every attribute of every module, the tensors as copies, and what module stands where."""
    found: dict[str, object] = {}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, AnchorCache):
                continue  # it holds what it has made, which is looked at below
            if isinstance(value, dict):
                copied = {key: one.clone() if isinstance(one, Tensor) else id(one) for key, one in value.items()}
                found |= {f"{path}.{name}.{key}": one for key, one in copied.items()}
            else:
                found[f"{path}.{name}"] = value.clone() if isinstance(value, Tensor) else value
    return found


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    assert before.keys() == after.keys()
    return [
        key
        for key, value in before.items()
        if not (torch.equal(value, after[key]) if isinstance(value, Tensor) else value == after[key])  # type: ignore[arg-type]
    ]


class Watched:
    """Module attributes that are set, also those that are set back at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        usual = nn.Module.__setattr__

        def seen(module: nn.Module, name: str, value: object) -> None:
            # `eval()` on a network that is in evaluation mode sets what stands there already.
            if name != "training" or module.training is not value:
                self.names.append(f"{type(module).__name__}.{name}")
            usual(module, name, value)

        monkeypatch.setattr(nn.Module, "__setattr__", seen)


@pytest.mark.by_default("joint")
@pytest.mark.parametrize("kind", ["shared", "per_task", "folded"])
@pytest.mark.parametrize("part", ["joint", "detector", "segmenter"])
def test_a_pass_changes_nothing_in_a_network(kind, part, monkeypatch):
    joint = made(kind)
    network = {"joint": joint, "detector": joint.detector, "segmenter": joint.segmenter}[part]
    before = state(network)
    watched = Watched(monkeypatch)
    with torch.no_grad():
        network(images_of(0))
        if part == "joint":
            network(images_of(1), detect=False)
            network(images_of(2), segment=False)
    assert watched.names == []
    assert changed(before, state(network)) == []


def predictors(network: JointNetwork) -> list[JointPredictor | DetectionPredictor | SegmentationPredictor]:
    return [
        JointPredictor(network),
        DetectionPredictor(network.detector),
        SegmentationPredictor(network.segmenter),
    ]


@pytest.mark.parametrize("kind", ["per_task", "folded"])
def test_a_prediction_changes_nothing(kind, monkeypatch):
    network = made(kind)
    before = state(network)
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    made_before = predictors(network)
    watched = Watched(monkeypatch)
    for predictor in made_before:
        own = dict(vars(predictor))
        predictor.predict(picture)
        assert vars(predictor) == own
    assert watched.names == []
    assert changed(before, state(network)) == []


@pytest.mark.slow
def test_threads_share_predictors():
    network = made("per_task")
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    both, boxes, masks = predictors(network)
    asked = [
        lambda: boxes.predict(picture, score_threshold=0.01).boxes_xyxy,
        lambda: masks.predict(picture).class_ids,
        lambda: both.predict(picture, segment=False, score_threshold=0.01).found.boxes_xyxy,
        lambda: both.predict(picture, detect=False).segmented.class_ids,
    ]
    expected = [ask() for ask in asked]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda number: asked[number % 4](), range(48)))
    for number, answer_ in enumerate(found):
        np.testing.assert_array_equal(answer_, expected[number % 4])


def test_threads_share_the_anchors_of_more_sizes_than_are_kept():
    config = tiny_network().detector.config
    cache, device = AnchorCache(config, capacity=2), torch.device("cpu")
    sizes = [(128 * (1 + number % 3), 128) for number in range(300)]
    expected = {size: AnchorCache(config)(size, device) for size in set(sizes)}
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda size: cache(size, device), sizes))
    assert all(torch.equal(one, expected[size]) for one, size in zip(found, sizes, strict=True))
