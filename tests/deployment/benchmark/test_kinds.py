"""Classifiers, and detectors with torchvision's heads, as candidates of `benchmark`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deployment.__main__ import main
from deployment.benchmark.accuracy import Data, scores_of
from deployment.benchmark.candidates import all_candidates
from deployment.benchmark.files import Wishes, file_of
from deployment.benchmark.members import cost_of, subjects_of
from deployment.benchmark.stages import Opened
from deployment.cost import cost_of_network
from deployment.export.graphs import graph_of
from deployment.export.kinds.contract import Form
from deployment.export.operators import SameConv2d
from engine.cli.commands import run_task
from engine.errors import InputError
from engine.tasks import find_task
from tests.deployment.kinds.networks import CANVAS, SUPPRESSION, classifier, headed, loaded, saved
from tests.deployment.networks import picture

NAMES = ("a", "b", "c", "d")
PICTURES = 9


def opened(path: Path, runtime: str = "torch", size_hw: tuple[int, int] = (64, 64), batch: int = 1) -> Opened:
    (candidate,) = all_candidates(subjects_of([str(path)], []), [runtime], ["float32"], [size_hw], [batch], [1])
    return Opened(candidate, file_of(candidate, path.parent / "files", Wishes("inside", 0.01, ())), 0.01)


@pytest.fixture
def letters(tmp_path: Path) -> Callable[..., Path]:
    """The checkpoint of a classifier of four classes, with nine pictures beside it."""

    def made(*, several: bool = False) -> Path:
        (tmp_path / "loose").mkdir()
        for number in range(PICTURES):
            pixels = picture(60 + 7 * number, 90 - 3 * number, number)
            Image.fromarray(pixels).save(tmp_path / "loose" / f"{number}.png")
        return saved(classifier(several=several), tmp_path / "letters.ckpt")

    return made


def probabilities(path: Path) -> np.ndarray:
    """(N, K) what `predict` gives for the nine pictures."""
    from classification import load

    pictures = [path.parent / "loose" / f"{number}.png" for number in range(PICTURES)]
    return np.stack([each.probabilities for each in load(path).predict_many(pictures)])


@pytest.mark.by_default("2")
@pytest.mark.parametrize("batch", [1, 2])
def test_top_1_is_that_of_predict(letters, tmp_path, batch):
    path = letters()
    found = probabilities(path)
    random = np.random.default_rng(0)
    truth = found.argmax(1)
    truth[:4] = random.integers(0, 4, 4)
    truth[-1] = (truth[-1] + 1) % 4
    for number, row in enumerate(truth):
        folder = tmp_path / "labelled" / NAMES[row]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").symlink_to(tmp_path / "loose" / f"{number}.png")
    expected = float(np.mean(found.argmax(1) == truth))
    assert 0 < expected < 1
    assert scores_of(opened(path, batch=batch), Data(labels=tmp_path / "labelled")) == {
        "top-1": pytest.approx(expected)
    }
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n" + "".join(f"{n}.png,{NAMES[row]}\n" for n, row in enumerate(truth)))
    found_of_table = scores_of(opened(path), Data(labels=table, label_images=tmp_path / "loose"))
    assert found_of_table == {"top-1": pytest.approx(expected)}


def test_of_several_labels_it_is_the_mean_average_precision(letters, tmp_path):
    path = letters(several=True)
    found = probabilities(path)
    truth = np.random.default_rng(1).random((PICTURES, 4)) < 0.5
    truth[0], truth[1] = True, False
    precisions = []
    for column, wanted in zip(found.T, truth.T, strict=True):
        hits = wanted[np.argsort(-column)]
        precisions.append(np.mean((np.cumsum(hits) / np.arange(1, PICTURES + 1))[hits]))
    assert 0.2 < np.mean(precisions) < 1
    columns, words = tmp_path / "columns.csv", tmp_path / "words.csv"
    rows = [f"{number}.png," + ",".join(str(int(each)) for each in row) for number, row in enumerate(truth)]
    columns.write_text("\n".join([f"file,{','.join(NAMES)}", *rows]))
    labels = [";".join(name for name, there in zip(NAMES, row, strict=True) if there) for row in truth]
    words.write_text("\n".join(["file,labels", *(f"{number}.png,{each}" for number, each in enumerate(labels))]))
    expected = {"mAP": pytest.approx(float(np.mean(precisions)), abs=1e-6)}
    one, folder = opened(path), tmp_path / "loose"
    assert scores_of(one, Data(labels=columns, label_images=folder)) == expected
    assert scores_of(one, Data(labels=words, label_images=folder, label_separator=";")) == expected
    with pytest.raises(InputError, match=r"words.csv' has no column 'a'. Give one of 0 and 1 for each class"):
        scores_of(one, Data(labels=words, label_images=folder))


def test_a_classifier_sees_squares_of_the_size_that_is_measured(letters, tmp_path):
    path = letters()
    one = opened(path, size_hw=(96, 96))
    sample = one.canvas(picture(50, 131))
    assert sample.image.shape == (96, 96, 3)
    stages = one.run([tmp_path / "loose" / "0.png"] * 2)
    assert 0 < stages.network < stages.network + stages.finish
    with pytest.raises(InputError, match=r"which sees squares, not 64 x 96 pixels\. Give one side"):
        opened(path, size_hw=(64, 96))


def by_hand(network: nn.Module, compute: Callable[[], object]) -> int:
    """Multiply-accumulates of all convolutions and linear layers, by the sizes of what they give."""
    total = 0

    def add(layer: nn.Module, given: tuple[torch.Tensor, ...], found: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        # Each value that a layer gives is a sum of as many products as one row of its weight has; of a transposed
        # convolution, whose rows belong to what it is given, each given value goes into as many.
        total += (given[0] if isinstance(layer, nn.ConvTranspose2d) else found).numel() * weight[0].numel()

    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | SameConv2d
    handles = [each.register_forward_hook(add) for each in network.modules() if isinstance(each, kinds)]
    with torch.no_grad():
        compute()
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.by_default("fcos")
@pytest.mark.parametrize("head", ["retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_multiply_adds_of_a_head_are_those_of_its_file(head):
    """With the proposals and masks that a file has: as many as there can be."""
    network = headed(head)
    graph = graph_of(network, Form(SUPPRESSION, True, CANVAS))
    images = torch.from_numpy(picture(*CANVAS)).permute(2, 0, 1)[None]
    found = cost_of_network(network, CANVAS)
    assert found.macs == by_hand(graph, lambda: graph(images, torch.tensor([[160.0, 224.0]])))
    assert found.parameters == sum(each.numel() for each in network.parameters())


@pytest.mark.slow
def test_multiply_adds_of_a_classifier(letters):
    (subject,) = subjects_of([str(letters())], [])
    network = classifier().network
    assert (subject.task, subject.own_hw) == ("classification", (64, 64))
    found = cost_of(subject, (96, 96))
    assert found.macs == by_hand(network, lambda: network(torch.zeros(1, 3, 96, 96)))
    assert found.parameters == sum(each.numel() for each in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("head", ["retinanet", "fcos", "ssd", "faster_rcnn", "mask_rcnn"])
def test_ap_of_a_head_is_that_of_validate(head, tmp_path, capsys):
    from detection import load

    path = saved(loaded(headed(head)), tmp_path / f"{head}.ckpt")
    network = load(path)
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(3):
        file = tmp_path / "pictures" / f"{number}.png"
        Image.fromarray(picture(120 + 20 * number, 200, number)).save(file)
        images.append({"id": number, "file_name": file.name, "height": 120 + 20 * number, "width": 200})
        found = network.predict(file, score_threshold=0.01)
        for row in [row for row, each in enumerate(found.category_ids) if each != 8][:12:2]:
            left, top, right, bottom = (found.boxes_xyxy[row] + random.uniform(-1, 1, 4)).tolist()
            box = [left, top, max(1.0, right - left), max(1.0, bottom - top)]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "bbox": box, "area": box[2] * box[3],
                                "segmentation": [[left, top, right, top, right, bottom]],
                                "category_id": int(found.category_ids[row]), "iscrowd": 0})  # fmt: skip
    categories = [{"id": 7, "name": "car"}, {"id": 30, "name": "person"}]
    truth = tmp_path / "boxes.json"
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    words = ["--data.val_annotations", "boxes.json", "--data.val_images", "pictures", "--data.num_workers", "0"]
    status = run_task(
        find_task("detection"),
        ["validate", "--ckpt_path", str(path), "--data.root", str(tmp_path), *words,
         "--model.scores", str(tmp_path / "scores.json")],
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    expected = json.loads((tmp_path / "scores.json").read_text())["ap"]
    assert 0.1 < expected < 0.95
    data = Data(truth, tmp_path / "pictures")
    assert scores_of(opened(path, size_hw=CANVAS), data) == {"AP": pytest.approx(expected, abs=1e-9)}
    for runtime in ("onnx", "openvino"):
        assert scores_of(opened(path, runtime, CANVAS), data) == {"AP": pytest.approx(expected, abs=0.01)}


@pytest.mark.slow
def test_checkpoints_and_files_of_both_in_one_report(letters, tmp_path, capsys):
    path = letters()
    head = saved(loaded(headed("fcos")), tmp_path / "fcos.ckpt")
    (tmp_path / "labels.csv").write_text("file,label\nloose/0.png,a\nloose/1.png,b\nloose/2.png,c\n")
    out = tmp_path / "out"
    words = [
        "benchmark", "--ckpt_paths", str(path), str(head), "--threads", "1", "--repeats", "1", "--rounds", "1",
        "--output", str(out), "--labels", str(tmp_path / "labels.csv"),
    ]  # fmt: skip
    assert main([*words, "--runtimes", "torch", "onnx", "openvino", "pt2", "litert"]) == 0
    said = capsys.readouterr().out
    for name in ("letters.ckpt litert 64x64", "fcos.ckpt litert 160x224"):
        assert f"left out: {name} threads 1: '{name.split()[0]}' is a" in said
    rows = json.loads((out / "benchmark.json").read_text())["rows"]
    by_label = {row["label"]: row for row in rows}
    assert len(by_label) == 8
    same = {row["top1"] for row in rows if row["task"] == "classification"}
    assert len(same) == 1
    assert None not in same
    assert {row["top1"] for row in rows if row["task"] == "detection"} == {None}
    assert all(row["parameters"] and row["macs"] and row["file_bytes"] for row in rows)

    files = [file for file in sorted((out / "files").iterdir()) if file.suffix in (".onnx", ".xml", ".pt2")]
    assert len(files) == 6
    again = tmp_path / "again"
    words = ["benchmark", "--ckpt_paths", *map(str, files), "--threads", "1", "--repeats", "1", "--rounds", "1"]
    assert main([*words, "--output", str(again), "--labels", str(tmp_path / "labels.csv")]) == 0
    rows = json.loads((again / "benchmark.json").read_text())["rows"]
    assert len(rows) == 6
    for row in rows:
        made = by_label["letters.ckpt torch 64x64" if row["task"] == "classification" else "fcos.ckpt torch 160x224"]
        assert (row["parameters"], row["macs"]) == (made["parameters"], made["macs"])
    assert {row["top1"] for row in rows if row["task"] == "classification"} == same
