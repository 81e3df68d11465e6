"""Training is the same on one process and on two, resumes bit for bit, averages, and accepts foreign weights."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from PIL import Image

from engine.training.plugins import SyncBatchNorm
from segmentation import Segmenter, load_network
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.weights.smp import load_smp
from tests.detection.small import norms
from tests.engine.checkpoints import assert_same_training
from tests.ports import be_process, free_port
from tests.segmentation.small import FOLDER_CLASSES, class_ious, command, logged, read_json, rows_of, write_few

STREETS = "fit --config streets.yaml"
# Lightning reads a limit of 1 batch as 100 %.
QUICK = "--trainer.max_steps 1 --trainer.limit_val_batches 0"
STILL = "--model.optimizer.name sgd --model.optimizer.lr 1e-12 --ema.decay 0"
# Every step takes the same 4 whole scenes, so that the order in which the processes draw them does not matter.
WHOLE_SET = (
    f"{STREETS} --data.root few --data.crop_size [64,128] --data.augmentation.hflip 0 "
    "--data.augmentation.scale_min 1 --data.augmentation.scale_max 1 --data.augmentation.max_class_ratio 1 "
    "--data.augmentation.brightness 0 --data.augmentation.contrast 0 --data.augmentation.saturation 0 "
    "--data.augmentation.hue 0 --model.architecture.aux_head true "
    "--model.loss.dice 1 --model.loss.focal 0.5 --model.optimizer.name sgd --model.optimizer.lr 0.02 "
    "--model.optimizer.lr_batch 8 --model.schedule.warmup_steps 1 --trainer.max_epochs 2 "
    "--trainer.check_val_every_n_epoch 2 --trainer.num_sanity_val_steps 0 --trainer.precision 64-true --ema.decay 0 "
    "--trainer.callbacks+ tests.segmentation.small.Still "
)


def watched(name):
    """The options that write gradients and losses below a folder."""
    return (
        f"--trainer.callbacks+ tests.detection.small.Gradients --trainer.callbacks.place {name} "
        f"--trainer.callbacks+ tests.segmentation.small.StepLosses --trainer.callbacks.place {name} --run.name {name}"
    )


def measured(name, devices):
    """Validate what the two processes have trained."""
    checkpoint = "runs/segmentation/two/checkpoints/last.ckpt"
    return f"validate --config streets.yaml --ckpt_path {checkpoint} --model.scores {name}.json {devices}"


def run_process(rank, world, port, folder):
    """One process of a training and a validation, set up as torchrun does it."""
    from tests.segmentation.small import command

    os.chdir(folder)
    be_process(rank, world, port)
    torch.set_num_threads(1)
    devices = f"--trainer.devices {world} --trainer.strategy ddp"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        said = command(f"{WHOLE_SET} {watched('two')} --data.batch_size 2 {devices}")
        assert said.code == 0, said.err
        said = command(measured("two", devices))
    assert said.code == 0, said.err
    assert bool(said.out) == (rank == 0)  # the table once
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def one_and_two(street_set, tmp_path_factory):
    """The folder of the same training on one process with 4 images and on two with 2."""
    import torch.multiprocessing

    folder = tmp_path_factory.mktemp("processes")
    for name in ("scenes", "streets.yaml"):
        (folder / name).symlink_to(street_set / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_few(4)
    port = free_port()
    # Loaded once, not by each process.
    multiprocessing.set_forkserver_preload(
        ["engine.cli.effdense_cli", "segmentation.data.module", "segmentation.prediction.trainer"]
    )
    context = torch.multiprocessing.start_processes(
        run_process, (2, port, str(folder)), nprocs=2, start_method="forkserver", join=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = command(f"{WHOLE_SET} {watched('one')} --data.batch_size 4")
        assert said.code == 0, said.err
        while not context.join():
            pass
        said = command(measured("one", ""))
    assert said.code == 0, said.err
    return folder


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_have_the_gradients_of_one(one_and_two):
    for step in range(2):
        one, two = (torch.load(one_and_two / f"{name}/{step}.pt") for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert any(name.startswith("segmenter.aux_head") for name in one)
        for name, gradient in one.items():
            # Plain DDP: nothing without a gradient.
            assert gradient is not None, name
            scale = gradient.abs().max().clamp(min=1e-3)
            assert ((two[name] - gradient).abs().max() / scale) < 1e-4, (step, name)
    assert max(gradient.abs().max() for gradient in one.values()) > 0.01


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_have_the_loss_of_one(one_and_two):
    """The loss is a mean over all counted pixels, of which the processes have different numbers."""
    for step in (1, 2):
        loss, pixels = torch.load(one_and_two / f"one/loss-0-{step}.pt")
        shares = [torch.load(one_and_two / f"two/loss-{rank}-{step}.pt") for rank in range(2)]
        assert sum(share[1] for share in shares) == pixels
        assert shares[0][1] != shares[1][1]
        assert sum(float(share[0]) for share in shares) / 2 == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_take_the_steps_of_one(one_and_two):
    one, two = (
        torch.load(one_and_two / f"runs/segmentation/{name}/checkpoints/last.ckpt", weights_only=True)
        for name in ("one", "two")
    )
    assert one["global_step"] == two["global_step"] == 2
    assert one["state_dict"].keys() == two["state_dict"].keys()
    moved = 0.0
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-4, atol=1e-6)
        if "bn1.weight" in name:  # ones at the start
            moved = max(moved, float((value - 1).abs().max()))
    assert moved > 1e-4
    rates = [logged(one_and_two / f"runs/segmentation/{name}", "lr-SGD/pg1") for name in ("one", "two")]
    assert rates[0] == rates[1]
    assert max(rates[0]) == pytest.approx(0.01)  # 4 images of the 8 that the rate is meant for


@pytest.mark.slow  # tests/joint has the same, of both losses
def test_two_processes_measure_what_one_does(one_and_two):
    """With five images, one process gets one of them twice."""
    texts = [(one_and_two / f"{name}.json").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]
    scores = read_json(one_and_two / "one.json")
    true = rows_of(one_and_two / "scenes/gtFine/val", CITYSCAPES.label_ids)
    assert np.sum(scores["confusion"]) == sum((rows != 255).sum() for rows in true.values())
    scores = ("val_miou", "val_category_iou", "val_iiou", "val_category_iiou", "val_pixel_accuracy")
    for measure in (*scores, "val_loss"):
        one, two = (logged(one_and_two / f"runs/segmentation/{name}", measure) for name in ("one", "two"))
        assert len(one) == 1
        assert two == pytest.approx(one, abs=1e-4)


@pytest.mark.slow
def test_an_interrupted_training_resumed_equals_an_uninterrupted_one(here):
    """Orders, crops, colours, dropout and stochastic depth are all random; batches of 5 of 12 images, other workers."""
    small = "--data.batch_size 5 --data.crop_size 48 --trainer.limit_val_batches 0.2 --data.repeat 2"
    fit = f"{STREETS} {small} --model.architecture.drop_path 0.2 --run.name"
    assert command(f"{fit} whole").code == 0
    whole = torch.load("runs/segmentation/whole/checkpoints/last.ckpt", weights_only=True)
    losses = logged("runs/segmentation/whole", "train_loss")
    assert len(set(losses)) == 8
    between = "--trainer.callbacks+ tests.engine.toy.Crash --trainer.callbacks.epoch 1"
    within = "--run.save_steps 2 --trainer.callbacks+ tests.joint.small.CrashAt --trainer.callbacks.crash 7"
    for run, crash, workers, later, step in (("between", between, 2, 0, 4), ("within", within, 2, 2, 6)):
        with pytest.raises(RuntimeError, match="power cut"):
            command(f"{fit} {run} {crash} --data.num_workers {workers}")
        said = command(f"{fit} {run} --ckpt_path last --data.num_workers {later}")
        assert said.code == 0, said.err
        cut = torch.load(f"runs/segmentation/{run}/checkpoints/last.ckpt", weights_only=True)
        assert cut["global_step"] == 8
        assert_same_training(whole, cut)
        assert losses[step:] == logged(f"runs/segmentation/{run}", "train_loss")


@pytest.mark.slow
def test_the_average_is_what_a_checkpoint_holds_and_validation_measures(here, trained):
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    average, live = content["state_dict"], content["current_model_state"]
    name = "segmenter.head.classifier.weight"
    assert not torch.equal(average[name], live[name])
    segmenter = load_network(trained / "checkpoints/last.ckpt")
    assert torch.equal(segmenter.state_dict()[name.removeprefix("segmenter.")], average[name])
    said = command(
        f"validate --config streets.yaml --ckpt_path {trained}/checkpoints/last.ckpt --model.scores found.json"
    )
    assert said.code == 0, said.err
    assert measured_ious("found.json") == pytest.approx(own_ious(segmenter), abs=1e-12, nan_ok=True)


def measured_ious(path):
    return [np.nan if value is None else value for value in read_json(path)["class_ious"].values()]


def own_ious(network):
    """Class IoUs of a network on the validation scenes, pixel by pixel."""
    true = rows_of("scenes/gtFine/val", CITYSCAPES.label_ids)
    found = []
    for name in true:
        picture = name.replace("gtFine/", "leftImg8bit/", 1).replace("gtFine_labelIds", "leftImg8bit")
        image = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)[None]
        with torch.no_grad():
            found.append(network(image)[0].argmax(0).numpy())
    return class_ious(found, list(true.values()), len(CITYSCAPES)).tolist()


def test_sync_batch_norm_keeps_the_network():
    """The image branch's norm too becomes the synchronised kind, which sees all devices' images."""
    torch.manual_seed(0)
    network = Segmenter("lite0", num_classes=3, decoder_channels=16).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
        converted = SyncBatchNorm().apply(copy.deepcopy(network))
        torch.testing.assert_close(converted(images), expected, rtol=0, atol=1e-5)
    assert len(norms(converted)) == len(norms(network)) > 50
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms(converted))


@pytest.mark.slow
def test_validation_at_half_the_output_stride(here, trained):
    """The weights of stride 16 in a network built for stride 8, whose rates are twice as large."""
    best = next((trained / "checkpoints").glob("best*"))
    said = command(
        f"validate --config streets.yaml --ckpt_path {best} --model.eval_output_stride 8 --model.scores fine.json"
    )
    assert said.code == 0, said.err
    at_16 = load_network(best)
    settings = {"output_stride": 8, "atrous_rates": (12, 24, 36), "decoder_channels": 16, "skip_channels": 8}
    at_8 = Segmenter("lite0", classes=CITYSCAPES, **settings).eval()
    at_8.load_state_dict(at_16.state_dict())
    ious = own_ious(at_8)
    assert measured_ious("fine.json") == pytest.approx(ious, abs=1e-12, nan_ok=True)
    assert np.nanmax(np.abs(np.subtract(ious, own_ious(at_16)))) > 1e-3


def test_training_at_another_stride_than_it_validates_is_refused(here):
    said = command(f"{STREETS} --model.eval_output_stride 8 --run.name finer")
    assert said.code == 2
    assert "eval_output_stride is 8, but fit validates what it trains" in said.err


def test_loss_terms_are_logged_and_add_up(here):
    weights = "--model.loss.focal 0.5 --model.loss.dice 0.7 --model.loss.lovasz 0.3 --model.loss.hard_pixels 0.3"
    said = command(f"{STREETS} --model.architecture.aux_head true {weights} --run.name terms {QUICK}")
    assert said.code == 0, said.err
    names = ["cross_entropy", "focal", "dice", "lovasz", "aux"]
    terms = [logged("runs/segmentation/terms", f"train_{name}") for name in names]
    assert all(len(term) == 1 and term[0] > 0 for term in terms)
    assert logged("runs/segmentation/terms", "train_loss") == [pytest.approx(sum(term[0] for term in terms), rel=1e-5)]
    # The auxiliary head is in the checkpoint, which is whole without it being asked.
    kept = load_network("runs/segmentation/terms/checkpoints/last.ckpt")
    assert kept.aux_head is not None
    assert torch.is_tensor(kept(torch.zeros(1, 3, 33, 33, dtype=torch.uint8)))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("unetplusplus", "fpn", "manet", "linknet", "upernet")]


@pytest.mark.by_default("deeplabv3plus", "unet")
@pytest.mark.parametrize("decoder", ["deeplabv3plus", "unet", "pan", *SLOW])
def test_every_decoder_learns_from_one_image_on_a_device(here, decoder):
    """One image that is pooled to one cell has no variance for batch norm."""
    own = "" if decoder == "deeplabv3plus" else "--model.architecture.decoder_channels null"
    own = own and f"{own} --model.architecture.skip_channels null"
    line = f"{STREETS} {own} --model.architecture.decoder {decoder} --data.batch_size 1 --run.name one {QUICK}"
    said = command(line)
    assert said.code == 0, said.err
    assert f"{decoder} on tf_efficientnet_lite0 at output stride" in said.err
    (loss,) = logged("runs/segmentation/one", "train_loss")
    assert 0.5 < loss < 20
    segmenter = load_network("runs/segmentation/one/checkpoints/last.ckpt")
    assert segmenter.config.decoder == decoder
    assert segmenter(torch.zeros(1, 3, 45, 70, dtype=torch.uint8)).shape == (1, 19, 45, 70)


@pytest.fixture
def foreign(here):
    """A network of smp's with its folder `smp`, of Cityscapes' classes."""
    torch.manual_seed(1)
    net = smp.DeepLabV3Plus("tu-tf_efficientnet_b0", encoder_weights=None, classes=19, decoder_channels=16)
    for norm in norms(net):  # statistics of images, so that it says more than one class
        norm.momentum = None
    net.train()(torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    net.save_pretrained("smp")
    for kind in ("streets", "things"):  # without their own network
        config = yaml.safe_load(Path(f"{kind}.yaml").read_text())
        del config["model"]["member"], config["model"]["architecture"]
        Path(f"{kind}_only.yaml").write_text(yaml.safe_dump(config))
    return net.eval()


def test_weights_of_smp_score_as_in_smp(foreign):
    said = command("validate --config streets_only.yaml --model.pretrained smp --model.scores found.json")
    assert said.code == 0, said.err
    mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    ious = own_ious(lambda images: foreign((images - mean) / std))
    assert measured_ious("found.json") == pytest.approx(ious, abs=2e-3, nan_ok=True)
    assert np.count_nonzero(np.nan_to_num(ious)) > 3


def test_fine_tuning_weights_of_smp_keeps_all_but_the_last_layer_and_says_so(foreign, caplog):
    said = command(f"fit --config things_only.yaml --model.pretrained smp --run.name tuned {QUICK} {STILL}")
    assert said.code == 0, said.err
    assert "class list changed from 19 to 2 rows: all weights are kept except the last layer" in caplog.text
    tuned = load_network("runs/segmentation/tuned/checkpoints/last.ckpt")
    assert tuned.classes.names == FOLDER_CLASSES
    assert tuned.config.alignment == "corners"
    before = dict(load_smp("smp").named_parameters())
    after = dict(tuned.named_parameters())
    assert before.keys() == after.keys()
    differ = {name for name, value in before.items() if value.shape != after[name].shape}
    assert differ == {"head.classifier.weight", "head.classifier.bias"}
    for name in before.keys() - differ:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    # It comes in eval mode; its batch norms must learn from the new images.
    assert int(tuned.backbone.bn1.num_batches_tracked) == 1 + 1  # the first when it was made
    said = command("validate --config things_only.yaml --ckpt_path last --run.name tuned")
    assert said.code == 0, said.err
    assert " thing " in said.out
