"""A joint training: frozen parts keep every bit, missing labels add nothing, and interruptions change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning.pytorch import LightningModule

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.postprocess import Postprocess
from joint import load_network
from joint.data.batch import JointBatch
from joint.network.model import JointNetwork
from joint.network.norms import PerTaskNetwork
from joint.training.losses import joint_losses, labelled_outputs
from segmentation.network.losses import SegmentationLoss
from tests.engine.checkpoints import assert_same_training
from tests.joint.small import CANVAS_HW, command, fitted, stored, write_configs, write_parts
from tests.joint.tiny_network import tiny_network
from tests.segmentation.small import logged

QUICK = "--trainer.max_steps 1 --trainer.limit_val_batches 0"


@pytest.fixture
def here(streets, photos, tmp_path, monkeypatch):
    """An empty working folder with `both.yaml` and `two.yaml`."""
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path, streets, photos)
    return tmp_path


def batch_of(boxed, masked, seed=0):
    """Images of noise with two boxes each, and masks of three classes."""
    rng = torch.Generator().manual_seed(seed)
    count, (height, width) = len(boxed), CANVAS_HW
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=rng)
    boxes = torch.tensor([[[8.0, 8, 40, 40], [64, 16, 128, 80]]]).repeat(count, 1, 1)
    boxed, masked = torch.tensor(boxed), torch.tensor(masked)
    class_ids = torch.tensor([[0, 2]]).repeat(count, 1).where(boxed[:, None], torch.tensor(-1))
    masks = torch.randint(0, 3, (count, height, width), generator=rng).to(torch.uint8)
    masks = masks.where(masked[:, None, None], torch.tensor(255, dtype=torch.uint8))
    scales, sizes = torch.ones(count), torch.tensor([[height, width]]).repeat(count, 1)
    return JointBatch(images, boxes, class_ids, masks, boxed, masked, torch.arange(count), scales, sizes)


def test_both_losses_are_those_of_the_single_packages():
    network, batch = tiny_network().train(), batch_of([True, True], [True, True])
    for module in network.modules():
        module.eval() if "Norm" in type(module).__name__ or "Dropout" in type(module).__name__ else None
    found = joint_losses(network, batch, DetectionLoss(), SegmentationLoss())
    sums = network.detector.losses(batch.detection(), DetectionLoss())
    alone = sums.total(sums.positives + 1, DetectionLoss().of_boxes)
    torch.testing.assert_close(found.detection, alone, rtol=1e-4, atol=0)
    logits = network.segmenter(batch.images)
    plain = F.cross_entropy(logits, batch.masks.long(), ignore_index=255)
    torch.testing.assert_close(found.segmentation, plain, rtol=1e-5, atol=0)
    assert found.present.tolist() == [True, True]


@pytest.mark.by_default("False-boxed0", "True-boxed0", "True-boxed2", "True-boxed3")
@pytest.mark.parametrize(
    ("boxed", "masked"),
    [
        ([True, False, True], [False, True, True]),
        ([True, True, False], [False, False, True]),
        ([False, True, True], [False, False, False]),
        ([False, False, False], [True, False, True]),
        ([True, False, True], [True, False, True]),
    ],
)
@pytest.mark.parametrize("per_task", [False, True])
def test_each_head_sees_its_own_images(boxed, masked, per_task):
    network, batch = tiny_network(), batch_of(boxed, masked)
    if per_task:
        network = PerTaskNetwork(*_parts_of(network)).eval()
    rows = [[row for row, has in enumerate(which) if has] for which in (boxed, masked)]
    with torch.no_grad():
        every = network(batch.images)
        found = labelled_outputs(network, batch.images, *rows)
    assert (found.predictions is None) == (not rows[0])
    assert (found.segmentation is None) == (not rows[1])
    if rows[0]:
        for mine, theirs in zip(found.predictions[:2], every.predictions[:2], strict=True):
            torch.testing.assert_close(mine, theirs[rows[0]], rtol=1e-4, atol=1e-3)
    if rows[1]:
        torch.testing.assert_close(found.segmentation.logits, every.segmentation.logits[rows[1]], rtol=1e-4, atol=1e-3)


def _parts_of(network):
    """The parts of a joint network, each with a backbone of its own again."""
    settings = network.settings()
    classes = type(network.detector), type(network.segmenter)
    return tuple(
        cls.from_settings(settings[part]) for cls, part in zip(classes, ("detector", "segmenter"), strict=True)
    )


@pytest.mark.parametrize("missing", ["boxes", "masks", "both"])
def test_a_kind_of_labels_that_is_missing_gives_zeros(missing):
    network = tiny_network().train()
    with torch.no_grad():  # values that are not finite must not spread to a loss that does not depend on them
        broken = {"boxes": network.detector.box_head, "masks": network.segmenter.head, "both": network.detector.fpn}
        next(broken[missing].parameters()).fill_(torch.nan)
    batch = batch_of([missing == "masks"] * 2, [missing == "boxes"] * 2)
    found = joint_losses(network, batch, DetectionLoss(), SegmentationLoss())
    assert found.present.tolist() == [missing == "masks", missing == "boxes"]
    (found.detection + found.segmentation).backward()
    for loss, head, there in zip(
        (found.detection, found.segmentation), (network.detector, network.segmenter), found.present, strict=True
    ):
        assert (loss > 0) == there
        gradients = [p.grad for p in head.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients) == there
    assert any(p.grad.any() for p in network.backbone.parameters()) == (missing != "both")


@pytest.mark.slow
def test_fifty_steps_of_segmentation_leave_the_detector_as_it_was(here, streets):
    """Weights, statistics and detections stay with weight decay, momentum, averaging and images that have boxes."""
    detector, _ = write_parts(here, streets)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    images = torch.randint(0, 256, (2, 3, *CANVAS_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    frozen = "--model.train segmenter --model.detector_checkpoint detector.ckpt --model.optimizer.weight_decay 0.1"
    fitted(f"--config both.yaml {frozen} --trainer.max_epochs -1 --trainer.max_steps 50 --run.name s {LIGHT}")
    content = stored("s")
    assert content["global_step"] == 50
    for part in ("state_dict", "current_model_state"):
        after = content[part]
        for key, value in before.items():
            inside = f"network.{key}" if key.startswith("backbone.") else f"network.detector.{key}"
            assert torch.equal(after.pop(inside), value), key
        assert all(key.startswith("network.segmenter.head") for key in after)
    joint = load_network("runs/joint/s/checkpoints/last.ckpt")
    # As in a joint network that was made from this detector and learnt nothing.
    untrained = load_network("runs/joint/s/checkpoints/last.ckpt")
    untrained.segmenter.head.load_state_dict(
        type(untrained).from_settings(joint.settings()).segmenter.head.state_dict()
    )
    batch = detection_batch(images)
    with torch.no_grad():
        now, then = joint(images), untrained(images)
        assert all(torch.equal(*pair) for pair in zip(now.predictions, then.predictions, strict=True))
        assert not torch.equal(now.segmentation.logits, then.segmentation.logits)
        config = Postprocess(score_threshold=0.0)
        assert all(
            torch.equal(*pair)
            for pair in zip(joint.detector.detect(batch, config)[:3], detector.detect(batch, config)[:3], strict=True)
        )
    losses = logged("runs/joint/s", "train_loss")
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


LIGHT = "--trainer.limit_val_batches 0 --data.batch_size 2"


def detection_batch(images):
    count, (height, width) = len(images), CANVAS_HW
    sizes = torch.tensor([[height, width]]).repeat(count, 1)
    empty = torch.zeros(count, 0, 4), torch.zeros(count, 0, dtype=torch.long)
    return DetectionBatch(images, *empty, torch.arange(count), torch.ones(count), sizes)


@pytest.mark.slow
def test_training_the_detector_leaves_the_segmenter_as_it_was(here, streets):
    _, segmenter = write_parts(here, streets)
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    frozen = "--model.train detector --model.segmenter_checkpoint segmenter.ckpt"
    fitted(f"--config both.yaml {frozen} --trainer.max_epochs 1 --run.name d {LIGHT}")
    after = stored("d")["state_dict"]
    for key, value in before.items():
        inside = f"network.{key}" if key.startswith("backbone.") else f"network.segmenter.{key}"
        assert torch.equal(after.pop(inside), value), key
    assert any("fpn" in key for key in after)


def test_a_frozen_part_needs_weights(here):
    said = command(f"fit --config both.yaml --model.train segmenter {QUICK}")
    assert (said.code, "Give model.detector_checkpoint, or train both" in said.err) == (2, True)
    said = command(f"fit --config both.yaml --model.train segmenter --model.balance.method pcgrad {QUICK}")
    assert (said.code, "one loss needs no balance" in said.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["detector", "segmenter"])
def test_heads_are_attached_to_a_trained_network(here, streets, source):
    """With a learning rate of almost nothing the checkpoint shows what the training started from."""
    kept = dict(zip(("detector", "segmenter"), write_parts(here, streets), strict=True))[source]
    still = "--model.optimizer.name sgd --model.optimizer.lr 1e-12 --ema.decay 0 --model.norms frozen"
    config = yaml.safe_load(Path("both.yaml").read_text())
    del config["model"]["member"]
    config["model"]["detector"]["architecture"].pop("norm_momentum")
    Path("open.yaml").write_text(yaml.safe_dump(config))
    fitted(f"--config open.yaml --model.{source}_checkpoint {source}.ckpt {still} --run.name on {QUICK} {LIGHT}")
    after = stored("on")["state_dict"]
    for key, value in kept.named_parameters():
        inside = f"network.{key}" if key.startswith("backbone.") else f"network.{source}.{key}"
        torch.testing.assert_close(after[inside], value, rtol=0, atol=1e-6)
    for key, value in kept.backbone.named_buffers():
        assert torch.equal(after[f"network.backbone.{key}"], value)
    assert load_network("runs/joint/on/checkpoints/last.ckpt").detector.config.name == "lite0"


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("uncertainty", "pcgrad")]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fixed", *SLOW])
def test_sets_with_disjoint_labels_train_without_nan(here, method):
    """Each batch of one image has one kind of labels."""
    ways = {"fixed": "--model.norms per_task", "uncertainty": "--model.norms shared", "pcgrad": "--model.norms frozen"}
    line = f"--config two.yaml {ways[method]} --model.balance.method {method} --run.name {method}"
    fitted(f"{line} --data.batch_size 1 --data.steps_per_epoch 4 --trainer.max_epochs 1 --trainer.limit_val_batches 0")
    parts = np.array([logged(f"runs/joint/{method}", f"train_{name}_loss") for name in ("detection", "segmentation")])
    assert parts.shape == (2, 4)
    assert ((parts > 0).sum(0) == 1).all()
    assert sorted((parts > 0).sum(1)) == [2, 2]
    content = stored(method)
    for part in ("state_dict", "current_model_state"):
        assert all(value.isfinite().all() for value in content[part].values())


@pytest.mark.slow
def test_log_variances_are_learnt_saved_and_resumed(here):
    line = "--config both.yaml --model.balance.method uncertainty --run.name u --trainer.limit_val_batches 1"
    fitted(f"{line} --trainer.max_epochs 1")
    first = stored("u")["current_model_state"]["uncertainty.log_variances"]
    assert first.abs().min() > 1e-4
    fitted(f"{line} --trainer.max_epochs 2 --ckpt_path last")
    assert not torch.equal(stored("u")["current_model_state"]["uncertainty.log_variances"], first)
    said = command("validate --config both.yaml --ckpt_path last --run.name u --model.scores u.json")
    assert said.code == 0, said.err  # which needs no balance
    assert load_network("runs/joint/u/checkpoints/last.ckpt") is not None
    said = command(f"fit {line} --ckpt_path last --model.balance.method pcgrad".replace("uncertainty ", "fixed "))
    assert (said.code, "model.balance.method is 'pcgrad', but the checkpoint" in said.err) == (2, True)


@pytest.mark.slow
def test_agreement_is_logged_at_the_asked_steps(here):
    fitted("--config both.yaml --model.balance.measure 2 --run.name m --trainer.limit_val_batches 0")
    cosines, ratios = (logged("runs/joint/m", f"gradient_{name}") for name in ("cosine", "norm_ratio"))
    assert len(logged("runs/joint/m", "train_loss")) == 4
    assert len(cosines) == len(ratios) == 2  # epochs of two steps
    assert all(-1 <= cosine <= 1 for cosine in cosines)
    assert all(ratio > 0 for ratio in ratios)


@pytest.mark.slow
def test_measuring_changes_nothing(here):
    for name, measure in (("with", 1), ("without", 0)):
        fitted(f"--config both.yaml --model.balance.measure {measure} --run.name {name} --trainer.limit_val_batches 0")
    with_, without = stored("with")["state_dict"], stored("without")["state_dict"]
    assert all(torch.equal(value, without[key]) for key, value in with_.items())


@pytest.mark.slow
@pytest.mark.parametrize(("config", "workers"), [pytest.param("both", 0, marks=pytest.mark.slow), ("two", 2)])
def test_a_training_killed_within_an_epoch_goes_on_to_the_same_weights(here, config, workers):
    """Everything is random here: orders, crops, colours and dropout."""
    line = f"--config {config}.yaml --data.steps_per_epoch 4 --trainer.max_epochs 2 --trainer.limit_val_batches 0"
    line += f" --data.num_workers {workers} --model.detector.architecture.drop_path 0.2 --data.batch_size 2"
    crash = "--trainer.callbacks+ tests.joint.small.CrashAt --trainer.callbacks.crash 7"
    fitted(f"{line} --run.name whole")
    with pytest.raises(RuntimeError, match="power cut"):
        command(f"fit {line} --run.name cut --run.save_steps 3 {crash}")
    assert stored("cut")["global_step"] == 6  # in the middle of the second epoch
    fitted(f"{line} --run.name cut --ckpt_path last --data.num_workers 0")
    whole, resumed = stored("whole"), stored("cut")
    assert resumed["global_step"] == 8
    assert_same_training(whole, resumed)
    assert logged("runs/joint/whole", "train_loss")[6:] == logged("runs/joint/cut", "train_loss")


def test_the_task_is_a_module_whose_mode_keeps_what_is_frozen():
    from joint.network.parts import DetectorPart
    from joint.task import JointTask

    task = JointTask("lite0", DetectorPart(classes=None), train="detector", backbone_weights=None)
    assert isinstance(task, LightningModule)
    assert isinstance(task.network, JointNetwork)
    task.train()
    assert task.network.detector.training
    assert not any(module.training for module in task.network.segmenter.modules())
    assert not any(module.training for module in task.network.backbone.modules())
