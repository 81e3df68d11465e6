"""The distribution form of boxes: its loss by hand, at the right anchors, and in no file that predicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.data.batch import DetectionBatch
from detection.data.classes import BoxClasses
from detection.network.anchors import encode_boxes
from detection.network.heads.distribution import BINS, LARGEST, BoxDistribution, distribution_loss
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import Matches
from detection.network.model import EfficientDet
from engine.training.checkpoints import read_checkpoint, without_distiller
from tests.detection import small

VALUES = np.linspace(-LARGEST, LARGEST, BINS)


def test_the_loss_is_the_papers():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 4, BINS, generator=generator).double()
    targets = torch.empty(40, 4).uniform_(-LARGEST, LARGEST, generator=generator).double()
    targets[0] = torch.tensor([-5.0, 5.0, -LARGEST, LARGEST])
    found = distribution_loss(logits, targets)
    for row, target in np.ndindex(40, 4):
        likely = torch.softmax(logits[row, target], 0).numpy()
        y = float(targets[row, target].clamp(-LARGEST, LARGEST))
        left = min(int((y + LARGEST) / (VALUES[1] - VALUES[0])), BINS - 2)
        step = VALUES[left + 1] - VALUES[left]
        share = (y - VALUES[left]) / step
        expected = -((1 - share) * np.log(likely[left]) + share * np.log(likely[left + 1]))
        np.testing.assert_allclose(float(found[row, target]), expected, rtol=1e-9)


def test_the_best_distribution_has_the_target_as_its_mean():
    targets = torch.tensor([-1.3, 0.0, 0.41, 1.99]).double()
    logits = torch.zeros(4, BINS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=1.0, max_iter=400, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = distribution_loss(logits, targets).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    mean = (logits.softmax(-1) @ torch.from_numpy(VALUES)).detach()
    torch.testing.assert_close(mean, targets, atol=0.01, rtol=0)


def test_anchors_read_their_own_cells():
    generator = torch.Generator().manual_seed(1)
    spread = BoxDistribution(5, 3)
    towers = [torch.randn(2, 5, *hw, generator=generator) for hw in ((4, 6), (2, 3))]
    places = [(0, 0, 0, 0, 0), (1, 0, 3, 5, 2), (0, 1, 1, 2, 1), (1, 1, 0, 1, 0)]  # image, level, row, column, anchor
    begins, widths = (0, 4 * 6 * 3), (6, 3)
    anchors = torch.tensor([begins[lv] + (row * widths[lv] + column) * 3 + a for _, lv, row, column, a in places])
    matches = Matches(torch.tensor([image for image, *_ in places]), anchors, torch.zeros(4, dtype=torch.long))
    targets = torch.randn(4, 4, generator=generator)
    found = spread(towers, matches, targets)
    for number, (image, level, row, column, anchor) in enumerate(places):
        logits = spread.logits(towers[level][image, :, row, column]).view(3, 4, BINS)[anchor]
        torch.testing.assert_close(found[number], distribution_loss(logits, targets[number]).mean())


def test_the_sum_is_over_the_positives_and_teaches_the_tower():
    from detection.network.build import build_detector

    config = DetectionLoss(distribution=0.25)
    network = build_detector(
        "d0",
        backbone_weights=None,
        classes=BoxClasses.numbered(2),
        **{**small.ARCHITECTURE, "image_size": small.CANVAS_HW},
    ).for_training(config)
    assert isinstance(network, EfficientDet)
    boxes = torch.tensor([[[10.0, 10, 60, 70]], [[40, 20, 110, 90]]])
    batch = DetectionBatch(
        torch.randint(0, 256, (2, 3, 128, 128), generator=torch.Generator().manual_seed(2)).to(torch.uint8),
        boxes, torch.tensor([[0], [1]]), torch.arange(2), torch.ones(2), torch.tensor([[128, 128]] * 2),
    )  # fmt: skip
    sums = network.loss_sums(batch, config)
    assert sums.terms.names == ("class", "box", "distribution")
    from detection.network.matching import match_anchors

    answers = network.answers(batch.images)
    matches = match_anchors(boxes, batch.class_ids, answers.anchors_xyxy)
    truth = encode_boxes(boxes[matches.image, matches.box], answers.anchors_xyxy[matches.anchor])
    expected = network.training_only(answers.towers, matches, truth).sum()
    torch.testing.assert_close(sums.sums[2], expected, rtol=1e-3, atol=1e-3)  # batch norms have moved in between
    plain = network.loss_sums(batch, DetectionLoss())
    assert plain.terms.names == ("class", "box")
    network.zero_grad()
    sums.sums[2].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.box_head.convs.parameters())
    own = network.box_head.predict.pointwise.weight.grad
    assert own is None or not own.any()  # the answer itself is not taught by it


@pytest.mark.slow
def test_no_file_that_predicts_has_the_layer(tmp_path, monkeypatch):
    import yaml

    from engine.scenes.generate import write_scenes

    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes", {"train": 4, "val": 2}, small.SIZE_HW, seed=1, workers=1)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small.CONFIG))
    brief = "--config small.yaml --data.batch_size 2 --trainer.max_epochs 1"
    said = small.command(f"fit {brief} --model.loss.distribution 0.25 --run.name it", small.SPEC)
    assert said.code == 0, said.err
    path = tmp_path / "runs/detection/it/checkpoints/last.ckpt"
    stored = torch.load(path, weights_only=True)["state_dict"]
    extra = {name for name in stored if "training_only" in name}
    assert extra == {"detector.training_only.logits.weight", "detector.training_only.logits.bias"}
    assert set(without_distiller(stored)) == set(stored) - extra
    assert not any("training_only" in name for name in read_checkpoint(path, "detection").state_dict)
    said = small.command("validate --config small.yaml --ckpt_path last", small.SPEC)
    assert said.code == 0, said.err
    again = f"fit {brief} --trainer.max_epochs 2 --ckpt_path last"
    said = small.command(f"{again} --model.loss.distribution 0.25 --run.name it", small.SPEC)
    assert said.code == 0, said.err
