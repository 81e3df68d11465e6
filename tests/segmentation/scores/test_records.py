"""Records of an evaluation: no image twice, the same bits from one process and from several."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.data.classes import MaskClasses
from segmentation.scores.records import SegmentationRecords
from tests.segmentation.cityscapes_oracle import awkward_image

IMAGES = 25  # divides by neither 2 nor 3


def evaluate(indices):
    """Records of Cityscapes rows with instance maps and boundaries."""
    records = SegmentationRecords(CITYSCAPES, cityscapes=True, boundary=2)
    rows = CITYSCAPES.class_by_label
    for index in indices:
        predicted, true, instances = awkward_image(int(index), (24, 30))
        records.add(int(index), rows[predicted], rows[true], instances)
    return records


def bits(records):
    """Every digit of the scores."""
    scores = records.scores().to_dict()
    return [list(records.indices), json.loads(json.dumps(scores))]


def test_order_and_repeats_play_no_part():
    once = bits(evaluate(range(IMAGES)))
    assert bits(evaluate([*range(IMAGES), 3, 0, 7, 3])) == once
    assert bits(evaluate(np.random.default_rng(0).permutation(IMAGES))) == once
    assert bits(evaluate(range(IMAGES - 1))) != once


def test_the_mean_boundary_score_is_over_the_images_that_have_the_class():
    classes = MaskClasses(("a", "b", "c"))
    left, right, one = np.zeros((3, 4, 8), np.uint8)
    left[:, :4], right[:, 4:] = 1, 1
    shifted = np.roll(left, 1, 1)
    shifted[:, 0] = 1  # the edge is at column 5 instead of 4
    records = SegmentationRecords(classes, boundary=1)
    records.add(0, left, left)
    records.add(1, one, left)
    records.add(2, one, one)  # no boundary at all
    assert records.scores().boundary_fs == {"a": 0.5, "b": 0.5, "c": None}
    records.add(3, shifted, left)
    assert records.scores().boundary_fs == {"a": 2 / 3, "b": 2 / 3, "c": None}
    assert len(records) == 4


def test_the_confusion_of_a_set_is_the_sum_over_its_images():
    records = evaluate(range(IMAGES))
    parts = [evaluate([index]).scores().confusion for index in range(IMAGES)]
    np.testing.assert_array_equal(records.scores().confusion, sum(parts))
    assert records.scores().confusion.sum() > 0


def test_empty_instance_maps_stand_for_none():
    rows = np.zeros((4, 4), np.uint8)
    records = SegmentationRecords(CITYSCAPES, cityscapes=True)
    records.add(0, rows, rows, np.empty((0, 0), np.int32))
    assert records.scores().class_iious == {}


def test_what_cannot_be_counted():
    with pytest.raises(InputError, match="boundary tolerance is -1"):
        SegmentationRecords(CITYSCAPES, boundary=-1)
    records = SegmentationRecords(CITYSCAPES)
    with pytest.raises(ValueError, match="has row 19, but there are 19 classes"):
        records.add(0, np.zeros((2, 2), np.uint8), np.full((2, 2), 19, np.uint8))
    assert len(records) == 0


def run_process(rank, world, folder):
    """One process of an evaluation; its share comes from the sampler that pads by repeating images."""
    import torch.distributed as dist
    from torch.utils.data import DistributedSampler

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    sampler = DistributedSampler(range(IMAGES), world, rank, shuffle=False, drop_last=False)
    Path(folder, f"{world}_{rank}.json").write_text(json.dumps(bits(evaluate(sampler).gather())))
    dist.destroy_process_group()


@pytest.mark.by_default("3")
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_give_bit_identical_numbers(world, tmp_path):
    import torch.multiprocessing

    alone = bits(evaluate(range(IMAGES)).gather())
    multiprocessing.set_forkserver_preload(["torch.distributed"])  # PyTorch is loaded once, not by each process
    torch.multiprocessing.start_processes(run_process, (world, str(tmp_path)), nprocs=world, start_method="forkserver")
    for rank in range(world):
        assert json.loads((tmp_path / f"{world}_{rank}.json").read_text()) == alone
