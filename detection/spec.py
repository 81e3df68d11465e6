"""Detection as a task: its parts, its commands, and the settings that a checkpoint decides."""

from __future__ import annotations

from detection.former import FORMER_CONFIGS
from engine.recipes.options import COMMON
from engine.tasks import TaskSpec

_DATA = (
    "data.root",
    "data.split",
    "data.train_images",
    "data.train_annotations",
    "data.val_images",
    "data.val_annotations",
)
_SCORED = ("model.postprocess.nms", "model.evaluator", "model.detections", "model.scores")

SPEC = TaskSpec(
    name="detection",
    title="EfficientDet: train it, score it, find objects in images and videos.",
    examples=(
        "fit --config detection/demo",
        "validate --config detection/demo --ckpt_path best",
        "predict --ckpt_path best --source IMAGE|FOLDER|GLOB|VIDEO|STREAM --output predictions",
        "score --ground_truth gt.json --predictions detections.json",
        "check MYSET",
        "convert tf_efficientdet_d0.pth d0.safetensors",
        "convert-data MYSET MYSET-COCO --to coco",
    ),
    about={
        "fit": "train; a training goes on with --ckpt_path last",
        "validate": "COCO numbers on the validation set",
        "test": "COCO numbers on the test set",
        "predict": "pictures and videos with boxes and a JSON in COCO's format",
        "check": "what is wrong with a set: its images, boxes, classes and splits",
        "score": "COCO numbers of detections that come from anywhere",
        "pseudo-labels": "what was found in unlabelled images as a training set, by thresholds of each class",
        "convert": "weights of effdet or zylo117 to a file that describes its own network",
        "convert-data": "a set of boxes in any format that is read, written as COCO, VOC, YOLO or LabelMe",
        "report": "a run in one HTML file: curves, classes, mistakes, images with boxes and masks",
        "compare": "two reports side by side in one HTML file",
    },
    module="detection.task:DetectionTask",
    data="detection.formats.module:BoxSetModule",
    trainer="detection.prediction.trainer:DetectionTrainer",
    predictor="detection.prediction.predictor:load",
    reporter="detection.reports.writer:shown",
    batch_reporter="detection.reports.writer:shown_batch",
    commands={
        "check": "detection.checking.check",
        "score": "detection.scores.score",
        "pseudo-labels": "detection.training.pseudo_labels",
        "convert": "detection.weights.convert",
        "convert-data": "detection.formats.convert_data",
    },
    quick_check="detection.checking.quick:quick_check",
    recipe_facts="detection.checking.facts:set_facts",
    recipe_options={
        **COMMON,
        "frozen_stages": "model.frozen_stages",
        "color": "data.augmentation.color",
        "norm_momentum": "model.architecture.norm_momentum",
        "drop_path": "model.architecture.drop_path",
        "anchor_scale": "model.architecture.anchor_scale",
        "assigner": "model.loss.assigner",
        "box_loss": "model.loss.boxes",
        "canvas": "data.image_size",
    },
    monitor="val_ap",
    in_progress_bar=("val_ap", "val_ap50"),
    checkpoint_args=("member", "head", "architecture", "classes"),
    answer_args=("postprocess", "inference", "distillation"),
    resumes_within_epochs=True,
    hub_tags=("object-detection",),
    demo="detection/demo",
    first_page={
        "fit": (
            *("model.member", "model.head", "model.pretrained", "model.backbone_weights", "model.frozen_stages"),
            *("model.optimizer.name", "model.optimizer.lr", "model.optimizer.lr_batch", "model.schedule.warmup_epochs"),
            *(*_DATA, "data.tiles.window", "data.batch_size", "data.num_workers", "data.on_bad_image"),
            *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.precision"),
            *("trainer.gradient_clip_val", "ema.decay", "run.name", "run.root", "run.save_steps"),
        ),
        "validate": ("model.pretrained", *_SCORED, "data.val_images", "data.val_annotations", "data.batch_size"),
        "test": ("model.pretrained", *_SCORED, "data.test_images", "data.test_annotations", "data.batch_size"),
        "predict": ("model.pretrained", "model.postprocess.nms", "trainer.accelerator", "trainer.devices"),
    },
    former_configs=FORMER_CONFIGS,
    renamed={
        "model.results": "model.detections",
        "annotations": "ground_truth",
        "results": "predictions",
    },
)
