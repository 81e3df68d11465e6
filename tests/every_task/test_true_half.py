"""With bf16-true and 16-true only networks and images are rounded: true boxes and scales are those of float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.every_task.watching import __name__ as watching
from tests.every_task.watching import run, seen

HALF = {"bf16-true": torch.bfloat16, "16-true": torch.float16}


def batches(folder: str) -> dict[str, dict[str, object]]:
    return {path.name: torch.load(path) for path in sorted(Path(folder).iterdir())}


@pytest.mark.slow
def test_batches_are_those_of_float32(task):
    """In training and validation; boxes on these canvases are no numbers of bfloat16."""
    size = "--data.batch_size 3"
    line = f"fit --config small.yaml {size} --trainer.max_epochs 1 --trainer.callbacks+ {watching}.Batches"
    for precision in ("32-true", "bf16-true"):
        place = f"--trainer.callbacks.place {precision} --run.name {precision}"
        run(task, f"{line} {place} --trainer.precision {precision}")
    whole, half = batches("32-true"), batches("bf16-true")
    assert whole.keys() == half.keys()
    assert {name.partition("-")[0] for name in whole} == {"train", "val"}
    rounded = 0
    for name, batch in whole.items():
        for field, value in batch.items():
            other_value = half[name][field]
            of_images = isinstance(value, list)
            for one, other in zip(value, other_value, strict=True) if of_images else [(value, other_value)]:
                assert one.dtype == other.dtype
                assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1)), (name, field)
                if one.is_floating_point():
                    rounded += int((one.nan_to_num(-1) != one.nan_to_num(-1).bfloat16().float()).sum())
    assert (rounded > 0) == (task != "segmentation")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-true", pytest.param("16-true", marks=pytest.mark.slow)])
def test_a_network_of_half_precision_is_scored(task, precision, monkeypatch):
    """Close to the numbers of float32, and computed by a network of the precision that was asked for."""
    run(task, "fit --config small.yaml --trainer.max_epochs 1 --trainer.limit_val_batches 1 --run.name it")
    stored = f"validate --config small.yaml --ckpt_path runs/{task}/it/checkpoints/last.ckpt"
    whole = seen(task, stored)
    kinds = set()
    usual = torch.nn.functional.conv2d

    def conv2d(*args, **kwargs):
        kinds.add(args[0].dtype)
        return usual(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    half = seen(task, f"{stored} --trainer.precision {precision}")
    assert kinds == {HALF[precision]}
    assert half.keys() == whole.keys()
    assert half["val_loss"] == pytest.approx(whole["val_loss"], rel=0.02)
    assert half["val_loss"] != whole["val_loss"]
