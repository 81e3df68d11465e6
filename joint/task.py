"""The thin Lightning shell around the joint network: both losses while training, both tables while validating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jsonargparse.typing import register_type
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from backbones.contract import Freezing
from detection.data.classes import BoxClasses
from detection.network.family import DetectorOverrides, MemberName, PhiName
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import running_count
from detection.network.postprocess import Postprocess
from detection.recipe import OPTIMIZER, SCHEDULE
from detection.scores.backends import Backend
from detection.scores.metric import BoxScores, evaluate_boxes
from detection.scores.truth import GroundTruth
from engine.checked import checked
from engine.data.contracts import SplitName
from engine.data.one_canvas import agreed_size, canvas_of
from engine.distributed import run_on_main
from engine.errors import InputError
from engine.exports.files import is_exported
from engine.numbers import AllOrCount, ClosedUnitInterval
from engine.outputs import write_json
from engine.reading.options import Reading, agreed_reading
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode
from engine.training.recipe import Optimizer, Schedule
from engine.training.task import DenseTask
from joint.data.batch import JointBatch, JointEvaluationBatch
from joint.data.contracts import JointData
from joint.network.model import JointNetwork
from joint.network.norms import Norms, network_type, shared_parameters
from joint.network.parts import DetectorPart, SegmenterPart, make_parts
from joint.scores.records import JointRecords
from joint.scores.scores import JointScores
from joint.spec import SPEC
from joint.training.balance import Balance, Uncertainty, agreement, gradient_vector, pcgrad_backward
from joint.training.evaluation import EvaluationLoss
from joint.training.losses import joint_losses
from joint.weights.exported import exported_network
from joint.weights.load import check_beginning, pretrained_network
from segmentation.data.classes import MaskClasses
from segmentation.network.losses import SegmentationLoss
from segmentation.scores.metric import SegmentationScores

register_type(PhiName, fail_already_registered=False)  # the command line checks it, and lists it beside the members


class JointTask(DenseTask[JointData]):
    """EfficientDet and DeepLabv3+ on one backbone, with their training recipe.

    Both class lists come from the training data; `validate`, `test` and `predict` take them from the checkpoint, like
    all other settings of the network.

    Args:
        member: the detector's member, the one dial; the segmenter is on the same backbone. Null takes the member of the
            detector's checkpoint, or else d0.
        detector: the settings of the detecting part.
        segmenter: the settings of the segmenting part.
        detector_checkpoint: a trained detector to begin with: a checkpoint, a published name or its file.
        segmenter_checkpoint: a checkpoint of a trained segmenter to begin with. Of two backbones the detector's is
            taken, or the segmenter's if the segmenter is to stay as it is.
        pretrained: a checkpoint of another joint training to begin with; class layers start anew where classes differ.
        backbone_weights: ImageNet weights, if no checkpoint is given: `imagenet`, `package:NAME`, a file, or null.
        train: the part that learns. If it is one part, the other and the backbone are frozen, with their statistics.
        norms: the backbone's batch norms: `shared` by both tasks, `frozen` as they are, or separate for each task
            (`per_task`), for sets that differ; an image with both kinds of labels then takes two passes.
        frozen_stages: 0 trains all, 1 freezes the stem, k the stem and k - 1 stages, -1 the backbone.
        grad_checkpointing: trade time for memory in the backbone.
        detection_loss: settings of the focal and the Huber loss.
        segmentation_loss: the losses and their settings.
        balance: the weighting of the two losses.
        postprocess: suppression settings of validation, test and prediction.
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        evaluator: `pycocotools`, or `faster` for the same numbers in less time (extra `fast`).
        ap_share: weight of AP in `val_joint`, by which the best checkpoint is chosen; the rest is the weight of mIoU.
        detections: file for the detections of validation or test in COCO's results format.
        scores: JSON file for all scores of validation or test.
    """

    spec: ClassVar[TaskSpec] = SPEC
    part: ClassVar[str] = "network"

    @checked
    def __init__(
        self,
        member: MemberName | PhiName | None = None,
        detector: DetectorPart = DetectorPart(),
        segmenter: SegmenterPart = SegmenterPart(),
        detector_checkpoint: str | None = None,
        segmenter_checkpoint: str | None = None,
        pretrained: str | None = None,
        backbone_weights: str | None = "imagenet",
        train: Literal["both", "detector", "segmenter"] = "both",
        norms: Norms = "shared",
        frozen_stages: AllOrCount = 0,
        grad_checkpointing: bool = False,
        detection_loss: DetectionLoss = DetectionLoss(),
        segmentation_loss: SegmentationLoss = SegmentationLoss(),
        balance: Balance = Balance(),
        postprocess: Postprocess = Postprocess(),
        optimizer: Optimizer = OPTIMIZER,
        schedule: Schedule = SCHEDULE,
        evaluator: Backend = "pycocotools",
        ap_share: ClosedUnitInterval = 0.5,
        detections: str | None = None,
        scores: str | None = None,
    ) -> None:
        super().__init__(optimizer, schedule, detections, scores)
        self.detections_file, self.scores_file = detections, scores
        if train != "both" and (balance.method != "fixed" or balance.measure):
            msg = (
                f"model.train is {train}, and one loss needs no balance. Leave balance.method and balance.measure out."
            )
            raise InputError(msg)
        self.member = member
        self.detector_part = detector
        self.segmenter_part = segmenter
        self.detector_checkpoint = detector_checkpoint
        self.segmenter_checkpoint = segmenter_checkpoint
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.trained = train
        self.norms = norms
        self.freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": norms == "frozen",
            "grad_checkpointing": grad_checkpointing,
        }
        self.balance = balance
        self.postprocess = postprocess
        self.evaluator: Backend = evaluator
        self.ap_share = ap_share
        self.uncertainty: Uncertainty | None = None
        self.records: JointRecords | None = None
        # A frozen part has no loss.
        self.losses = (
            None if train == "segmenter" else detection_loss,
            None if train == "detector" else segmentation_loss,
        )
        self.running = running_count(self.losses[0])
        self.sums = EvaluationLoss(*self.losses, balance)
        self._terms: tuple[Tensor, ...] = ()
        self._truth: dict[str, GroundTruth] = {}

    @property
    def network(self) -> JointNetwork:
        """The joint network, which is built when it is first asked for."""
        self.configure_model()
        network = self.built
        assert isinstance(network, JointNetwork)
        return network

    @property
    def classes(self) -> BoxClasses:
        """The class list of the detector, to which the data module maps categories."""
        return self.network.detector.classes

    @property
    def segmentation_classes(self) -> MaskClasses:
        """The class list of the segmenter; the masks of the data module hold its rows."""
        return self.network.segmenter.classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the canvas that images are letter-boxed on."""
        return self.network.detector.config.image_size

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour of the canvas beside the image."""
        return self.network.fill_color

    @property
    def reading(self) -> Reading:
        """How rasters become the RGB that the network sees."""
        return self.network.reading

    def configure_model(self) -> None:
        """Build the network, once the trainer knows the data, and freeze what is not trained."""
        if self.part in self._modules:
            return
        super().configure_model()
        for module in self._frozen():
            module.requires_grad_(False)
        if self.fitting and self.balance.method == "uncertainty":
            self.uncertainty = Uncertainty()
        self.train(self.training)

    def train(self, mode: bool = True) -> JointTask:
        """Set the training mode; frozen parts stay in evaluation mode, so that their statistics stay as they are."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        if self.trained == "both" or self.part not in self._modules:
            return []
        network = self.network
        return [network.backbone, network.segmenter if self.trained == "detector" else network.detector]

    def build(self) -> JointNetwork:
        """The network with the weights that the command starts from."""
        detector, segmenter = self.detector_part, self.segmenter_part
        begin: dict[str, str | None] = {}
        if self.fitting and not self.restoring:
            begin = {
                "detector_checkpoint": self.detector_checkpoint,
                "segmenter_checkpoint": self.segmenter_checkpoint,
                "backbone_weights": self.backbone_weights,
            }
            check_beginning(self.trained, self.pretrained, begin)
        # A frozen part keeps the classes that it knows.
        boxes, masks = detector.classes, segmenter.classes
        if self.data is not None and not self.restoring:
            boxes = self.data.classes if boxes is None and self.trained in ("both", "detector") else boxes
            masks = self.data.segmentation_classes if masks is None and self.trained in ("both", "segmenter") else masks
        if self.data is not None:
            agreed = agreed_size(
                self.data.canvas_size, detector.architecture.image_size, data_option="data.canvas_size",
                network_option="model.detector.architecture.image_size", way=self.way,
            )  # fmt: skip
            given = {**detector.architecture.given(), "image_size": agreed}
            given = agreed_reading(self.data.reading, given, before="model.detector.architecture", way=self.way)
            detector = replace(detector, architecture=DetectorOverrides(**given))
        network = None
        if self.pretrained is not None and is_exported(self.pretrained):
            return exported_network(self.pretrained, detector, fitting=self.fitting)
        if self.pretrained is not None and not self.restoring:
            network = pretrained_network(self.pretrained, self.member, detector, segmenter, self.norms, self.freezing)
            made = network.detector, network.segmenter
        else:
            made = make_parts(self.member, replace(detector, classes=boxes), replace(segmenter, classes=masks), **begin)
        if boxes is not None and not made[0].classes.covers(boxes):
            made[0].set_classes(boxes)
        if masks is not None and made[1].classes != masks:
            made[1].set_classes(masks)
        if network is not None:
            return network
        # The only trained backbone, or else the backbone of the part that stays as it is.
        segmenters = begin.get("segmenter_checkpoint") is not None and (
            begin["detector_checkpoint"] is None or self.trained == "detector"
        )
        kept = "segmenter" if segmenters else "detector"
        return network_type(self.norms)(*made, backbone_of=kept, freezing=self.freezing)

    def description(self) -> str:
        """Both networks, their classes and the canvas."""
        network = self.network
        stride = network.segmenter.config.output_stride
        given = None if self.data is None else self.data.canvas_size
        height, width = canvas_of(given, self, "a 'canvas_size'") or self.canvas_hw
        return (
            f"EfficientDet {network.detector.config.name} and DeepLabv3+ at output stride {stride} on "
            f"{network.backbone.name}; {len(self.classes)} classes of boxes, {len(self.segmentation_classes)} of "
            f"pixels; images on {height} x {width} pixels (height x width)"
        )

    def network_settings(self) -> dict[str, object]:
        """The settings of both networks, and those that a resumed training has to repeat."""
        own = {"train": self.trained, "balance": asdict(self.balance), "postprocess": asdict(self.postprocess)}
        return {**self.network.settings(), "norms": self.norms, **own}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """As in every task; learned log-variances are added to the parameters without decay."""
        configured = super().configure_optimizers()
        if self.uncertainty is not None:
            groups = [group for group in configured["optimizer"].param_groups if not group["weight_decay"]]
            groups[-1]["params"].append(self.uncertainty.log_variances)
        return configured

    def training_step(self, batch: JointBatch, batch_idx: int) -> Tensor:
        """Both losses of a batch as one number; each loss is divided by its count over all devices."""
        losses = joint_losses(self.network, batch, *self.losses, self.running)
        terms = (self.balance.detection * losses.detection, self.balance.segmentation * losses.segmentation)
        if self.balance.measure and batch_idx % self.balance.measure == 0:
            self._measure(terms)
        total = self._weighed(torch.stack(terms), losses.present)
        self._terms = terms if self.balance.method == "pcgrad" else ()
        of_boxes, of_masks = losses.everywhere.unbind()
        parts = losses.parts | {"detection_loss": of_boxes, "segmentation_loss": of_masks}
        self.watch(total, batch_idx, parts)
        parts = parts if self.trained == "both" else losses.parts
        size = len(batch.images)
        weighted = torch.stack((self.balance.detection * of_boxes, self.balance.segmentation * of_masks))
        logged = self._weighed(weighted, losses.present).detach()
        self.log("train_loss", logged, prog_bar=True, batch_size=size)
        self.log_dict({f"train_{name}": value for name, value in parts.items()}, batch_size=size)
        return total

    def _weighed(self, terms: Tensor, present: Tensor) -> Tensor:
        """The number to minimise, from both losses (2,) with their fixed weights."""
        if self.uncertainty is None:
            return terms.sum()
        total: Tensor = self.uncertainty(terms, present)
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients as Lightning does, or projected gradients."""
        if self.balance.method != "pcgrad":
            super().backward(loss, *args, **kwargs)
            return
        shared = shared_parameters(self.network)
        known = {id(p) for p in shared}
        own = [p for p in self.network.parameters() if p.requires_grad and id(p) not in known]
        pcgrad_backward(loss, (self._terms[0], self._terms[1]), shared, own)
        self._terms = ()

    def _measure(self, terms: tuple[Tensor, Tensor]) -> None:
        shared = shared_parameters(self.network)
        if not shared:
            return
        found = agreement(*(gradient_vector(term, shared) for term in terms))
        if not bool(found.cosine.isfinite()):  # a kind of labels was missing
            return
        # `self.log` would repeat the numbers at every step until the next measurement.
        values = {"gradient_cosine": float(found.cosine), "gradient_norm_ratio": float(found.norm_ratio)}
        for logger in self.loggers:
            logger.log_metrics(values, self.trainer.global_step)

    def on_validation_epoch_start(self) -> None:
        """Remove the records and losses of the last evaluation."""
        self.check_finite()
        self.sums = EvaluationLoss(*self.losses, self.balance)
        scored = self.data is not None and self.data.cityscapes_scores
        self.records = JointRecords(self.classes, self.segmentation_classes, scored)

    def validation_step(self, batch: JointEvaluationBatch, batch_idx: int) -> None:
        """Collect both answers of a batch and their losses, from one pass."""
        assert self.records is not None
        has_boxes, has_masks = torch.stack([batch.boxed, batch.masked]).tolist()
        answers = self.network.answer(
            batch.detection(), self.postprocess, detect=any(has_boxes), segment=any(has_masks)
        )
        rows = ([row for row, has in enumerate(which) if has] for which in (has_boxes, has_masks))
        self.sums.add(self.network, answers.outputs, batch, *rows)
        self.records.add(answers, batch)

    def logged(self) -> Mapping[str, Mode | None]:
        """Both losses with their parts, and in validation their sum and the scores of both kinds of labels.

        A validation set without one kind of labels does not have its scores, nor one without instances theirs.
        """
        detection, segmentation = self.losses
        losses = [] if detection is None else ["class_loss", "box_loss"]
        if segmentation is not None:
            terms = segmentation.terms(aux=self.network.segmenter.aux_head is not None)
            losses += terms if len(terms) > 1 else ()
        losses += ["detection_loss", "segmentation_loss"] if self.trained == "both" else []
        cityscapes = self.data is not None and self.data.cityscapes_scores
        means = ("joint", *BoxScores.names(), *SegmentationScores.names(cityscapes, boundary=False))
        found: dict[str, Mode | None] = {"train_loss": "min", **dict.fromkeys((f"train_{x}" for x in losses), "min")}
        return found | {"val_loss": "min"} | dict.fromkeys((f"val_{name}" for name in means), "max")

    def evaluation_loss(self) -> float | None:
        """The training losses of all images on their canvases, with the weights of `balance`; see `EvaluationLoss`."""
        return self.sums.total()

    def evaluate(self, split: SplitName) -> JointScores:
        """The scores of all images, the same on every process; one process computes COCO's numbers for all."""
        assert self.records is not None
        records = self.records.gather()
        boxes: BoxScores | None = None
        if len(records.boxes.image_ids):
            boxes = run_on_main(lambda: self._evaluate_boxes(records, split))
        masks = records.masks.scores() if len(records.masks) else None
        scores = JointScores(boxes, masks, self.ap_share)
        if self.scores_file is not None and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            write_json(self.scores_file, scores.to_dict())
        return scores

    def _evaluate_boxes(self, records: JointRecords, split: SplitName) -> BoxScores:
        assert self.data is not None
        source = self.data.box_source(split)
        found = records.boxes.numbered_as(source, self.classes)
        if self.detections_file is not None and not self.trainer.sanity_checking:
            found.write_results(Path(self.detections_file))  # first, so that a fault of the scoring loses nothing
        if split not in self._truth:
            self._truth[split] = GroundTruth.of(source)
        table, seen = found.table(), found.image_ids
        return evaluate_boxes(self._truth[split], table, image_ids=seen, backend=self.evaluator)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another network; the parameters that balance the losses are needed for training only."""
        if not self.fitting:
            inside = f"{self.part}."
            state = checkpoint["state_dict"].items()
            checkpoint["state_dict"] = {name: value for name, value in state if name.startswith(inside)}
        super().on_load_checkpoint(checkpoint)
