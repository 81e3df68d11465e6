"""Running statistics that follow the number of steps: as in NumPy, the same after a pause, and those of the average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from engine.training.callbacks.norms import share_of_batch
from tests.engine.toy import main


class Inputs(Callback):
    """Keeps the mean of what the toy's batch norm sees in each training step, and its share."""

    seen: list[tuple[np.ndarray, float]] = []  # noqa: RUF012 - the test reads it after the run

    def setup(self, trainer, pl_module, stage):
        norm = pl_module.net[1]
        norm.register_forward_hook(
            lambda module, given, _: (
                Inputs.seen.append((given[0].double().mean(0).detach().numpy(), module.momentum))
                if module.training
                else None
            )
        )


LINE = "--trainer.enable_progress_bar false --trainer.num_sanity_val_steps 0 --data.images 64 --ema.decay 0"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fit(options: str) -> dict[str, torch.Tensor]:
    name = options.split("--run.name ")[1].split()[0]
    assert main(f"fit {LINE} {options}".split()) == 0
    return torch.load(Path(f"runs/toy/{name}/checkpoints/last.ckpt"), weights_only=True)["state_dict"]


def test_each_step_counts_as_in_numpy(here):
    Inputs.seen.clear()
    watch = f"--trainer.callbacks+ {__name__}.Inputs"
    state = fit(f"--norms.warmup true --run.name it {watch}")
    assert len(Inputs.seen) == 16
    mean = np.zeros(4)
    for step, (batch, share) in enumerate(Inputs.seen):
        assert share == max(0.1, 9 / (10 + step))
        mean = (1 - share) * mean + share * batch
    np.testing.assert_allclose(state["net.1.running_mean"].numpy(), mean, rtol=1e-5, atol=1e-7)
    Inputs.seen.clear()
    fit(f"--run.name without {watch}")
    assert {share for _, share in Inputs.seen} == {0.1}


def test_a_pause_changes_nothing(here):
    line = "--norms.warmup true --model.schedule.name constant"  # else its course depends on the number of epochs
    whole = fit(f"{line} --trainer.max_epochs 3 --run.name whole")
    fit(f"{line} --trainer.max_epochs 1 --run.name it")
    again = fit(f"{line} --trainer.max_epochs 3 --run.name it --ckpt_path last")
    assert all(torch.equal(again[name], value) for name, value in whole.items())


@pytest.mark.parametrize("own", [0.01, 0.1])
def test_after_200_steps_neither_keeps_the_start(own):
    """What is left of the statistics that a training begins with, and how old what it ends with is, in steps."""
    steps = 200
    shares = [share_of_batch(step, own) for step in range(steps)]
    # The average takes in the weights after each step: d = min(0.9998, (1 + t) / (10 + t)), see EMA.
    decays = [0.0, *(min(0.9998, (1 + t) / (10 + t)) for t in range(1, steps))]
    for news in (shares, [1 - decay for decay in decays]):
        left = np.cumprod([1, *(1 - new for new in news[::-1])])
        ages = np.arange(steps)
        weights = np.array(news[::-1]) * left[:-1]
        assert left[-1] < 1e-6
        assert weights.sum() == pytest.approx(1 - left[-1])
        assert (weights * ages).sum() < steps / 8
    fixed = (1 - own) ** steps
    assert fixed > 0.13 if own == 0.01 else fixed < 1e-9
