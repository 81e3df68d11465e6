"""The thin Lightning shell around the detector: losses while training, COCO numbers while validating."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from detection.batch import DetectionBatch, Detections
from detection.classes import ClassList
from detection.family import MemberName, Overrides
from detection.ground_truth import GroundTruth
from detection.losses import LossConfig
from detection.metric import Backend, BoxScores, evaluate_boxes
from detection.model import EfficientDet
from detection.postprocess import Postprocess
from detection.records import DetectionRecords
from engine.checkpoints import save_metadata
from engine.distributed import all_reduce_sum, run_on_main
from engine.errors import InputError
from engine.outputs import make_folder
from engine.recipe import Optimizer, Schedule, build_optimizer, build_scheduler

LOOK_EVERY = 20  # steps between two looks at the loss: each makes the host wait for the device


class DetectionTask(LightningModule):
    """EfficientDet with its training recipe.

    The class list comes from the training annotations; `validate`, `test` and `predict` take it, as everything
    that shapes the network, from the checkpoint or the published weights.

    Args:
        member: the one dial: backbone, size, pyramid, heads and anchors of the family member; null is that of the
            published weights, or else d0.
        architecture: single values in place of the member's.
        num_classes: only to be checked against the annotations, or for data without any.
        classes: the class list, where it shall not come from the annotations.
        pretrained: a published detector's name or file to start from, such as `tf_efficientdet_d0`.
        backbone_weights: ImageNet weights to start from: `imagenet` for timm's hub, `package:NAME`, or a file;
            null starts at random.
        frozen_stages: 0 trains all, 1 freezes the stem, k the stem and k - 1 stages, -1 the backbone.
        freeze_norm: keep the backbone's batch norms as they are.
        grad_checkpointing: trade time for memory in the backbone.
        loss: focal and Huber settings.
        postprocess: suppression settings of validation, test and prediction.
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        evaluator: `pycocotools`, or `faster` for the same numbers sooner (extra `fast`).
        results: file for the detections of validation or test in COCO's results form.
    """

    task: ClassVar[str] = "detection"
    monitor: ClassVar[str] = "val_ap"
    monitor_mode: ClassVar[str] = "max"
    checkpoint_args: ClassVar[tuple[str, ...]] = ("member", "architecture", "classes")
    resume_args: ClassVar[tuple[str, ...]] = ("optimizer", "schedule")

    def __init__(
        self,
        member: MemberName | None = None,
        architecture: Overrides = Overrides(),
        num_classes: int | None = None,
        classes: ClassList | None = None,
        pretrained: str | None = None,
        backbone_weights: str | None = "imagenet",
        frozen_stages: int = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        loss: LossConfig = LossConfig(),
        postprocess: Postprocess = Postprocess(),
        optimizer: Optimizer = Optimizer(),
        schedule: Schedule = Schedule(),
        evaluator: Backend = "pycocotools",
        results: str | None = None,
    ) -> None:
        super().__init__()
        self.member = member
        self.architecture = architecture
        self.num_classes = num_classes
        self.given_classes = classes
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.freezing: dict[str, Any] = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        self.loss = loss
        self.postprocess = postprocess
        self.optimizer = optimizer
        self.schedule = schedule
        self.evaluator: Backend = evaluator
        self.results = results
        self.records = DetectionRecords()
        self.scores: BoxScores | None = None
        self._last_loss: Tensor | None = None
        self._truth: dict[str, GroundTruth] = {}

    def configure_model(self) -> None:
        """Build the detector, once the trainer knows the data."""
        if "detector" not in self._modules:
            # Published weights come in eval mode, which Lightning would leave them in while training.
            self.detector = self._build().train().to(memory_format=torch.channels_last)

    @property
    def network(self) -> EfficientDet:
        """The detector; built when first asked for."""
        self.configure_model()
        return self.detector

    @property
    def classes(self) -> ClassList:
        """The detector's class list, which the data module maps categories to."""
        return self.network.classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width that images are letter-boxed on."""
        return self.network.config.image_size

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour of the canvas beside the image."""
        return self.network.fill_color

    def _build(self) -> EfficientDet:
        fitting = self._attached and self.trainer.state.fn == "fit"
        restoring = self._attached and self.trainer.ckpt_path is not None
        wanted = self._wanted_classes(fitting)
        if self.pretrained is not None and not restoring:
            overrides = self.architecture.given()
            detector = EfficientDet.from_pretrained(self.pretrained, freezing=self.freezing, **overrides)
            if self.member not in (None, detector.config.name):
                msg = (
                    f"model.member is {self.member}, but the weights '{self.pretrained}' are those of "
                    f"{detector.config.name}. Leave model.member out."
                )
                raise InputError(msg)
            if fitting and not detector.classes.covers(wanted):
                detector.set_classes(wanted)
            return detector
        start = self.backbone_weights if fitting and not restoring else None
        overrides = self.architecture.given()
        return EfficientDet(self.member or "d0", classes=wanted, backbone_weights=start, **self.freezing, **overrides)

    @property
    def _attached(self) -> bool:
        return self._trainer is not None

    def _wanted_classes(self, fitting: bool) -> ClassList:
        data = getattr(self.trainer, "datamodule", None) if self._attached else None
        wanted = self.given_classes
        if wanted is None and fitting and data is not None:
            wanted = data.train_classes()
        if wanted is None:
            return ClassList.numbered(90 if self.num_classes is None else self.num_classes)
        if self.num_classes not in (None, len(wanted)):
            msg = (
                f"model.num_classes is {self.num_classes}, but the annotations and the checkpoint have {len(wanted)} "
                "classes. Leave it out, as the data decides."
            )
            raise InputError(msg)
        return wanted

    def setup(self, stage: str) -> None:
        """Prove that the results can be written, before the time that finding them takes."""
        if self.results is not None:
            make_folder(Path(self.results).parent)

    def on_fit_start(self) -> None:
        """Say what is trained."""
        sizes = [(p.numel(), p.requires_grad) for p in self.detector.parameters()]
        total, trained = sum(size for size, _ in sizes), sum(size for size, wanted in sizes if wanted)
        height, width = self.canvas_hw
        frozen = "" if trained == total else f", {trained / 1e6:.1f} M of them trained"
        rank_zero_info(
            f"EfficientDet {self.detector.config.name}: {total / 1e6:.1f} M parameters{frozen}; "
            f"{len(self.classes)} classes; images on {height} x {width} pixels (height x width)"
        )

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, divided by the positives of all devices."""
        losses = self.detector.losses(batch, self.loss)
        # DDP averages gradients over the devices: the mean of sums * world / total is the sum over the total.
        normaliser = (all_reduce_sum(losses.positives) + 1) / self.trainer.world_size
        total = losses.total(normaliser, self.loss.box_weight)
        self._last_loss = total.detach()
        if batch_idx % LOOK_EVERY == 0:
            self._check_finite()
        parts = {"train_class_loss": losses.classes / normaliser, "train_box_loss": losses.boxes / normaliser}
        size = len(batch.images)
        self.log("train_loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({name: value.detach() for name, value in parts.items()}, batch_size=size)
        return total

    def on_train_epoch_end(self) -> None:
        """Look at the loss once more, before a checkpoint takes the place of a good one."""
        self._check_finite()

    def _check_finite(self) -> None:
        value = 0.0 if self._last_loss is None else float(self._last_loss)
        if not math.isfinite(value):
            msg = (
                f"the loss became {value} at step {self.trainer.global_step}. Lower model.optimizer.lr, lengthen "
                "model.schedule.warmup_epochs, or set trainer.gradient_clip_val to 10 or less."
            )
            raise InputError(msg)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser for the global batch, and its schedule, stepped with it."""
        optimizer = build_optimizer(self.detector, self.optimizer, self._global_batch())
        steps = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 0
        if epochs <= 0:
            batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
            epochs = max(1, math.ceil(steps / max(1.0, batches)))
        scheduler = build_scheduler(optimizer, self.schedule, steps, epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _global_batch(self) -> int:
        data = getattr(self.trainer, "datamodule", None)
        loader: Any = data if data is not None else self.trainer.train_dataloader
        size = loader.batch_size
        return int(size) * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def on_validation_epoch_start(self) -> None:
        """Forget the detections of the last evaluation."""
        self._check_finite()
        self.records = DetectionRecords()

    def on_test_epoch_start(self) -> None:
        """As before a validation."""
        self.records = DetectionRecords()

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Collect the detections of a batch."""
        found = self.detector.detect(batch, self.postprocess)
        rows = found.class_ids.clamp(min=0).cpu()
        # Rows without a name, ten of COCO's ninety, stand for ids that no annotation file lists.
        named = torch.tensor([bool(name) for name in self.classes.names])
        self.records.add(
            batch.image_ids.cpu().numpy(),
            found.boxes_xyxy.float().cpu().numpy(),
            found.scores.float().cpu().numpy(),
            torch.tensor(self.classes.category_ids)[rows].numpy(),
            valid=((found.class_ids >= 0).cpu() & named[rows]).numpy(),
        )

    def test_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Score all images of all devices once."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """As after a validation."""
        self._score("test")

    def on_validation_end(self) -> None:
        """Show the table of `validate`, below the progress bar that has just ended."""
        if self.trainer.state.fn != "fit" and self.trainer.is_global_zero and self.scores is not None:
            sys.stdout.write(f"{self.scores.table()}\n")

    def on_test_end(self) -> None:
        """As after a validation."""
        self.on_validation_end()

    def predict_step(self, batch: DetectionBatch, batch_idx: int) -> Detections:
        """Detections of a batch, in pixels of the original images."""
        return self.detector.detect(batch, self.postprocess)

    def _score(self, split: str) -> None:
        records = self.records.gather()
        scores: BoxScores = run_on_main(lambda: self._evaluate(records, split))
        if self.trainer.sanity_checking:
            return
        for name, value in scores.as_dict(f"{split}_").items():
            self.log(name, value, prog_bar=name in ("val_ap", "val_ap50"), rank_zero_only=False)
        self.scores = scores

    def _evaluate(self, records: DetectionRecords, split: str) -> BoxScores:
        if split not in self._truth:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self._truth[split] = GroundTruth.of(data.annotation_file(split))
        if self.results is not None and not self.trainer.sanity_checking:
            records.write_results(Path(self.results))
        return evaluate_boxes(self._truth[split], records.table(), image_ids=records.image_ids, backend=self.evaluator)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not those of the network that the file itself describes."""
        own, given = self.state_dict(), checkpoint["state_dict"]
        wrong = [key for key in own if key not in given or given[key].shape != own[key].shape]
        wrong += [key for key in given if key not in own]
        if wrong:
            msg = (
                f"the weights in '{self.trainer.ckpt_path}' do not fit the network that it describes: {len(wrong)} "
                f"differ, such as '{wrong[0]}'. Give a checkpoint as `fit` wrote it."
            )
            raise InputError(msg)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the network is, so that it can be rebuilt from the file alone."""
        recipe = {"optimizer": asdict(self.optimizer), "schedule": asdict(self.schedule)}
        save_metadata(checkpoint, self.task, self.network.settings() | recipe)
