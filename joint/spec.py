"""The task of detection and segmentation with one network: its parts, its commands and what a checkpoint decides."""

from __future__ import annotations

from engine.recipes.options import COMMON
from engine.tasks import TaskSpec

_DATA = ("data.format", "data.root", "data.masks.format", "data.canvas_size")
_SCORED = ("model.postprocess.nms", "model.evaluator", "model.ap_share", "model.detections", "model.scores", *_DATA)

SPEC = TaskSpec(
    name="joint",
    title=(
        "EfficientDet and DeepLabv3+ on one EfficientNet: train both, score both, find objects and classes of pixels."
    ),
    examples=(
        "fit --config joint/demo",
        "validate --config joint/demo --ckpt_path best",
        "predict --ckpt_path best --source IMAGE|FOLDER|GLOB|VIDEO|STREAM --output predictions",
        "check --config joint/demo",
        "boxes --root CITYSCAPES --split train --output instances_train.json",
    ),
    about={
        "fit": "train; a training goes on with --ckpt_path last",
        "validate": "COCO's numbers and the benchmark's scores on the validation set",
        "test": "COCO's numbers and the benchmark's scores on the test set",
        "predict": "masks, boxes drawn over the classes' colours, and tables of objects and areas",
        "check": "what is wrong with the data: images, boxes, masks, classes and splits",
        "boxes": "COCO annotations of Cityscapes' instance ids, so that one folder trains both",
        "ray": "predict over millions of images on many machines, by Ray Data",
        "report": "a run in one HTML file: curves, classes, mistakes, images with boxes and masks",
        "compare": "two reports side by side in one HTML file",
    },
    module="joint.task:JointTask",
    data="joint.data.module:JointDataModule",
    trainer="joint.prediction.trainer:JointTrainer",
    predictor="joint.prediction.predictor:load",
    reporter="joint.reports.writer:shown",
    batch_reporter="joint.reports.writer:shown_batch",
    commands={"boxes": "joint.data.instances", "check": "joint.checking.check", "ray": "joint.prediction.ray_predict"},
    quick_check="joint.checking.quick:quick_check",
    recipe_facts="joint.checking.facts:set_facts",
    recipe_options={
        **COMMON,
        "frozen_stages": "model.frozen_stages",
        "color": "data.augmentation.color",
        "norm_momentum": "model.detector.architecture.norm_momentum",
        "drop_path": "model.detector.architecture.drop_path",
        "anchor_scale": "model.detector.architecture.anchor_scale",
        "canvas": "data.canvas_size",
    },
    monitor="val_joint",
    in_progress_bar=("val_ap", "val_miou"),
    checkpoint_args=("detector", "segmenter", "norms"),
    resume_args=("optimizer", "schedule", "train", "balance"),
    answer_args=("postprocess",),
    resumes_within_epochs=True,
    hub_tags=("object-detection", "image-segmentation"),
    demo="joint/demo",
    first_page={
        "fit": (
            *("model.member", "model.detector_checkpoint", "model.segmenter_checkpoint", "model.train", "model.norms"),
            *("model.balance.method", "model.optimizer.name", "model.optimizer.lr", "model.optimizer.lr_batch"),
            *(*_DATA, "data.batch_size", "data.num_workers", "data.on_bad_image"),
            *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.precision"),
            *("trainer.gradient_clip_val", "ema.decay", "run.name", "run.root", "run.save_steps"),
        ),
        "validate": _SCORED,
        "test": _SCORED,
        "predict": ("model.postprocess.nms", "trainer.accelerator", "trainer.devices"),
    },
    renamed={
        "model.results": "model.scores",
        "data.layout": "data.format",
        "data.masks.layout": "data.masks.format",
        "overlay": "pictures",
    },
)
