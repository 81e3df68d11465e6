"""Classes computed strip by strip against the whole: equal to the last bit, at any size, and in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.grid import Grid, feature_grid, resample, resampled_strips
from segmentation.inference import inference
from segmentation.inference.inference import Inference, class_rows, probabilities
from segmentation.network.model import Segmenter
from tests.segmentation.toys import ToyNet

ROOT = Path(__file__).parents[3]


@settings(max_examples=60, deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    rows=st.integers(1, 401),
    same_padding=st.booleans(),
    stride=st.sampled_from([2, 4, 8, 16]),
    batch=st.integers(1, 2),
    lasts=st.booleans(),
    seed=st.integers(0, 9),
)
def test_strips_of_a_map_are_the_whole_to_the_last_bit(size_hw, rows, same_padding, stride, batch, lasts, seed):
    grid = feature_grid(size_hw, stride, same_padding=same_padding)
    cells = [-(-side // stride) for side in size_hw]
    maps = torch.randn(batch, 5, *cells, generator=torch.Generator().manual_seed(seed))
    maps = maps.contiguous(memory_format=torch.channels_last) if lasts else maps
    whole = resample(maps, grid, Grid(1, (0, 0)), size_hw)
    strips = list(resampled_strips(maps, grid, Grid(1, (0, 0)), size_hw, rows))
    assert [strip.shape[2] for strip in strips[:-1]] == [rows] * (len(strips) - 1)
    found = torch.cat(strips, 2)
    if lasts or size_hw[1] > 128:
        assert torch.equal(found, whole)
    # Of maps with columns last, torch computes outputs of up to 128 rows and columns together with another kernel.
    torch.testing.assert_close(found, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size_hw", [(129, 301), (200, 333), (96, 128)])
@pytest.mark.parametrize("settings", [{}, {"alignment": "corners"}, {"decoder": "fpn"}])
def test_a_network_in_strips_gives_the_classes_of_the_whole(size_hw, settings, monkeypatch):
    torch.manual_seed(1)
    network = Segmenter("lite0", 19, **settings).eval()
    image = np.random.default_rng(2).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = network(torch.from_numpy(image).permute(2, 0, 1)[None])
    for rows in (7, 64):
        monkeypatch.setattr(inference, "MOST_SCORES", rows * 19 * size_hw[1])
        found = class_rows(network, image)
        differ = found != logits.argmax(1)[0]
        top = logits[0].topk(2, 0).values
        assert not (differ & (top[0] - top[1] > 1e-5)).any()
        assert differ.float().mean() < 1e-3


def test_no_strip_has_more_scores_than_allowed(monkeypatch):
    network = Segmenter("lite0", 3).eval()
    monkeypatch.setattr(inference, "MOST_SCORES", 3 * 100 * 16)
    seen: list[int] = []
    monkeypatch.setattr(inference, "check_numbers", lambda *outputs: seen.extend(one.numel() for one in outputs))
    class_rows(network, np.zeros((120, 100, 3), dtype=np.uint8))
    assert len(seen) == 8
    assert max(seen) <= 3 * 100 * 16


@pytest.mark.parametrize("values", [{}, {"overlap": 40, "margin": 8}, {"overlap": 0, "margin": 0}])
@pytest.mark.parametrize("size_hw", [(150, 230), (97, 64), (130, 131)])
def test_the_classes_of_tiles_are_those_of_their_probabilities(size_hw, values):
    network = ToyNet(2)
    config = Inference(window=64, batch=3, **values)
    pictures = torch.randint(0, 256, (2, 3, *size_hw), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    shares = probabilities(network, pictures, config)
    top = shares.topk(2, 1).values
    differ = class_rows(network, pictures, config) != shares.argmax(1)
    assert not (differ & (top[:, 0] - top[:, 1] > 1e-6)).any()


@pytest.mark.slow
def test_the_memory_of_a_large_picture_is_bounded():
    command = [sys.executable, "benchmarks/class_scores_memory.py", "--only", "tiles"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # Without the seams, the scores of all classes alone take 1520 MB.
    assert float(done.stdout.split()[-2]) < 1000
