"""The small set with a configuration for heads from torchvision, and a short training of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

# One of each kind by default, as each takes half a minute of a processor.
SLOW = ("retinanet", "ssd", "faster_rcnn", "mask_rcnn")
HEADS = ["fcos", *(pytest.param(head, marks=pytest.mark.slow) for head in SLOW)]


@pytest.fixture(scope="session")
def heads_set(small_set) -> Path:
    """The folder of the small set, with `heads.yaml` beside `small.yaml`."""
    from tests.detection.small import CONFIG

    architecture = {"image_size": [128, 128], "fpn_channels": 64, "norm_momentum": 0.1}
    model = {**CONFIG["model"], "architecture": architecture}
    (small_set / "heads.yaml").write_text(yaml.safe_dump({**CONFIG, "model": model}))
    return small_set


@pytest.fixture(scope="package", params=HEADS)
def trained(request, heads_set) -> tuple[str, Path]:
    """A head, and the last checkpoint of its run of one epoch."""
    from tests.detection.heads.small import fit

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(heads_set)
        said = fit(request.param, "--trainer.max_epochs 1")
    assert said.code == 0, said.err
    return request.param, heads_set / f"runs/detection/{request.param}/checkpoints/last.ckpt"


@pytest.fixture
def there(heads_set, tmp_path, monkeypatch) -> Path:
    """An empty working folder from which the set is found."""
    for name in ("scenes", "heads.yaml"):
        (tmp_path / name).symlink_to(heads_set / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
