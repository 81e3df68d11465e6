"""The thin Lightning shell around the detector: losses while training, COCO numbers while validating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import torch
from jsonargparse.typing import register_type
from torch import Tensor

from backbones.contract import Freezing
from backbones.grid import size_hw
from detection.data.batch import DetectionBatch
from detection.data.classes import BoxClasses
from detection.data.contracts import DetectionData
from detection.network.build import build_detector
from detection.network.detector import Detector
from detection.network.family import DetectorOverrides, MemberName, PhiName
from detection.network.heads.choice import Head, refuse_loss
from detection.network.heads.kinds.pasting import pasted_batch
from detection.network.heads.parts import refuse_postprocess
from detection.network.loss_settings import DetectionLoss
from detection.network.losses import running_count
from detection.network.model import EfficientDet
from detection.network.postprocess import Postprocess
from detection.recipe import OPTIMIZER, SCHEDULE
from detection.scores.backends import Backend
from detection.scores.masks import MaskRecords, evaluate_masks, write_masks
from detection.scores.metric import COCO_MOST, BoxScores, evaluate_boxes
from detection.scores.records import DetectionRecords
from detection.scores.truth import GroundTruth
from detection.spec import SPEC
from detection.tiles.evaluation import evaluated, of_whole_images
from detection.tiles.inference import Inference
from detection.tiles.passes import Pass, Passes
from detection.training.distiller import DetectorDistiller, Lessons
from detection.training.settings import Distillation
from detection.training.teachers import make_distiller
from detection.weights.exported import load_exported
from detection.weights.load import load_pretrained
from engine.checked import checked
from engine.data.contracts import SplitName
from engine.data.one_canvas import agreed_size
from engine.distillation.teachers import FINGERPRINTS, SETTINGS
from engine.distributed import all_reduce_sum, run_on_main
from engine.errors import InputError
from engine.exports.files import check_overrides, check_untrained, is_exported
from engine.numbers import AllOrCount, PositiveInt
from engine.outputs import write_json
from engine.reading.options import Reading, agreed_reading
from engine.scores.image_sums import ImageSums
from engine.tasks import TaskSpec
from engine.training.checkpoint_files import Mode
from engine.training.recipe import Optimizer, Schedule
from engine.training.task import DenseTask

register_type(PhiName, fail_already_registered=False)  # the command line checks it, and lists it beside the members


class DetectionTask(DenseTask[DetectionData]):
    """EfficientDet, or another detector on its backbone, with its training recipe.

    The class list comes from the training annotations; `validate`, `test` and `predict` take it, like all
    settings of the network, from the checkpoint or the published weights.

    Args:
        member: the family member, or any φ between members such as phi1.5; it sets backbone, size, pyramid, heads
            and anchors. Null is the member of the published weights, or else d0.
        architecture: single values that replace the member's.
        head: what stands on the pyramid: EfficientDet's, or torchvision's retinanet, fcos, ssd, faster_rcnn or
            mask_rcnn, which finds masks as well; null is efficientdet, or that of the checkpoint or the weights.
        num_classes: only to be checked against the annotations, or for data without any.
        classes: the class list, if it should not come from the annotations.
        pretrained: a published detector's name or file to start from, such as `tf_efficientdet_d0`, or a checkpoint
            of another training; the class layer starts anew where classes differ.
        backbone_weights: ImageNet weights to start from: `imagenet` for timm's hub, `package:NAME`, or a file;
            null starts at random.
        frozen_stages: 0 trains all, 1 freezes the stem, k the stem and k - 1 stages, -1 the backbone.
        freeze_norm: keep the backbone's batch norms as they are.
        grad_checkpointing: use less memory and more time in the backbone.
        loss: which anchors learn a box, and the losses of classes and boxes; of head efficientdet.
        distillation: trained detectors that teach this one, and what of them counts.
        postprocess: suppression settings of validation, test and prediction.
        inference: tiles, scales and mirroring with which validation, test and prediction compute an image; without a
            window in the tiles of training, or whole.
        optimizer: update rule, learning rate and decay.
        schedule: warm-up and course of the learning rate.
        evaluator: `pycocotools`, or `faster` or `hotcoco` for the same numbers in less time (extra `fast`).
        detections: file for the detections of validation or test in COCO's results form.
        scores: JSON file for all scores of validation or test.
    """

    spec: ClassVar[TaskSpec] = SPEC
    part: ClassVar[str] = "detector"
    detector: Detector

    @checked
    def __init__(
        self,
        member: MemberName | PhiName | None = None,
        architecture: DetectorOverrides = DetectorOverrides(),
        head: Head | None = None,
        num_classes: PositiveInt | None = None,
        classes: BoxClasses | None = None,
        pretrained: str | None = None,
        backbone_weights: str | None = "imagenet",
        frozen_stages: AllOrCount = 0,
        freeze_norm: bool = False,
        grad_checkpointing: bool = False,
        loss: DetectionLoss = DetectionLoss(),
        distillation: Distillation = Distillation(),
        postprocess: Postprocess = Postprocess(),
        inference: Inference = Inference(),
        optimizer: Optimizer = OPTIMIZER,
        schedule: Schedule = SCHEDULE,
        evaluator: Backend = "pycocotools",
        detections: str | None = None,
        scores: str | None = None,
    ) -> None:
        super().__init__(optimizer, schedule, detections, scores)
        self.detections_file, self.scores_file = detections, scores
        self.member = member
        self.head = head
        self.architecture = architecture
        self.num_classes = num_classes
        self.given_classes = classes
        self.pretrained = pretrained
        self.backbone_weights = backbone_weights
        self.freezing: Freezing = {
            "frozen_stages": frozen_stages,
            "freeze_norm": freeze_norm,
            "grad_checkpointing": grad_checkpointing,
        }
        self.loss = loss
        self.running = running_count(loss)
        self.distillation = distillation
        self.distiller: DetectorDistiller | None = None
        self.postprocess = postprocess
        self.given_inference = inference
        self.evaluator: Backend = evaluator
        self.records = DetectionRecords()
        self.masks = MaskRecords()
        self.sums = ImageSums()
        self._truth: dict[str, GroundTruth] = {}

    @property
    def network(self) -> Detector:
        """The detector; built when first asked for."""
        self.configure_model()
        return self.detector

    @property
    def classes(self) -> BoxClasses:
        """The detector's class list, which the data module maps categories to."""
        return self.network.classes

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width that images are letter-boxed on."""
        return self.network.config.image_size

    @property
    def inference(self) -> Inference:
        """How images are scored and predicted: as was given, or else in the tiles of the training."""
        return self.given_inference if self.data is None else self.given_inference.in_tiles_of(self.data.tiles)

    @property
    def passes(self) -> Passes:
        """How an image is laid on the canvas in each pass of an evaluation."""
        return Passes.of(self.network, self.inference)

    @property
    def views(self) -> tuple[Pass, ...]:
        """What lays an image, or a tile, on the canvas of each further pass of an evaluation."""
        return self.passes.more

    @property
    def wants_masks(self) -> bool:
        """Whether training samples have the masks of their objects."""
        return self.network.config.head == "mask_rcnn"

    @property
    def cell(self) -> int:
        """Pixels of the canvas from one cell of the finest map to the next."""
        return self.network.config.finest_stride

    @property
    def fill_color(self) -> tuple[int, int, int]:
        """Colour of the canvas beside the image."""
        return self.network.fill_color

    @property
    def reading(self) -> Reading:
        """How rasters become the RGB that the network sees."""
        return self.network.reading

    def build(self) -> Detector:
        """The detector with the weights that the command starts from."""
        if self.head is not None:
            refuse_loss(self.head, self.loss)  # before weights are fetched
            refuse_postprocess(self.head, self.postprocess)
        detector = self._built()
        own = detector.config.head
        if self.head not in (None, own):
            msg = (
                f"model.head is {self.head}, but the weights '{self.pretrained}' are of head {own}. Leave model.head "
                "out, or start from a backbone: --model.backbone_weights."
            )
            raise InputError(msg)
        refuse_loss(own, self.loss)
        refuse_postprocess(own, self.postprocess)
        self.inference.check_fits(own, lays_out=detector.takes_pictures)
        precision = "32-true" if self._trainer is None else str(self.trainer.precision)
        if own != "efficientdet" and precision in ("16-true", "bf16-true"):
            msg = (
                f"trainer.precision is {precision}, in which torchvision's anchors lose whole pixels, and the head is "
                f"{own}. Give 16-mixed or bf16-mixed."
            )
            raise InputError(msg)
        return detector

    def _built(self) -> Detector:
        fitting, restoring = self.fitting, self.restoring
        wanted = self._wanted_classes(fitting)
        overrides = self.architecture.given()
        if self.data is not None:
            agreed = agreed_size(
                self.data.image_size, self.architecture.image_size, data_option="data.image_size",
                network_option="model.architecture.image_size", way=self.way,
            )  # fmt: skip
            overrides |= {} if agreed is None else {"image_size": agreed}
            overrides = agreed_reading(self.data.reading, overrides, before="model.architecture", way=self.way)
        if self.pretrained is not None and is_exported(self.pretrained):
            return self._exported(self.pretrained, overrides, fitting=fitting)
        if self.pretrained is not None and not restoring:
            detector = load_pretrained(self.pretrained, freezing=self.freezing, **overrides)
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
        options = {"head": self.head, "classes": wanted, "backbone_weights": start, **self.freezing, **overrides}
        return build_detector(self.member or "d0", **options)

    def _exported(self, source: str, overrides: Mapping[str, object], *, fitting: bool) -> Detector:
        """The detector of an exported file, which has its settings from the checkpoint that it was made of."""
        check_untrained(source, fitting=fitting)
        detector = load_exported(source)
        check_overrides(source, overrides, detector.config.to_dict())
        return detector

    def _wanted_classes(self, fitting: bool) -> BoxClasses:
        wanted = self.given_classes
        if wanted is None and fitting and self.data is not None:
            wanted = self.data.train_classes()
        if wanted is None:
            return BoxClasses.numbered(90 if self.num_classes is None else self.num_classes)
        if self.num_classes not in (None, len(wanted)):
            msg = (
                f"model.num_classes is {self.num_classes}, but the annotations and the checkpoint have {len(wanted)} "
                "classes. Leave it out, as the data decides."
            )
            raise InputError(msg)
        return wanted

    def build_distiller(self) -> DetectorDistiller | None:
        """What compares the detector with its teachers, if there are any."""
        sources = self.distillation.teachers
        return make_distiller(self.detector, self.distillation) if sources else None

    def lessons(self) -> dict[str, object]:
        """What the teachers are, and what of them counts."""
        if self.distiller is None:
            return {}
        return {SETTINGS: asdict(self.distillation), FINGERPRINTS: self.distiller.teachers.fingerprints}

    def description(self) -> str:
        """Member, classes and canvas."""
        height, width = self.canvas_hw
        return (
            f"{self.detector.title}; {len(self.classes)} classes; images on {height} x {width} pixels (height x width)"
        )

    def network_settings(self) -> dict[str, object]:
        """Member, head, architecture and classes, and the settings of suppression and tiles."""
        answers = {"postprocess": asdict(self.postprocess), "inference": asdict(self.inference)}
        return {"head": self.network.config.head, **self.network.settings(), **answers}

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor:
        """Loss of a batch, divided by what is counted on all devices, and what the teachers add."""
        detector, lessons = self.detector, None
        if self.distiller is None:
            sums = detector.loss_sums(batch, self.loss)
        else:
            assert isinstance(detector, EfficientDet)  # no other head has a distiller
            answers = detector.answers(batch.images)
            sums = detector.loss_sums_of(answers.predictions, batch, self.loss)
            lessons = self.distiller(batch.images, answers, detector.lattice(size_hw(batch.images)))
        # One call for the count and what is logged: a log that synchronises itself waits for a barrier as well.
        everywhere = sums.over_devices(all_reduce_sum)
        # DDP averages gradients over the devices: the mean of sums * world / total is the sum over the total.
        divisor = everywhere.divisor if self.running is None else self.running.after(everywhere.count.clamp(min=1))
        total = sums.total(divisor / self.trainer.world_size)
        if lessons is not None:
            total = total + self._learned(lessons, len(batch.images))
        parts = {f"train_{name}_loss": part for name, part in everywhere.named(divisor).items()}
        self.watch(total, batch_idx, parts)
        self.log("train_loss", everywhere.total(divisor), prog_bar=True, batch_size=len(batch.images))
        self.log_dict(parts, batch_size=len(batch.images))
        return total

    def _learned(self, lessons: Lessons, batch_size: int) -> Tensor:
        """What the teachers add to the loss of a batch."""
        devices = self.trainer.world_size
        everywhere = lessons.over_devices(all_reduce_sum, devices)
        terms = lessons.terms(self.distillation, everywhere.sureness / devices)
        logged = everywhere.terms(self.distillation, everywhere.sureness)
        self.log_dict({f"train_{name}": value for name, value in logged.items()}, batch_size=batch_size)
        return torch.stack(list(terms.values())).sum()

    def on_validation_epoch_start(self) -> None:
        """Forget the detections and losses of the last evaluation."""
        self.check_finite()
        self.records, self.masks, self.sums = DetectionRecords(), MaskRecords(), ImageSums()

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Collect the detections and the losses of a batch."""
        found, sums = evaluated(self.detector, batch, self.loss, self.postprocess, self.passes)
        if sums is not None:
            self.sums.add(batch.image_ids, sums)
        rows = found.class_ids.clamp(min=0).cpu()
        # Rows without a name, ten of COCO's ninety, stand for ids that no annotation file lists.
        named = torch.tensor([bool(name) for name in self.classes.names])
        category_ids = torch.tensor(self.classes.category_ids)[rows]
        if found.masks is not None:
            counts = (found.class_ids >= 0).sum(1).tolist()
            pasted = pasted_batch(found.masks, found.boxes_xyxy, counts, batch.sizes_hw)
            self.masks.add_batch(batch.image_ids.tolist(), pasted, found.boxes_xyxy, found.scores, category_ids)
        self.records.add(
            batch.image_ids.cpu().numpy(),
            found.boxes_xyxy.float().cpu().numpy(),
            found.scores.float().cpu().numpy(),
            category_ids.numpy(),
            valid=((found.class_ids >= 0).cpu() & named[rows]).numpy(),
        )

    def logged(self) -> Mapping[str, Mode | None]:
        """The losses, and COCO's twelve numbers in validation."""
        parts = [f"train_{name}_loss" for name in self.network.loss_terms(self.loss).names]
        if self.distiller is not None:
            parts += [f"train_distilled_{name}" for name in ("features", "classes", "boxes")]
        losses: dict[str, Mode | None] = dict.fromkeys(("train_loss", *parts, "val_loss"), "min")
        kinds = ("val_", "val_mask_") if self.wants_masks else ("val_",)
        return losses | dict.fromkeys((f"{kind}{name}" for kind in kinds for name in BoxScores.names()), "max")

    def evaluation_loss(self) -> float | None:
        """The training loss of all images, whole on their canvases, divided by what is counted in all of them."""
        total = self.sums.total()
        if total is None:
            return None
        losses = self.detector.loss_terms(self.loss).of(total)
        return float(losses.total(losses.divisor))

    def evaluate(self, split: SplitName) -> BoxScores:
        """COCO's numbers, computed by one process for all."""
        records, masks = self.records.gather(), self.masks.gather()
        return run_on_main(lambda: self._evaluate(records, masks, split))

    def _evaluate(self, records: DetectionRecords, masks: MaskRecords, split: SplitName) -> BoxScores:
        assert self.data is not None
        source = self.data.box_source(split)
        tiles = self.data.tiles_of(split)
        records = of_whole_images(records, tiles, self.postprocess).numbered_as(source, self.classes)
        # Pictures in tiles are large, and so may be the number of their objects.
        most = COCO_MOST if tiles is None else max(COCO_MOST, records.most)
        writing = not self.trainer.sanity_checking
        entries = masks.entries(source, self.classes) if self.wants_masks else None
        if self.detections_file is not None and writing and entries is not None:
            write_masks(self.detections_file, entries)
        elif self.detections_file is not None and writing:
            records.write_results(Path(self.detections_file))  # first, so that a fault of the scoring loses nothing
        if split not in self._truth:
            self._truth[split] = GroundTruth.of(source)
        truth, table = self._truth[split], records.table()
        scores = evaluate_boxes(truth, table, image_ids=records.image_ids, backend=self.evaluator, max_detections=most)
        if entries is not None:
            own = evaluate_masks(self.data.mask_file(split), entries, image_ids=masks.image_ids)
            scores = replace(scores, masks=own)
        if self.scores_file is not None and writing:
            write_json(self.scores_file, scores.to_dict())
        return scores
