"""Images with several labels, class weights, balanced sampling, mixing and stages, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from classification import load
from classification.data.module import ClassificationDataModule
from classification.network.losses import balanced_weights
from tests.classification.data.cifar_files import write_cifar10
from tests.classification.small import command


def test_several_labels_are_learnt_and_found(here, tmp_path, monkeypatch):
    """Red and green light, each on or off."""
    rng = np.random.default_rng(0)
    (tmp_path / "pics").mkdir()
    rows = [("file", "labels")]
    for number in range(24):
        on = [name for name in ("red", "green") if rng.random() < 0.5]
        pixels = rng.integers(0, 60, (40, 40, 3))
        pixels[..., 0] += 150 * ("red" in on)
        pixels[..., 1] += 150 * ("green" in on)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"pics/{number}.png")
        rows.append((f"{number}.png", ";".join(on)))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    data = (
        f"--data.format table --data.root {tmp_path} --data.table.train labels.csv --data.table.val labels.csv "
        "--data.table.images pics --data.table.separator ;"
    )
    said = command(f"fit --config small.yaml {data} --run.name several --model.loss.class_weights balanced")
    assert said.code == 0, said.err
    assert "several labels an image" in said.err
    best = next(Path("runs/classification/several/checkpoints").glob("best*"))
    score = f"validate --config small.yaml {data} --ckpt_path {best} --model.threshold 0.6 --model.scores several.json"
    said = command(f"{score} --run.pictures false")
    assert said.code == 0, said.err
    found = json.loads(Path("several.json").read_text())
    assert found["score"] == found["map"] > 0.5
    assert load(best).predict(tmp_path / "pics/0.png").threshold == 0.5
    refused = command(f"fit --config small.yaml {data} --model.mixing.mixup 0.2")
    assert refused.code == 2
    assert "one label an image" in refused.err


def test_cifar_in_its_binary_form_is_trained_on(here, tmp_path):
    """Ten kinds whose records are told apart by their brightness."""
    rng = np.random.default_rng(0)
    written = write_cifar10(tmp_path / "cifar-10-batches-bin", rng, each=12)
    for name, records in written.items():
        records[:, 1:] = rng.integers(0, 25, records[:, 1:].shape) + 23 * records[:, :1]
        (tmp_path / "cifar-10-batches-bin" / name).write_bytes(records.tobytes())
    data = f"--data.format cifar --data.root {tmp_path} --data.cifar.val_share 0.25 --model.architecture.image_size 32"
    said = command(f"fit --config small.yaml {data} --run.name cifar --trainer.max_epochs 1")
    assert said.code == 0, said.err
    assert "10 classes, one label an image; images of 32 x 32 pixels" in said.err
    checkpoint = "runs/classification/cifar/checkpoints/last.ckpt"
    said = command(f"test --config small.yaml {data} --ckpt_path {checkpoint} --model.scores cifar.json")
    assert said.code == 0, said.err
    found = json.loads(Path("cifar.json").read_text())
    truth = np.bincount(written["test_batch.bin"][:, 0], minlength=10)
    assert np.sum(found["confusion"], axis=1).tolist() == truth.tolist()


def test_growing_mixed_and_balanced_trainings_run(here):
    said = command(
        "fit --config small.yaml --run.name growing --model.progressive.stages 2 "
        "--model.progressive.image_size [32,64] --model.progressive.magnitude [3,9] "
        "--model.progressive.mixup [0,0.4] --model.progressive.dropout [0.1,0.3] --model.mixing.cutmix 0.5 "
        "--data.augmentation.policy rand-m3-n1 --data.sampling.name class_balanced --model.loss.smoothing 0.1 "
        "--model.loss.class_weights balanced --trainer.max_epochs 2 "
        "--trainer.callbacks+ tests.classification.watching.Sizes --trainer.callbacks.file sizes.json"
    )
    assert said.code == 0, said.err
    seen = json.loads(Path("sizes.json").read_text())
    assert [side for side, _ in seen] == [32] * 6 + [64] * 6
    assert [dropout for _, dropout in seen] == pytest.approx([0.1] * 6 + [0.3] * 6)


def test_balanced_weights_are_those_of_scikit_learn(here):
    rows = np.repeat([0, 1, 2], [6, 2, 4])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=rows)
    np.testing.assert_allclose(balanced_weights(12, np.bincount(rows), several=False), expected, rtol=1e-6)
    # Of several labels: absent ones for each present one, as torch's pos_weight is documented.
    np.testing.assert_allclose(balanced_weights(12, np.array([3, 6]), several=True), [3.0, 1.0])
    data = ClassificationDataModule(root="colors")
    images, counts = data.class_counts()
    assert (images, counts.tolist()) == (36, [12, 12, 12])
