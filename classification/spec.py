"""Classification as a task: its parts, its commands, and the settings that a checkpoint decides."""

from __future__ import annotations

from engine.tasks import TaskSpec

_DATA = ("data.format", "data.root", "data.split")

SPEC = TaskSpec(
    name="classification",
    title="EfficientNet: train it, score it, name what images show, turn images into vectors.",
    examples=(
        "fit --config classification/finetune --data.root MYSET",
        "validate --config classification/finetune --data.root MYSET --ckpt_path best",
        "predict --ckpt_path best --source IMAGE|FOLDER|GLOB --output predictions",
        "crops --root BOXES --output crops",
    ),
    about={
        "fit": "train; a training goes on with --ckpt_path last",
        "validate": "accuracy, calibration and the scores of each class on the validation set",
        "test": "the same on the test set",
        "predict": "the most likely classes of images with probabilities: a table, and pictures",
        "crops": "cut the objects of a set with boxes out, into a folder for each class",
        "report": "a run in one HTML file: curves, classes, confusions, calibration, images",
        "compare": "two reports side by side in one HTML file",
    },
    module="classification.task:ClassificationTask",
    data="classification.data.module:ClassificationDataModule",
    trainer="classification.prediction.trainer:ClassificationTrainer",
    predictor="classification.prediction.predictor:load",
    reporter="classification.reports.writer:shown",
    batch_reporter="classification.reports.writer:shown_batch",
    commands={"crops": "classification.data.crops"},
    monitor="val_score",
    in_progress_bar=("val_score",),
    checkpoint_args=("member", "architecture", "classes"),
    answer_args=("threshold",),
    resumes_within_epochs=True,
    demo="classification/demo",
    first_page={
        "fit": (
            *("model.member", "model.architecture.image_size", "model.backbone_weights", "model.pretrained"),
            *("model.frozen_stages", "model.loss.smoothing", "model.optimizer.name", "model.optimizer.lr"),
            *("model.optimizer.layer_decay", "model.mixing.mixup", "model.progressive.stages", *_DATA),
            *("data.sampling.name", "data.augmentation.policy", "data.batch_size", "data.num_workers"),
            *("trainer.max_epochs", "trainer.accelerator", "trainer.devices", "trainer.precision"),
            *("ema.decay", "run.name"),
        ),
        "validate": ("model.threshold", "model.scores", *_DATA),
        "test": ("model.threshold", "model.scores", *_DATA),
        "predict": ("trainer.accelerator", "trainer.devices"),
    },
)
