"""The thin Lightning shell around the classifier: losses while training, accuracy while validating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from timm.data import Mixup
from torch import Tensor

from backbones.contract import Freezing
from classification.data.batch import ClassificationBatch, EvaluationBatch
from classification.data.classes import LabelClasses
from classification.data.contracts import ClassificationData
from classification.data.framing import Framing
from classification.network.family import ClassifierOverrides, MemberName
from classification.network.losses import ClassificationLoss, balanced_weights, check_weights, image_losses
from classification.network.model import Classifier
from classification.scores.metric import ClassificationScores
from classification.scores.records import ClassificationRecords
from classification.spec import SPEC
from classification.training.mixing import BatchMixing, mixed
from classification.training.progressive import Progressive
from classification.weights.exported import load_exported
from classification.weights.imagenet import load_head, load_imagenet
from classification.weights.load import load_network
from engine.checked import checked
from engine.data.contracts import SplitName
from engine.distributed import all_reduce_sum
from engine.errors import InputError
from engine.exports.files import check_overrides, check_untrained, is_exported
from engine.numbers import AllOrCount, OpenUnitInterval
from engine.outputs import write_json
from engine.reading.options import Reading, agreed_reading
from engine.scores.image_sums import ImageSums
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode, found_source
from engine.training.checkpoints import is_checkpoint
from engine.training.recipe import Optimizer, Schedule
from engine.training.task import DenseTask

# For a short training from ImageNet weights on any set; the paper's recipe is configs/classification/imagenet.yaml.
ADAMW = Optimizer(name="adamw", lr=1e-3, lr_batch=0, weight_decay=0.01)
COSINE = Schedule(name="cosine", warmup_epochs=1.0)


class ClassificationTask(DenseTask[ClassificationData]):
    """EfficientNet with its training recipe.

    The class list comes from the training data; `validate`, `test` and `predict` take it, like all settings of the
    network, from the checkpoint.

    Args:
        member: the family member, which sets every value: `b0` ... `b7`, `lite0` ... `lite4`, `v2_s`, `v2_m`, `v2_l`;
            null is b0.
        architecture: single values that replace the member's.
        classes: the class list, if it should not come from the data.
        pretrained: a checkpoint of another training to start from, whose class layer starts anew where classes differ;
            or `imagenet`, `package:NAME` or a file for ImageNet's 1000 classes as published.
        backbone_weights: ImageNet weights to start from: `imagenet` for timm's hub, `package:NAME`, or a file such as a
            checkpoint of any task; null starts at random.
        frozen_stages: 0 trains all, 1 freezes the stem, k the stem and k - 1 stages, -1 the backbone.
        freeze_norm: keep the backbone's batch norms as they are.
        grad_checkpointing: use less memory and more time in the backbone.
        loss: which loss, label smoothing, and weights of classes.
        mixing: mixup and CutMix of training batches.
        progressive: how image size and regularisation grow during the training.
        threshold: where images have several labels, classes of this probability or more are found.
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        scores: JSON file for all scores of validation or test.
    """

    spec: ClassVar[TaskSpec] = SPEC
    part: ClassVar[str] = "classifier"
    classifier: Classifier

    @checked
    def __init__(
        self,
        member: MemberName | None = None,
        architecture: ClassifierOverrides = ClassifierOverrides(),
        classes: LabelClasses | None = None,
        pretrained: str | None = None,
        backbone_weights: str | None = "imagenet",
        frozen_stages: AllOrCount = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        loss: ClassificationLoss = ClassificationLoss(),
        mixing: BatchMixing = BatchMixing(),
        progressive: Progressive = Progressive(),
        threshold: OpenUnitInterval = 0.5,
        optimizer: Optimizer = ADAMW,
        schedule: Schedule = COSINE,
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
        self.mixing = mixing
        self.progressive = progressive
        self.threshold = threshold
        self.records: ClassificationRecords | None = None
        self.sums = ImageSums()
        self._stage: int | None = None
        self._mixer: Mixup | None = None
        self._weights: Tensor | None = None

    @property
    def network(self) -> Classifier:
        """The classifier; built when first asked for."""
        self.configure_model()
        return self.classifier

    @property
    def classes(self) -> LabelClasses:
        """The classifier's class list; the data module gives labels as its rows."""
        return self.network.classes

    @property
    def framing(self) -> Framing:
        """How a picture becomes the square that the network sees."""
        return self.network.framing

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour of pixels without data."""
        return self.network.fill_color

    @property
    def reading(self) -> Reading:
        """How rasters become the RGB that the network sees."""
        return self.network.reading

    def build(self) -> Classifier:
        """The classifier with the weights that the command starts from."""
        wanted = self._wanted_classes()
        overrides = self.architecture.given()
        if self.data is not None:
            overrides = agreed_reading(self.data.reading, overrides, before="model.architecture", way=self.way)
        if self.pretrained is not None and not self.restoring:
            return self._pretrained(self.pretrained, wanted, overrides)
        start = self.backbone_weights if self.fitting and not self.restoring else None
        if wanted is None:
            msg = "the network has no classes. Give data, --model.classes, or a checkpoint."
            raise InputError(msg)
        member = self.member or "b0"
        network = Classifier(member, classes=wanted, backbone_weights=start, **self.freezing, **overrides)
        if start is not None:
            load_head(network, start)
        return network

    def _pretrained(self, source: str, wanted: LabelClasses | None, overrides: dict[str, object]) -> Classifier:
        network: Classifier
        if is_exported(source):
            check_untrained(source, fitting=self.fitting)
            network = load_exported(source)
            check_overrides(source, overrides, network.config.to_dict())
        elif is_checkpoint(found_source(source, "classification")):
            network = load_network(source, freezing=self.freezing, **overrides)
            if self.member not in (None, network.config.name):
                msg = (
                    f"model.member is {self.member}, but the weights '{source}' are on {network.config.backbone}. "
                    "Leave model.member out."
                )
                raise InputError(msg)
        else:
            network = load_imagenet(self.member or "b0", source, freezing=self.freezing, **overrides)
        if wanted is None or wanted == network.classes:
            return network
        if not self.fitting and wanted.names != network.classes.names:
            if set(wanted.names) <= set(network.classes.names):
                return network  # a set with some of the classes is scored as it is
            msg = (
                f"'{source}' has {len(network.classes)} classes, but {len(wanted)} others are asked for. Train it on "
                "them first: python -m classification fit."
            )
            raise InputError(msg)
        network.set_classes(wanted)
        return network

    def _wanted_classes(self) -> LabelClasses | None:
        if self.given_classes is None and self.data is not None and not self.restoring:
            return self.data.classes
        return self.given_classes

    def description(self) -> str:
        """Network, classes and image size."""
        config, size = self.classifier.config, self.classifier.config.image_size
        kind = "several labels" if self.classes.several else "one label"
        return f"{config.backbone}; {len(self.classes)} classes, {kind} an image; images of {size} x {size} pixels"

    def network_settings(self) -> dict[str, object]:
        """Member, architecture and classes, and where a class is found."""
        return {**self.network.settings(), "threshold": self.threshold}

    def setup(self, stage: str) -> None:
        """Check that losses and mixing fit the classes, before the long work."""
        super().setup(stage)
        several = self.classes.several
        self.loss.chosen(several)
        check_weights(self.loss, self.classes.names)
        grows = self.progressive.mixup is not None and max(self.progressive.mixup) > 0
        if stage == "fit" and self.data is not None and (self.mixing.mixup or self.mixing.cutmix or grows):
            self.mixing.check(several=several, batch_size=self.data.batch_size)
        self._weights = self._class_weights()

    def _class_weights(self) -> Tensor | None:
        given = self.loss.class_weights
        if isinstance(given, tuple):
            return torch.tensor(given)
        if given is None or self.data is None or not self.fitting:
            return None
        images, counts = self.data.class_counts()
        return balanced_weights(images, counts, several=self.classes.several)

    def training_step(self, batch: ClassificationBatch, batch_idx: int) -> Tensor:
        """Mean loss of the images of a batch."""
        if batch.stage != self._stage:
            self._begin(batch.stage)
        images, targets = batch.images, batch.targets
        if self._mixer is not None:
            images, targets = mixed(self._mixer, images, targets)
        losses = self._losses(self.classifier(images), targets, smooth=self._mixer is None)
        loss = losses.mean()
        self.watch(loss, batch_idx)
        mean = all_reduce_sum(loss) / self.trainer.world_size
        self.log("train_loss", mean, prog_bar=True, batch_size=len(images))
        return loss

    def _begin(self, number: int) -> None:
        """Take the dropout and the mixing of a stage."""
        self._stage = number
        stage = self.progressive.stage(number, self.classifier.config.image_size)
        if stage.dropout is not None:
            self.classifier.head.dropout.p = stage.dropout
        mixup = self.mixing.mixup if stage.mixup is None else stage.mixup
        self._mixer = self.mixing.build(mixup, len(self.classes), self.loss.smoothing)

    def _losses(self, logits: Tensor, targets: Tensor, *, smooth: bool) -> Tensor:
        # Mixed labels are smoothed already.
        loss = self.loss if smooth else self.loss.unsmoothed()
        weights = None if self._weights is None else self._weights.to(logits.device)
        return image_losses(logits, targets, loss, several=self.classes.several, weights=weights)

    def on_validation_epoch_start(self) -> None:
        """Forget what the last evaluation found."""
        self.check_finite()
        self.sums = ImageSums()
        self.records = ClassificationRecords(self.classes, self.threshold)

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Collect probabilities, labels and losses of a batch."""
        assert self.records is not None
        logits = self.classifier(batch.images).float()
        losses = self._losses(logits, batch.targets, smooth=True)
        self.sums.add(batch.indices, torch.stack([losses, torch.ones_like(losses)], 1))
        found = logits.sigmoid() if self.classes.several else logits.softmax(1)
        self.records.add(batch.indices, found, batch.targets)

    def logged(self) -> Mapping[str, Mode | None]:
        """The loss, and in validation the loss and the scores."""
        found: dict[str, Mode | None] = {"train_loss": "min", "val_loss": "min"}
        for name in ClassificationScores.names(self.classes):
            found[f"val_{name}"] = "min" if name == "calibration_error" else "max"
        return found

    def evaluation_loss(self) -> float | None:
        """The mean training loss of all images."""
        total = self.sums.total()
        return None if total is None else float(total[0] / total[1])

    def evaluate(self, split: SplitName) -> ClassificationScores:
        """The scores of all images, the same on every process."""
        assert self.records is not None
        scores = self.records.scores()
        if self.scores_file is not None and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            write_json(self.scores_file, scores.to_dict())
        return scores
