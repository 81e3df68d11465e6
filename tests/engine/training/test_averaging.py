"""The averaged weights against an average computed by hand, in training, validation, checkpoints and resuming."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from engine.errors import InputError
from engine.training.averaging import EMA
from tests.engine.toy import Crash, ToyData, ToyTask

State = dict[str, Tensor]


def copy_state(module: torch.nn.Module) -> State:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class Record(Callback):
    """Keeps the weights after every step, and those that each validation ran with."""

    def __init__(self) -> None:
        self.steps: list[State] = []
        self.validated: list[State] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.steps.append(copy_state(pl_module))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, *args) -> None:
        if batch_idx == 0:
            self.validated.append(copy_state(pl_module))


def by_hand(steps: list[State], decay: float) -> State:
    """The definition of the average, in double precision."""
    average = {name: value.double() for name, value in steps[0].items()}
    for updates, weights in enumerate(steps[1:], start=1):
        d = min(decay, (1 + updates) / (10 + updates))
        for name, value in weights.items():
            average[name] = d * average[name] + (1 - d) * value.double() if value.is_floating_point() else value
    return average


def close(ours: State, expected: State) -> None:
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6, msg=name)


def train(ema: EMA, epochs: int = 3, callbacks: Any = (), ckpt_path: str | None = None, **kwargs: Any) -> Trainer:
    torch.manual_seed(0)
    task = ToyTask()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ema, *callbacks],
        **kwargs,
    )
    trainer.fit(task, datamodule=ToyData(), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("decay", [0.9998, 0.3])
def test_average_is_the_definition(decay):
    record = Record()
    trainer = train(EMA(decay), callbacks=[record])
    expected = by_hand(record.steps, decay)
    close(copy_state(trainer.lightning_module), expected)
    # The counter of a batch norm is copied, not averaged and truncated to an integer.
    assert trainer.lightning_module.net[1].num_batches_tracked == len(record.steps) == 12


def test_validation_runs_on_the_average_and_training_goes_on_from_the_weights():
    plain, averaged = Record(), Record()
    train(EMA(decay=0), callbacks=[plain])
    train(EMA(), callbacks=[averaged])
    for left, right in zip(plain.steps, averaged.steps, strict=True):
        for name, value in left.items():
            assert torch.equal(value, right[name]), name
    # The first validation is the sanity check, before any step.
    torch.manual_seed(0)
    close(averaged.validated[0], copy_state(ToyTask()))
    for epoch, state in enumerate(averaged.validated[1:], start=1):
        close(state, by_hand(averaged.steps[: 4 * epoch], 0.9998))


def test_decay_zero_leaves_no_trace(tmp_path):
    record = Record()
    trainer = train(EMA(decay=0), callbacks=[record])
    close(record.validated[-1], record.steps[-1])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert "current_model_state" not in content
    close(content["state_dict"], record.steps[-1])


class Save(Callback):
    """Saves at the end of every epoch."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")


def test_before_a_delayed_start_the_weights_themselves_are_validated_and_saved(tmp_path):
    record = Record()
    train(EMA(start_step=6), callbacks=[record, Save(tmp_path)])
    saved = [torch.load(tmp_path / f"{epoch}.ckpt", weights_only=True) for epoch in range(3)]
    close(record.validated[1], record.steps[3])
    close(saved[0]["state_dict"], record.steps[3])
    assert "current_model_state" not in saved[0]
    # Steps 6, 7 (counted from 0) are in the average at the end of the second epoch.
    close(record.validated[2], by_hand(record.steps[6:8], 0.9998))
    close(saved[1]["state_dict"], by_hand(record.steps[6:8], 0.9998))
    close(saved[1]["current_model_state"], record.steps[7])


@pytest.mark.by_default("6")
@pytest.mark.parametrize("start_step", [0, 6])
def test_interrupted_equals_uninterrupted_to_the_bit(tmp_path, start_step):
    whole, first, rest = (tmp_path / name for name in ("whole", "first", "rest"))
    for folder in (whole, first, rest):
        folder.mkdir()
    train(EMA(start_step=start_step), 4, [Save(whole)])
    for epoch in (1, 2):
        with pytest.raises(RuntimeError, match="power cut"):
            train(EMA(start_step=start_step), 4, [Save(first), Crash(epoch)])
        train(EMA(start_step=start_step), 4, [Save(rest)], ckpt_path=str(first / f"{epoch - 1}.ckpt"))
        expected = torch.load(whole / "3.ckpt", weights_only=True)
        resumed = torch.load(rest / "3.ckpt", weights_only=True)
        for part in ("state_dict", "current_model_state"):
            for name, value in expected[part].items():
                assert torch.equal(value, resumed[part][name]), (part, name)
        assert torch.equal(expected["averaging_state"]["n_averaged"], resumed["averaging_state"]["n_averaged"])
        momentum = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (expected, resumed)]
        for key, state in momentum[0].items():
            assert torch.equal(state["momentum_buffer"], momentum[1][key]["momentum_buffer"])


class Fail(Callback):
    def on_validation_batch_end(self, trainer, *args) -> None:
        if trainer.global_step >= 8:
            msg = "power cut"
            raise RuntimeError(msg)


def test_a_validation_that_breaks_off_gives_the_weights_back():
    record = Record()
    torch.manual_seed(0)
    task, ema = ToyTask(), EMA()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ema, record, Fail()],
    )
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(task, datamodule=ToyData())
    close(copy_state(task), record.steps[-1])


def test_a_checkpoint_without_an_average_starts_one(tmp_path):
    train(EMA(decay=0), 2, [Save(tmp_path)])
    record = Record()
    trainer = train(EMA(), 3, [record], ckpt_path=str(tmp_path / "1.ckpt"))
    close(copy_state(trainer.lightning_module), by_hand(record.steps, 0.9998))


def test_switching_the_average_off_goes_on_from_the_weights(tmp_path):
    record, resumed = Record(), Record()
    train(EMA(), 3, [record, Save(tmp_path)])
    train(EMA(decay=0), 3, [resumed], ckpt_path=str(tmp_path / "1.ckpt"))
    close(resumed.steps[-1], record.steps[-1])


def test_it_is_silent_outside_training(tmp_path, caplog):
    trainer = train(EMA(), 1, [Save(tmp_path)])
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as warned:
        fresh = Trainer(accelerator="cpu", logger=False, callbacks=[EMA()], enable_progress_bar=False)
        fresh.validate(trainer.lightning_module, datamodule=ToyData(), ckpt_path=tmp_path / "0.ckpt", verbose=False)
        fresh.save_checkpoint(tmp_path / "b.ckpt")
    said = caplog.text + " ".join(str(warning.message) for warning in warned)
    assert "WeightAveraging" not in said


@pytest.mark.parametrize("bad", [{"decay": 1.0}, {"decay": -0.1}, {"start_step": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        EMA(**bad)
