"""A wrong command gets one short message that names the offender and the remedy."""

import pytest

from tests.engine.toy import main

CONFIGS = {
    "typo.yaml": "model:\n  widht: 3\n",
    "group.yaml": "modle:\n  width: 3\n",
    "nested.yaml": "model:\n  optimizer:\n    lrr: 0.1\n",
    "choice.yaml": "model:\n  size: smal\n",
    "type.yaml": "trainer:\n  max_epochs: five\n",
    "syntax.yaml": "model:\n  width: [3\n  size: small\n",
    "text.yaml": "just text\n",
    "scalar.yaml": "model: 3\n",
    "class.yaml": "trainer:\n  callbacks:\n  - class_path: EarlyStoping\n",
    "class_option.yaml": "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {monitr: a}\n",
    "class_missing.yaml": "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n",
    "class_type.yaml": "trainer:\n  callbacks:\n  - class_path: Timer\n    init_args: {interval: 3}\n",
    "module.yaml": "trainer:\n  callbacks:\n  - class_path: foo.bar.Baz\n",
    "kind.yaml": "trainer:\n  callbacks:\n  - class_path: torch.nn.Linear\n",
    "good.yaml": "model:\n  width: 3\n",
}

# Command, then what its message must hold: the offender, what is allowed, the remedy.
BAD = [
    ("", ["no command", "fit, validate, test, predict"]),
    ("fitt", ["'fitt'", "Did you mean 'fit'?", "Commands:"]),
    ("--model.width 3 fit", ["before the command", "COMMAND --name value"]),
    ("--config typo.yaml fit", ["model.widht", "after the command", "fit --config FILE"]),
    ("fit --model.widt 3", ["model.widt", "Did you mean 'model.width'?", "dropout, optimizer, schedule, size, width"]),
    ("fit --model.optimizer.lrr 1", ["model.optimizer.lrr", "Did you mean 'model.optimizer.lr'?"]),
    ("fit --lr 0.1", ["'lr'", "Did you mean 'model.optimizer.lr'?"]),
    ("fit --trainer.max_epoch 3", ["trainer.max_epoch", "Did you mean 'trainer.max_epochs'?"]),
    ("fit --zzz 3", ["there is no option 'zzz'", "--help"]),
    ("fit stray", ["'stray'", "--name value"]),
    ("fit --model.width", ["--model.width needs a value"]),
    ("fit --model.size smal", ["model.size is 'smal'", "'small', 'large'", "Did you mean 'small'?"]),
    ("fit --model.width wide", ["model.width is 'wide'", "a whole number"]),
    ("fit --model.dropout much", ["model.dropout is 'much'", "a number"]),
    ("fit --model.optimizer adam", ["model.optimizer is 'adam'", "--model.optimizer.NAME VALUE"]),
    ("fit --trainer.precision bf17", ["trainer.precision is 'bf17'", "bf16-mixed", "Did you mean"]),
    ("fit --trainer.accelerator gpuu", ["trainer cannot be set up", "gpuu", "cpu"]),
    ("fit --trainer.fast_dev_run maybe", ["trainer.fast_dev_run is 'maybe'", "true or false"]),
    ("fit --seed_everything x", ["seed_everything is 'x'", "a whole number"]),
    ("predict --ckpt_path last", ["--source must be given"]),
    ("fit --config god.yaml", ["god.yaml", "Did you mean 'good.yaml'?"]),
    ("fit --config no/good.yaml", ["no/good.yaml", "there is no folder 'no'"]),
    ("fit --config .", ["is a folder"]),
    ("fit --config typo.yaml", ["model.widht", "Did you mean 'model.width'?"]),
    ("fit --config group.yaml", ["modle.width", "Did you mean 'model.width'?"]),
    ("fit --config nested.yaml", ["model.optimizer.lrr", "Did you mean 'model.optimizer.lr'?"]),
    ("fit --config choice.yaml", ["model.size is 'smal'", "'small', 'large'", "Did you mean 'small'?"]),
    ("fit --config type.yaml", ["trainer.max_epochs is 'five'", "a whole number"]),
    ("fit --config syntax.yaml", ["'syntax.yaml' is not valid YAML, line 3"]),
    ("fit --config text.yaml", ["'text.yaml'", "--print_config"]),
    ("fit --config scalar.yaml", ["model is '3'", "is a group"]),
    ("fit --config class.yaml", ["EarlyStoping", "Did you mean 'EarlyStopping'?"]),
    ("fit --config class_option.yaml", ["EarlyStopping has no argument 'monitr'", "init_args"]),
    ("fit --config class_missing.yaml", ["EarlyStopping needs monitor", "init_args"]),
    ("fit --config class_type.yaml", ["trainer.callbacks, Timer: interval is '3'"]),
    ("fit --config module.yaml", ["'foo.bar.Baz' cannot be imported", "full import path"]),
    ("fit --config kind.yaml", ["'torch.nn.Linear' is not a Callback"]),
    ("fit --model.optimizer.lr 0", ["optimizer.lr is '0'", "above 0"]),
    ("fit --ema.decay 1.5", ["decay is '1.5'", "at least 0 and below 1"]),
    ("fit --run.name a/b", ["run.name is 'a/b'", "one folder name"]),
]


@pytest.mark.parametrize(("command", "holds"), BAD, ids=[command or "nothing" for command, _ in BAD])
def test_bad_command(command, holds, tmp_path, monkeypatch, capsys):
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert len(lines) <= 5
    assert len(said.err) <= 600
    assert "usage" not in said.err + said.out
    assert "Traceback" not in said.err
    for part in holds:
        assert part in said.err
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("*.*"))
