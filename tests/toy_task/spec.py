"""A third task, as another project would add it: is the sum of four numbers above 0?"""

from engine.tasks import TaskSpec

SPEC = TaskSpec(
    name="signs",
    title="Signs of sums.",
    examples=("fit --model.width 3", "predict --ckpt_path best --source 1,2,3,4"),
    about={"fit": "train", "validate": "accuracy", "test": "accuracy", "predict": "signs of what is given"},
    module="tests.toy_task.task:SignTask",
    data="tests.toy_task.task:SignData",
    trainer="tests.toy_task.task:SignTrainer",
    predictor="tests.toy_task.task:load",
    monitor="val_accuracy",
    checkpoint_args=("width",),
    demo="signs/demo",
    first_page={"fit": ("model.width", "model.optimizer.lr", "data.batch_size", "trainer.max_epochs")},
    trainer_defaults={"accelerator": "cpu", "devices": 1, "max_epochs": 2, "log_every_n_steps": 1},
)
