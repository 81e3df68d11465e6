"""Records of an evaluation: no image twice, the same numbers from one process and from several."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from detection.scores.metric import evaluate_boxes
from detection.scores.records import DetectionRecords
from detection.scores.score import score
from engine.errors import InputError


def detector(image_ids, slots=6):
    """A stand-in network: what it finds depends on the image alone, and some images hold nothing."""
    boxes, scores, category_ids, valid = [], [], [], []
    for image_id in image_ids:
        rng = np.random.default_rng(int(image_id))
        corner = rng.uniform(0, 80, (slots, 2)).astype(np.float32)
        boxes.append(np.concatenate([corner, corner + rng.uniform(5, 60, (slots, 2)).astype(np.float32)], 1))
        scores.append((rng.integers(0, 4, slots) / 4).astype(np.float32))
        category_ids.append(rng.integers(1, 3, slots))
        valid.append(np.arange(slots) < rng.integers(0, slots + 1))
    return np.array(boxes), np.array(scores), np.array(category_ids), np.array(valid)


def truth_for(image_ids):
    """Objects that the detector above finds approximately."""
    boxes, _, category_ids, valid = detector(image_ids)
    annotations = []
    for row, image_id in enumerate(image_ids):
        rng = np.random.default_rng(int(image_id) + 1)
        for slot in np.flatnonzero(valid[row])[::2]:
            x1, y1, x2, y2 = (boxes[row, slot] + rng.uniform(-4, 4, 4)).tolist()
            bbox = [x1, y1, x2 - x1, y2 - y1]
            entry = {"image_id": int(image_id), "category_id": int(category_ids[row, slot]), "bbox": bbox}
            annotations.append({"id": len(annotations) + 1, **entry})
    images = [{"id": int(i)} for i in image_ids]
    return {
        "images": images,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": annotations,
    }


IMAGE_IDS = np.random.default_rng(0).permutation(np.arange(25) * 17 + 3)  # 25 divides by neither 2 nor 3


def evaluate_in_batches(positions, batch_size):
    records = DetectionRecords()
    for start in range(0, len(positions), batch_size):
        ids = IMAGE_IDS[positions[start : start + batch_size]]
        records.add(ids, *detector(ids))
    return records


def test_records_equal_the_entries_one_by_one():
    records = evaluate_in_batches(np.arange(25), 4)
    expected = []
    for image_id in sorted(IMAGE_IDS.tolist()):
        boxes, scores, category_ids, valid = (column[0] for column in detector([image_id]))
        for slot in np.flatnonzero(valid):
            x1, y1, x2, y2 = map(float, boxes[slot])
            entry = {"image_id": image_id, "category_id": int(category_ids[slot]), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            expected.append({**entry, "score": float(scores[slot])})
    assert records.as_results() == expected
    assert records.image_ids.tolist() == sorted(IMAGE_IDS.tolist())


def test_repeats_of_an_image_are_dropped():
    once = evaluate_in_batches(np.arange(25), 4)
    again = evaluate_in_batches(np.r_[np.arange(25), 3, 0, 7, 3], 4)
    assert again.as_results() == once.as_results()


def test_results_file_scores_as_the_records(tmp_path):
    records = evaluate_in_batches(np.arange(25), 4)
    truth, results = tmp_path / "gt.json", tmp_path / "deep" / "detections.json"
    truth.write_text(json.dumps(truth_for(IMAGE_IDS)))
    records.write_results(results)
    expected = evaluate_boxes(truth, records.table())
    assert 0.2 < expected.ap50 < 1
    assert score(truth, results) == expected
    empty = DetectionRecords()
    empty.write_results(results)
    assert score(truth, results).ap == 0
    empty.add(np.array([3]), np.full((1, 1, 4), np.nan), np.ones((1, 1)), np.ones((1, 1), np.int64))
    with pytest.raises(InputError, match=r"detections\[0\] has a number that is not finite"):
        empty.write_results(results)
    assert json.loads(results.read_text()) == []


def test_records_refuse_shapes_that_do_not_fit():
    boxes, scores, category_ids, valid = detector([1, 2])
    with pytest.raises(ValueError, match="do not fit"):
        DetectionRecords().add(np.array([1]), boxes, scores, category_ids, valid)
    with pytest.raises(ValueError, match="do not fit"):
        DetectionRecords().add(np.array([1, 2]), boxes, scores, category_ids[:, :2], valid)


def run_process(rank, world, folder):
    """One process of an evaluation; its share comes from the sampler that pads by repeating images."""
    import torch.distributed as dist
    from torch.utils.data import DistributedSampler

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    sampler = DistributedSampler(IMAGE_IDS, world, rank, shuffle=False, drop_last=False)
    records = evaluate_in_batches(np.array(list(sampler)), 4).gather()
    scores = evaluate_boxes(Path(folder) / "gt.json", records.table(), image_ids=records.image_ids)
    Path(folder, f"{world}_{rank}.json").write_text(json.dumps([records.as_results(), scores.twelve, scores.per_class]))
    dist.destroy_process_group()


@pytest.mark.by_default("3")
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_give_bit_identical_numbers(world, tmp_path):
    import torch.multiprocessing

    truth = tmp_path / "gt.json"
    truth.write_text(json.dumps(truth_for(IMAGE_IDS)))
    alone = evaluate_in_batches(np.arange(25), 4)
    scores = evaluate_boxes(truth, alone.table())
    multiprocessing.set_forkserver_preload(["torch.distributed"])  # PyTorch is loaded once, not by each process
    torch.multiprocessing.start_processes(run_process, (world, str(tmp_path)), nprocs=world, start_method="forkserver")
    for rank in range(world):
        written = json.loads((tmp_path / f"{world}_{rank}.json").read_text())
        assert written == [alone.as_results(), scores.twelve, scores.per_class]
