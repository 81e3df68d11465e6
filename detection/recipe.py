"""How EfficientDet is trained: google/automl, `efficientdet/hparams_config.py` and `efficientdet/tf2/train_lib.py`.

SGD with momentum 0.9; learning rate 0.08 for 64 images, scaled linearly with the global batch; warm-up over the first
epoch from a tenth of it (0.008); cosine down to 0; weight decay 4e-5 on kernels only. The gradients are clipped at norm
10 by the trainer's settings in `configs/detection`.
"""

from __future__ import annotations

from engine.training.recipe import Optimizer, Schedule

OPTIMIZER = Optimizer(name="sgd", lr=0.08, lr_batch=64, momentum=0.9, weight_decay=4e-5)
SCHEDULE = Schedule(name="cosine", warmup_epochs=1.0, warmup_start=0.1, power=0.9)
