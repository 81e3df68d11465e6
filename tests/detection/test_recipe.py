"""EfficientDet's recipe: the numbers of google/automl `efficientdet/hparams_config.py` (6a54c87)."""

import dataclasses

from detection.data.augment import DetectionAugmentation
from detection.recipe import OPTIMIZER, SCHEDULE
from joint.data.augment import JointAugmentation


def test_the_official_numbers():
    assert (OPTIMIZER.name, OPTIMIZER.momentum, OPTIMIZER.weight_decay) == ("sgd", 0.9, 4e-5)
    assert OPTIMIZER.scaled_lr(64) == 0.08
    assert OPTIMIZER.scaled_lr(128) == 0.16
    assert (SCHEDULE.name, SCHEDULE.warmup_epochs, SCHEDULE.min_lr) == ("cosine", 1.0, 0.0)
    assert OPTIMIZER.lr * SCHEDULE.warmup_start == 0.008  # lr_warmup_init
    augmentation = DetectionAugmentation()
    assert (augmentation.hflip, augmentation.scale_min, augmentation.scale_max) == (0.5, 0.1, 2.0)


def test_joint_training_differs_in_the_smallest_scale_alone():
    ours = dataclasses.asdict(DetectionAugmentation())
    joint = dataclasses.asdict(JointAugmentation())
    assert {name: joint[name] for name in ours if joint[name] != ours[name]} == {"scale_min": 0.5}
