"""The thin Lightning shell around the segmenter: losses while training, the benchmark's scores while validating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar, Literal

import torch
from torch import Tensor

from backbones.contract import Freezing
from engine.checked import checked
from engine.data.contracts import SplitName
from engine.distillation.teachers import FINGERPRINTS, SETTINGS
from engine.distributed import all_reduce_sum
from engine.errors import InputError
from engine.exports.files import check_overrides, check_untrained, is_exported
from engine.numbers import AllOrCount, PositiveFloat
from engine.outputs import write_json
from engine.reading.options import Reading, agreed_reading
from engine.scores.image_sums import ImageSums
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode, found_source
from engine.training.checkpoints import is_checkpoint
from engine.training.recipe import Optimizer, Schedule
from engine.training.task import DenseTask
from segmentation.data.batch import EvaluationBatch, SegmentationBatch
from segmentation.data.classes import MaskClasses
from segmentation.data.contracts import SegmentationData
from segmentation.inference.inference import Inference, answer
from segmentation.network.family import MemberName, SegmenterOverrides
from segmentation.network.losses import Losses, SegmentationLoss, image_losses, segmentation_losses
from segmentation.network.model import Segmenter
from segmentation.scores.metric import SegmentationScores
from segmentation.scores.records import SegmentationRecords
from segmentation.spec import SPEC
from segmentation.training.distiller import SegmenterDistiller, make_distiller
from segmentation.training.settings import Distillation
from segmentation.weights.exported import load_exported
from segmentation.weights.load import load_network
from segmentation.weights.smp import load_smp

# DeepLab's: SGD 0.01 for 16 images, poly 0.9 without warm-up (detectron2 projects/DeepLab; tensorflow/models
# research/deeplab/train.py).
SGD = Optimizer(name="sgd", lr=0.01, lr_batch=16, momentum=0.9, weight_decay=1e-4)
POLY = Schedule(name="poly", warmup_epochs=0.0, warmup_start=0.1, power=0.9)


class SegmentationTask(DenseTask[SegmentationData]):
    """DeepLabv3+ with its training recipe.

    The class list comes from the training data; `validate`, `test` and `predict` take it, like all settings of the
    network, from the checkpoint.

    Args:
        member: the family member, which sets every value: `b0` ... `b7`, `lite0` ... `lite4`, `v2_s`, `v2_m`, `v2_l`;
            null is b0.
        architecture: single values that replace the member's.
        classes: the class list, if it should not come from the data.
        pretrained: a checkpoint of another training, or a folder with a DeepLabV3Plus of segmentation-models-pytorch,
            to start from; the class layer starts anew where classes differ.
        backbone_weights: ImageNet weights to start from: `imagenet` for timm's hub, `package:NAME`, or a file;
            null starts at random.
        frozen_stages: 0 trains all, 1 freezes the stem, k the stem and k - 1 stages, -1 the backbone.
        freeze_norm: keep the backbone's batch norms as they are.
        grad_checkpointing: use less memory and more time in the backbone.
        loss: which losses, and their settings.
        distillation: trained segmenters that teach this one, and how much that counts.
        inference: how whole images are computed in validation and test.
        eval_output_stride: the network's output stride in validate, test and predict, with its rates adapted; null
            is that of the training.
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        boundary: tolerance of the boundary F-score in validation and test, below 1 a share of the diagonal, such as
            0.0075, from 1 on pixels; null leaves it, and boundary IoU with it, out, as they take time.
        scores: JSON file for all scores of validation or test.
    """

    spec: ClassVar[TaskSpec] = SPEC
    part: ClassVar[str] = "segmenter"
    segmenter: Segmenter

    @checked
    def __init__(
        self,
        member: MemberName | None = None,
        architecture: SegmenterOverrides = SegmenterOverrides(),
        classes: MaskClasses | None = None,
        pretrained: str | None = None,
        backbone_weights: str | None = "imagenet",
        frozen_stages: AllOrCount = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        loss: SegmentationLoss = SegmentationLoss(),
        distillation: Distillation = Distillation(),
        inference: Inference = Inference(),
        eval_output_stride: Literal[8, 16, 32] | None = None,
        optimizer: Optimizer = SGD,
        schedule: Schedule = POLY,
        boundary: PositiveFloat | None = None,
        scores: str | None = None,
    ) -> None:
        super().__init__(optimizer, schedule, scores)
        self.scores_file = scores
        self.member = member
        self.architecture = architecture
        self.given_classes = classes
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        self.loss = loss
        self.distillation = distillation
        self.distiller: SegmenterDistiller | None = None
        self.inference = inference
        self.eval_output_stride = eval_output_stride
        self.boundary = boundary
        self.records: SegmentationRecords | None = None
        self.sums = ImageSums()

    @property
    def network(self) -> Segmenter:
        """The segmenter; built when first asked for."""
        self.configure_model()
        return self.segmenter

    @property
    def classes(self) -> MaskClasses:
        """The segmenter's class list; the data module gives masks as its rows."""
        return self.network.classes

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour of crops beside the image."""
        return self.network.fill_color

    @property
    def reading(self) -> Reading:
        """How rasters become the RGB that the network sees."""
        return self.network.reading

    def build(self) -> Segmenter:
        """The segmenter with the weights that the command starts from."""
        segmenter = self._start()
        if self.eval_output_stride in (None, segmenter.config.output_stride):
            return segmenter
        if self.fitting:
            msg = (
                f"model.eval_output_stride is {self.eval_output_stride}, but fit validates what it trains. Give "
                "model.architecture.output_stride to train at it, or validate with it afterwards."
            )
            raise InputError(msg)
        assert self.eval_output_stride is not None
        return segmenter.at_stride(self.eval_output_stride)

    def _start(self) -> Segmenter:
        wanted = self._wanted_classes()
        overrides = self.architecture.given()
        if self.data is not None:
            overrides = agreed_reading(self.data.reading, overrides, before="model.architecture", way=self.way)
        if self.pretrained is not None and is_exported(self.pretrained):
            check_untrained(self.pretrained, fitting=self.fitting)
            exported = load_exported(self.pretrained)
            check_overrides(self.pretrained, overrides, asdict(exported.config))
            if wanted is not None and wanted != exported.classes:
                self._take_classes(exported, wanted)
            return exported
        if self.pretrained is not None and not self.restoring:
            own = is_checkpoint(found_source(self.pretrained, "segmentation"))
            read = load_network if own else load_smp
            segmenter = read(self.pretrained, freezing=self.freezing, **overrides)
            if self.member not in (None, segmenter.config.name):
                msg = (
                    f"model.member is {self.member}, but the weights '{self.pretrained}' are on "
                    f"{segmenter.config.backbone}. Leave model.member out."
                )
                raise InputError(msg)
            if wanted is not None and wanted != segmenter.classes:
                self._take_classes(segmenter, wanted)
            return segmenter
        start = self.backbone_weights if self.fitting and not self.restoring else None
        return Segmenter(self.member or "b0", classes=wanted, backbone_weights=start, **self.freezing, **overrides)

    def _take_classes(self, segmenter: Segmenter, wanted: MaskClasses) -> None:
        if not self.fitting and len(wanted) != len(segmenter.classes):
            msg = (
                f"'{self.pretrained}' has {len(segmenter.classes)} classes, but {len(wanted)} are asked for. Train it "
                "on them first: python -m segmentation fit."
            )
            raise InputError(msg)
        if len(wanted) == len(segmenter.classes) and segmenter.classes == MaskClasses.numbered(len(wanted)):
            segmenter.classes = wanted  # the file has no names for its rows, and these are
        else:
            segmenter.set_classes(wanted)

    def _wanted_classes(self) -> MaskClasses | None:
        if self.given_classes is None and self.data is not None and not self.restoring:
            return self.data.classes
        return self.given_classes

    def build_distiller(self) -> SegmenterDistiller | None:
        """What compares the segmenter with its teachers, if there are any."""
        sources = self.distillation.teachers
        return make_distiller(self.segmenter, self.distillation) if sources else None

    def lessons(self) -> dict[str, object]:
        """What the teachers are, and how much they count."""
        if self.distiller is None:
            return {}
        return {SETTINGS: asdict(self.distillation), FINGERPRINTS: self.distiller.teachers.fingerprints}

    def description(self) -> str:
        """Network, classes and crop."""
        config = self.segmenter.config
        crop = "" if self.data is None else "; crops of {} x {} pixels (height x width)".format(*self.data.crop_hw)
        name = f"{config.decoder} on {config.backbone} at output stride {config.output_stride}"
        return f"{name}; {len(self.classes)} classes{crop}"

    def network_settings(self) -> dict[str, object]:
        """Member, architecture and classes, and how an image is computed."""
        return {**self.network.settings(), "inference": asdict(self.inference)}

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, divided by the counted pixels of all devices."""
        logits, aux_logits = self.segmenter.outputs(batch.images)
        losses = segmentation_losses(logits, batch.class_ids, self.loss, aux_logits)
        # One call for the counts and for what is logged: a log that synchronises itself waits for a barrier as well.
        everywhere = losses.over_devices(all_reduce_sum)
        total = losses.total(self.loss, everywhere.shared, self.trainer.world_size)
        if self.distiller is not None:
            distilled = self.distiller(batch.images, logits)
            self.log("train_distilled", all_reduce_sum(distilled) / self.trainer.world_size)
            total = total + distilled
        size, terms = len(batch.images), everywhere.terms(self.loss)
        self.watch(total, batch_idx, terms)
        self.log("train_loss", torch.stack(list(terms.values())).sum(), prog_bar=True, batch_size=size)
        if len(terms) > 1:
            self.log_dict({f"train_{name}": value for name, value in terms.items()}, batch_size=size)
        return total

    def on_validation_epoch_start(self) -> None:
        """Forget the counts and losses of the last evaluation."""
        self.check_finite()
        self.sums = ImageSums()
        scored = self.data is not None and self.data.cityscapes_scores
        self.records = SegmentationRecords(self.classes, scored, self.boundary)

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Count the images of a batch, and collect their losses from the same pass."""
        assert self.records is not None
        found = answer(self.segmenter, batch.images, self.inference)
        if found.logits is not None:
            truth = torch.stack([torch.from_numpy(class_ids) for class_ids in batch.class_ids]).to(found.logits.device)
            self.sums.add(batch.indices, image_losses(found.logits, truth, self.loss))
        rows = found.rows.cpu().numpy()
        for place, index in enumerate(batch.indices.tolist()):
            instance_ids = batch.instance_ids[place] if batch.instance_ids else None
            self.records.add(index, rows[place], batch.class_ids[place], instance_ids)

    def logged(self) -> Mapping[str, Mode | None]:
        """The loss and, if there are several, its terms; in validation the loss and the means of the scores.

        Cityscapes' instance scores are named though a set without instances does not have them.
        """
        terms = self.loss.terms(aux=self.segmenter.aux_head is not None)
        losses = ["train_loss", *(f"train_{name}" for name in terms if len(terms) > 1), "val_loss"]
        losses += [] if self.distiller is None else ["train_distilled"]
        cityscapes = self.data is not None and self.data.cityscapes_scores
        means = SegmentationScores.names(cityscapes, self.boundary is not None)
        found: dict[str, Mode | None] = dict.fromkeys(losses, "min")
        return found | dict.fromkeys((f"val_{name}" for name in means), "max")

    def evaluation_loss(self) -> float | None:
        """The training loss of all images at full size, over the counted pixels of all of them.

        It is that of the answers that are scored: with windows, scales or flips of the averaged probabilities. The
        auxiliary head does not run in evaluation and is left out; hard pixels are picked in each image.
        """
        total = self.sums.total()
        return None if total is None else float(Losses.of_packed(total).total(self.loss))

    def evaluate(self, split: SplitName) -> SegmentationScores:
        """The scores of all images, the same on every process."""
        assert self.records is not None
        scores = self.records.gather().scores()
        if self.scores_file is not None and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            write_json(self.scores_file, scores.to_dict())
        return scores
