"""Training on a GPU: the waits of a step, number types, memory of crowded images, and the commands."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from detection.data.batch import DetectionBatch
from detection.network.loss_settings import DetectionLoss
from detection.network.matching import match_anchors
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess, postprocess
from segmentation.network.losses import SegmentationLoss, segmentation_losses
from tests.deployment.networks import detector, segmenter
from tests.detection.small import CONFIG, command, write_set
from tests.gpu.test_answers import CUDA, batch_of, on_gpu

pytestmark = pytest.mark.gpu


class Waits:
    """Counts how often a block waits for the device, as PyTorch reports it."""

    def __enter__(self) -> Waits:
        self.places: list[str] = []
        self._recorded = warnings.catch_warnings(record=True)
        self._messages = self._recorded.__enter__()
        warnings.simplefilter("always")
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self._recorded.__exit__(None, None, None)
        waits = [message for message in self._messages or () if "called a synchronizing" in str(message.message)]
        # Setting the counter is a wait of PyTorch's own.
        self.places = [f"{m.filename}:{m.lineno}" for m in waits if "torch/cuda/__init__.py" not in m.filename]


def our_step(network: EfficientDet, batch: DetectionBatch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    config = DetectionLoss()
    losses = network.losses(batch, config)
    total = losses.total(losses.positives + 1, config.of_boxes)
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return total


def test_a_detection_step_waits_once_at_most() -> None:
    """For the number of positive anchors, on which the shapes of the box loss depend; for nothing else."""
    network, batch = detector().to(CUDA).train(), on_gpu(batch_of(4, (160, 224), 3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for _ in range(2):
        our_step(network, batch, optimizer)
    with Waits() as waits:
        our_step(network, batch, optimizer)
    assert len(waits.places) <= 1, waits.places


@pytest.mark.parametrize("class_weights", [None, (1.0, 0.5, 2.0)], ids=["", "class weights"])
def test_a_segmentation_step_does_not_wait(class_weights: tuple[float, ...] | None) -> None:
    network = segmenter().to(CUDA).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = batch_of(2, (160, 224), 3).images.to(CUDA)
    class_ids, config = (images[:, 0] // 86).byte(), SegmentationLoss(class_weights=class_weights)

    def step() -> None:
        logits, aux_logits = network.outputs(images)
        segmentation_losses(logits, class_ids, config, aux_logits).total(config).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        step()
    with Waits() as waits:
        step()
    assert not waits.places, waits.places


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_detector_learns(dtype: torch.dtype) -> None:
    """The loss of one batch falls to a third, in either number type, and stays a number."""
    torch.manual_seed(0)
    network, batch = detector().to(CUDA).train(), on_gpu(batch_of(4, (160, 224), 3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            losses.append(float(our_step(network, batch, optimizer).detach()))
    assert losses[-1] < losses[0] / 3, losses[::10]


def test_memory_of_a_crowded_image() -> None:
    """Eight images with 500 boxes each take no more for their targets than a few blocks of pairs (review: 2,247 MB)."""
    anchors = EfficientDet("d0", 3).anchors((512, 512), CUDA)
    batch = on_gpu(batch_of(8, (512, 512), 3, 500))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    match_anchors(batch.boxes_xyxy, batch.class_ids, anchors)
    assert torch.cuda.max_memory_allocated() - before < 600 * 2**20


def test_suppression_of_an_early_network_is_one_call() -> None:
    """Many groups of image and class are suppressed together: few waits, whatever their number."""
    torch.manual_seed(0)
    network = EfficientDet("d0", 90)
    anchors = network.anchors((512, 512), CUDA)
    counts = []
    for images in (1, 8):
        logits = torch.randn(images, len(anchors), 90, device=CUDA)
        deltas = torch.randn(images, len(anchors), 4, device=CUDA) * 0.1
        postprocess(logits, deltas, anchors, Postprocess())
        with Waits() as waits:
            postprocess(logits, deltas, anchors, Postprocess())
        counts.append(len(waits.places))
    assert counts[1] <= counts[0] + 4, counts


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit` with two workers in bfloat16, on from its checkpoint, `test` and `predict`, all on the GPU."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path)
    trainer = {**CONFIG["trainer"], "accelerator": "gpu", "precision": "bf16-mixed"}
    config = {**CONFIG, "trainer": trainer, "data": {**CONFIG["data"], "num_workers": 2}}
    Path("gpu.yaml").write_text(yaml.safe_dump(config))
    for line in (
        "fit --config gpu.yaml --run.name gpu",
        "fit --config gpu.yaml --run.name gpu --ckpt_path last --trainer.max_epochs 3",
        "test --config gpu.yaml --run.name gpu --ckpt_path last",
        "predict --ckpt_path last --run.name gpu --source scenes/leftImg8bit/val/*/*.png --score_threshold 0.001",
    ):
        said = command(line)
        assert said.code == 0, (line, said.err)
    assert json.loads(Path("predictions/detections.json").read_text())["images"]
