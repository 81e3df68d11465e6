"""Training is the same on one process and on two, learns, averages, and freezes the stages that it should."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from detection import EfficientDet, load, load_network
from detection.data.classes import BoxClasses
from detection.weights.load import export_effdet
from engine.training.plugins import SyncBatchNorm
from tests.detection.small import ARCHITECTURE, command, norms, write_few
from tests.ports import be_process, free_port

# Every step takes all 4 scenes, so that the order in which the processes draw them does not matter. In double
# precision, as a last digit that falls on the other side of a ReLU's kink would grow within a few steps.
WHOLE_SET = (
    "fit --config small.yaml --data.train_annotations few.json --trainer.max_epochs 3 "
    "--trainer.check_val_every_n_epoch 3 --model.freeze_norm true "
    "--trainer.num_sanity_val_steps 0 --data.augmentation.hflip 0 --data.augmentation.scale_min 1 "
    "--data.augmentation.scale_max 1 --model.optimizer.name sgd --model.optimizer.lr 0.02 "
    "--model.optimizer.lr_batch 8 --model.schedule.warmup_steps 1 "
    "--trainer.precision 64-true --ema.decay 0 --model.loss.normaliser running "
    "--trainer.callbacks+ tests.detection.small.StillNorms --trainer.callbacks+ tests.detection.small.Gradients"
)

# The published losses, and those that `--recipe` takes with a score that says how well its box fits.
LOSSES = {
    "published": "",
    "recipe": "--model.loss.assigner atss --model.loss.boxes ciou --model.loss.classes quality_focal",
}


def run_process(rank, world, port, folder, more):
    """One process of a training, set up as torchrun does it."""
    from tests.detection.small import command

    os.chdir(folder)
    be_process(rank, world, port)
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        devices = f"--trainer.devices {world} --trainer.strategy ddp"
        said = command(f"{WHOLE_SET} {more} --trainer.callbacks.place two --data.batch_size 2 --run.name two {devices}")
    assert said.code == 0, said.err
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module", params=LOSSES)
def one_and_two(request, small_set, tmp_path_factory):
    """The folder of the same training on one process with 4 images and on two with 2."""
    import torch.multiprocessing

    folder, more = tmp_path_factory.mktemp("processes"), LOSSES[request.param]
    for name in ("scenes", "small.yaml"):
        (folder / name).symlink_to(small_set / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_few(4)
    port = free_port()
    # Loaded once, not by each process.
    multiprocessing.set_forkserver_preload(
        ["engine.cli.effdense_cli", "detection.data.module", "detection.prediction.trainer"]
    )
    context = torch.multiprocessing.start_processes(
        run_process, (2, port, str(folder), more), nprocs=2, start_method="forkserver", join=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = command(f"{WHOLE_SET} {more} --trainer.callbacks.place one --data.batch_size 4 --run.name one")
    assert said.code == 0, said.err
    while not context.join():
        pass
    return folder


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_have_the_gradients_of_one(one_and_two):
    for step in range(3):
        one, two = (torch.load(one_and_two / f"{name}/{step}.pt") for name in ("one", "two"))
        assert one.keys() == two.keys()
        for name, gradient in one.items():
            # Plain DDP: nothing without a gradient.
            assert gradient is not None, name
            scale = gradient.abs().max().clamp(min=1e-3)
            assert ((two[name] - gradient).abs().max() / scale) < 1e-5, (step, name)
    largest = max(gradient.abs().max() for gradient in one.values())
    assert largest > 0.01


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_take_the_steps_of_one(one_and_two):
    one, two = (
        torch.load(one_and_two / f"runs/detection/{name}/checkpoints/last.ckpt", weights_only=True)
        for name in ("one", "two")
    )
    assert one["global_step"] == two["global_step"] == 3
    moved = 0.0
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-5, atol=1e-7)
        if "norm.weight" in name:  # ones at the start
            moved = max(moved, float((value - 1).abs().max()))
    assert moved > 1e-3


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_log_the_numbers_of_one(one_and_two):
    rows = {}
    for name in ("one", "two"):
        with (one_and_two / f"runs/detection/{name}/metrics.csv").open() as file:
            rows[name] = list(csv.DictReader(file))
    for measure in ("val_ap", "val_ap50", "val_ar100", "val_ar_small", "val_loss"):
        values = [[float(row[measure]) for row in rows[name] if row[measure]] for name in ("one", "two")]
        assert len(values[0]) == 1
        assert values[0] == pytest.approx(values[1], abs=1e-6)
    # The learning rate follows the global batch, which is the same.
    rates = [[float(row["lr-SGD/pg1"]) for row in rows[name] if row.get("lr-SGD/pg1")] for name in ("one", "two")]
    assert rates[0] == rates[1]
    assert max(rates[0]) == pytest.approx(0.01)  # 4 images of the 8 that the rate is meant for


@pytest.mark.slow
def test_four_scenes_are_learnt(here):
    write_few(4)
    still = "--data.augmentation.hflip 0 --data.augmentation.scale_min 1 --data.augmentation.scale_max 1"
    said = command(
        f"fit --config small.yaml --data.train_annotations few.json {still} --trainer.max_epochs 30 --run.name four "
        "--trainer.limit_val_batches 0 --trainer.enable_checkpointing false"
    )
    assert said.code == 0, said.err
    with Path("runs/detection/four/metrics.csv").open() as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert len(losses) == 30
    assert np.mean(losses[-4:]) < 0.4 * np.mean(losses[:4])


@pytest.mark.slow
def test_the_average_is_what_a_checkpoint_holds_and_validation_measures(here, trained):
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    average, live = content["state_dict"], content["current_model_state"]
    name = "detector.class_head.predict.pointwise.weight"
    assert not torch.equal(average[name], live[name])
    detector = load(trained / "checkpoints/last.ckpt")
    assert torch.equal(detector.network.state_dict()[name.removeprefix("detector.")], average[name])
    # What `validate` measures is what the average detects.
    said = command(
        f"validate --config small.yaml --ckpt_path {trained}/checkpoints/last.ckpt --model.detections found.json"
    )
    assert said.code == 0, said.err
    found = json.loads(Path("found.json").read_text())
    images = json.loads(Path("scenes/annotations/instances_val.json").read_text())["images"]
    for image in images[:2]:
        mine = detector.predict(Path("scenes/leftImg8bit/val", image["file_name"]), score_threshold=0.001)
        theirs = [entry["score"] for entry in found if entry["image_id"] == image["id"]]
        np.testing.assert_allclose(mine.scores, theirs, atol=1e-6)


def network(**settings):
    torch.manual_seed(0)
    net = EfficientDet("lite0", num_classes=3, **ARCHITECTURE, **settings)
    for norm in norms(net):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
    return net.eval()


def test_sync_batch_norm_keeps_the_activations():
    images = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        expected = network()(images)
        converted = SyncBatchNorm().apply(network())
        found = converted(images)
        lost = nn.SyncBatchNorm.convert_sync_batchnorm(network())(images)
    for maps in zip((*expected[0], *expected[1]), (*found[0], *found[1]), strict=True):
        torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-6)
    assert converted.state_dict().keys() == network().state_dict().keys()
    assert norms(converted)
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(converted))
    # torch's own converter drops them: this is why there is another.
    assert any(isinstance(norm, BatchNormAct2d) for norm in norms(network()))
    assert (lost[0][0] - expected[0][0]).abs().max() > 0.1


@pytest.mark.slow
def test_training_runs_with_sync_batch_norm_on_one_process(here):
    quick = "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1"
    said = command(f"fit --config small.yaml --trainer.sync_batchnorm true --run.name sync {quick}")
    assert said.code == 0, said.err
    load("runs/detection/sync/checkpoints/last.ckpt")


@pytest.fixture
def published(here):
    """A file in effdet's layout, of the small network with COCO's 90 classes."""
    torch.manual_seed(1)
    net = EfficientDet("lite0", num_classes=90, **ARCHITECTURE)
    torch.save(export_effdet(net, redundant_bias=True), "tf_efficientdet_lite0.pth")
    return net


def test_fine_tuning_keeps_all_but_the_last_class_layer_and_says_so(published, caplog):
    # With a learning rate near zero the checkpoint shows the weights with which the training started.
    quick = "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --trainer.limit_val_batches 0 --ema.decay 0"
    still = "--model.optimizer.name sgd --model.optimizer.lr 1e-12"
    said = command(
        f"fit --config small.yaml --model.pretrained tf_efficientdet_lite0.pth --run.name tuned {quick} {still}"
    )
    assert said.code == 0, said.err
    assert "class list changed from 90 to 10 rows: all weights are kept except the last class layer" in caplog.text
    tuned = load_network("runs/detection/tuned/checkpoints/last.ckpt")
    assert len(tuned.classes) == 10
    before, after = dict(published.named_parameters()), dict(tuned.named_parameters())
    assert before.keys() == after.keys()
    differ = {name for name, value in before.items() if value.shape != after[name].shape}
    assert differ == {"class_head.predict.pointwise.weight", "class_head.predict.pointwise.bias"}
    renewed = {
        name for name in before.keys() - differ if not torch.allclose(before[name], after[name], rtol=0, atol=1e-6)
    }
    assert renewed == {"class_head.predict.depthwise.weight"}
    # The published network comes in eval mode; its batch norms must learn from the new images.
    assert all(int(norm.num_batches_tracked) == 2 for norm in norms(tuned))


@pytest.mark.slow
def test_a_detector_of_the_same_classes_keeps_every_weight(published, caplog):
    content = json.loads(Path("scenes/annotations/instances_train.json").read_text())
    coco = BoxClasses.coco90()
    content["categories"] = [{"id": i, "name": coco.names[coco.class_id_by_category[i]]} for i in (1, 3)]
    content["annotations"] = [{**a, "category_id": 1 + 2 * (a["category_id"] == 26)} for a in content["annotations"]]
    Path("coco.json").write_text(json.dumps(content))
    quick = "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 0 --ema.decay 0"
    train = (
        "fit --config small.yaml --data.train_annotations coco.json --data.val_annotations null --data.val_images null"
    )
    said = command(f"{train} --model.pretrained tf_efficientdet_lite0.pth --run.name same {quick}")
    assert said.code == 0, said.err
    assert "gets new random values" not in caplog.text
    assert load("runs/detection/same/checkpoints/last.ckpt").classes == coco


@pytest.mark.slow
def test_frozen_stages_keep_weights_and_statistics(here):
    quick = "--trainer.max_epochs 1 --trainer.limit_val_batches 0 --ema.decay 0"
    said = command(f"fit --config small.yaml --model.frozen_stages 3 --run.name frozen {quick}")
    assert said.code == 0, said.err
    assert "of them trained" in said.err
    after = load("runs/detection/frozen/checkpoints/last.ckpt", fold=False).network.backbone
    assert int(after.bn1.num_batches_tracked) == 0
    frozen = [*norms(after.blocks[0]), *norms(after.blocks[1])]
    assert all(int(norm.num_batches_tracked) == 0 for norm in frozen)
    assert all(torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean)) for norm in frozen)
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in frozen)
    trained_norms = norms(after.blocks[2])
    assert all(int(norm.num_batches_tracked) == 3 for norm in trained_norms)
    assert not any(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in trained_norms)
