"""Segmentation as a task: its parts, its commands, and the settings that a checkpoint decides."""

from __future__ import annotations

from engine.recipes.options import COMMON
from engine.tasks import TaskSpec
from segmentation.former import FORMER_CONFIGS

_SCORED = ("model.inference.scales", "model.inference.flip", "model.eval_output_stride", "model.boundary")
_DATA = ("data.format", "data.root", "data.folder.classes", "data.folder.mask_format")

SPEC = TaskSpec(
    name="segmentation",
    title="DeepLabv3+ on EfficientNet: train it, score it, segment images of any size.",
    examples=(
        "fit --config segmentation/demo",
        "validate --config segmentation/demo --ckpt_path best",
        "predict --ckpt_path best --source IMAGE|FOLDER|GLOB|VIDEO|RASTER|STREAM --output predictions",
        "score --ground_truth DIR --predictions DIR|ZIP",
        "check-data --config segmentation/demo",
    ),
    about={
        "fit": "train; a training goes on with --ckpt_path last",
        "validate": "the benchmark's scores on the validation set",
        "test": "the benchmark's scores on the test set",
        "predict": "index masks, pictures with a legend, and the area of each class",
        "score": "the benchmark's scores of masks that come from anywhere",
        "check-data": "what is wrong with a set: its images, masks, classes and splits",
        "check": "what is wrong with a submission to the Cityscapes server",
        "report": "a run in one HTML file: curves, classes, mistakes, images with boxes and masks",
        "compare": "two reports side by side in one HTML file",
    },
    module="segmentation.task:SegmentationTask",
    data="segmentation.data.module:SegmentationDataModule",
    trainer="segmentation.prediction.trainer:SegmentationTrainer",
    predictor="segmentation.inference.predictor:load",
    reporter="segmentation.reports.writer:shown",
    batch_reporter="segmentation.reports.writer:shown_batch",
    commands={
        "score": "segmentation.scores.score",
        "check-data": "segmentation.checking.check_data",
        "check": "segmentation.scores.submission",
    },
    quick_check="segmentation.checking.quick:quick_check",
    check_command="check-data",
    recipe_facts="segmentation.checking.facts:set_facts",
    recipe_options={
        **COMMON,
        "norm_momentum": "model.architecture.norm_momentum",
        "drop_path": "model.architecture.drop_path",
        "canvas": "data.crop_size",
    },
    monitor="val_miou",
    in_progress_bar=("val_miou",),
    checkpoint_args=("member", "architecture", "classes"),
    answer_args=("inference", "distillation"),
    resumes_within_epochs=True,
    hub_tags=("image-segmentation",),
    demo="segmentation/demo",
    first_page={
        "fit": (
            *("model.member", "model.architecture.output_stride", "model.backbone_weights", "model.loss.hard_pixels"),
            *("model.optimizer.name", "model.optimizer.lr", "model.optimizer.lr_batch", "model.schedule.name"),
            *(*_DATA, "data.folder.train_images", "data.folder.train_masks"),
            *("data.crop_size", "data.batch_size", "data.num_workers", "data.on_bad_image"),
            *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.precision"),
            *("ema.decay", "run.name", "run.root", "run.save_steps"),
        ),
        "validate": (*_SCORED, "model.scores", *_DATA, "data.folder.val_images", "data.folder.val_masks"),
        "test": (*_SCORED, "model.scores", *_DATA, "data.folder.test_images", "data.folder.test_masks"),
        "predict": ("model.eval_output_stride", "trainer.accelerator", "trainer.devices"),
    },
    former_configs=FORMER_CONFIGS,
    renamed={"model.results": "model.scores", "data.layout": "data.format", "overlay": "pictures"},
)
