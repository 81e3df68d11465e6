"""Both answers of one pass equal those of the two separate networks, in pixels of the original image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from detection.data.dataset import collate
from detection.network.postprocess import Postprocess
from detection.prediction.found import Found
from detection.prediction.predictor import DetectionPredictor, found_in
from detection.prediction.predictor import load as load_detector
from engine.errors import InputError
from engine.prediction.canvas import Canvas
from engine.reading.images import Letterbox
from joint.data.batch import JointEvaluationBatch
from joint.network import original as module
from joint.network.original import original_rows
from joint.prediction.found import JointFound
from joint.prediction.predictor import JointPredictor, load
from joint.scores.records import JointRecords
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.inference.segmented import Segmented
from tests.detection.image_files import letterbox_sample
from tests.joint.tiny_network import CANVAS_HW, OBJECTS, SURFACES, tiny_network, write_checkpoint

LOW = {"score_threshold": 0.1}  # random weights give low scores


def predict(network, image, **settings):
    return JointPredictor(network).predict(image, **settings)


def predict_many(network, images, **settings):
    return JointPredictor(network).predict_many(images, **settings)


@pytest.fixture(scope="module")
def network():
    return tiny_network().double()  # so that the order of two scores does not depend on rounding


def picture(size_hw, seed=0):
    """Coarse patches, which look different everywhere."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(patches).resize((size_hw[1], size_hw[0]), Image.Resampling.BICUBIC))


def assert_same_objects(ours, theirs):
    assert len(theirs) > 5
    np.testing.assert_array_equal(ours.category_ids, theirs.category_ids)
    np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)
    np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    assert ours.labels == theirs.labels
    assert ours.size_hw == theirs.size_hw


@pytest.mark.by_default("size_hw0")
@pytest.mark.parametrize("size_hw", [(128, 256), (128, 128)])
def test_the_answers_are_those_of_the_networks_taken_apart(network, size_hw):
    image = picture(size_hw)
    both = predict(network, image, canvas="tight", **LOW)  # so that the segmenter alone sees no more than it
    assert_same_objects(both.found, DetectionPredictor(network.detector).predict(image, canvas="tight", **LOW))
    alone = SegmentationPredictor(network.segmenter).predict(image)
    np.testing.assert_array_equal(both.segmented.class_ids, alone.class_ids)
    assert len(np.unique(alone.class_ids)) > 1
    assert both.segmented.classes == SURFACES


@pytest.mark.by_default("size_hw0-full", "size_hw2-full")
@pytest.mark.parametrize("canvas", ["full", "tight"])
@pytest.mark.parametrize("size_hw", [(90, 300), (200, 70), (31, 33), (128, 200)])
def test_images_of_any_size(network, size_hw, canvas):
    image = picture(size_hw, seed=sum(size_hw))
    both = predict(network, image, canvas=canvas, **LOW)
    assert_same_objects(both.found, DetectionPredictor(network.detector).predict(image, canvas=canvas, **LOW))
    # The mask by hand: the canvas that the detector's letter-box gives, the segmenter alone on it, NumPy back.
    box = Letterbox.fit(size_hw, CANVAS_HW)
    tight_hw = Canvas(CANVAS_HW, (0, 0, 0), 128, "tight").tight_hw(size_hw)
    pixels = np.empty((*(CANVAS_HW if canvas == "full" else tight_hw), 3), dtype=np.uint8)
    pixels[:] = network.fill_color
    height, width = box.scaled_hw
    pixels[:height, :width] = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    with torch.no_grad():
        logits = network.segmenter(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0, :, :height, :width].numpy()
    resized = bilinear(logits, size_hw)
    sure = margin(resized) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(both.segmented.class_ids[sure], resized.argmax(0)[sure])
    assert both.size_hw == both.segmented.size_hw == size_hw


def bilinear(values, size_hw):
    """(K, h, w) to (K, *size_hw): pixels are areas, and beyond the outer centres the border values are repeated."""
    for axis, side in ((1, size_hw[0]), (2, size_hw[1])):
        count = values.shape[axis]
        places = np.clip((np.arange(side) + 0.5) * count / side - 0.5, 0, count - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, count - 1)
        share = (places - low).reshape([-1 if axis == a else 1 for a in range(3)])
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def margin(values):
    first, second = np.sort(values, axis=0)[::-1][:2]
    return first - second


def test_rows_at_the_original_size(monkeypatch):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(5, 32, 64)).astype(np.float32))
    box = Letterbox((45, 100), (32, 64), 0.64, (28, 64))
    whole = original_rows(logits, box)
    assert whole.dtype == torch.uint8
    resized = bilinear(logits[:, :28].double().numpy(), (45, 100))
    sure = margin(resized) > 1e-4
    np.testing.assert_array_equal(whole.numpy()[sure], resized.argmax(0)[sure])
    # Also if few classes fit into memory at a time; of equal values the first class wins.
    logits[3] = logits[1]
    whole = original_rows(logits, box)
    assert not (whole == 3).any()
    assert (whole == 1).any()
    for most in (1, 2 * 45 * 100, 4 * 45 * 100):
        monkeypatch.setattr(module, "_MOST_VALUES", most)
        assert torch.equal(original_rows(logits, box), whole)


def test_an_image_that_fills_the_canvas_is_not_resized():
    logits = torch.randn(4, 32, 64, generator=torch.Generator().manual_seed(0))
    box = Letterbox((20, 64), (32, 64), 1.0, (20, 64))
    assert torch.equal(original_rows(logits, box).long(), logits[:, :20].argmax(0))


@pytest.mark.parametrize("asked", ["detect", "segment"])
def test_a_head_that_is_not_asked_does_nothing(network, asked):
    image = picture((100, 150))
    both = predict(network, image, **LOW)
    calls = []
    heads = {"detect": network.detector.class_head, "segment": network.segmenter.head}
    handles = [head.register_forward_hook(lambda *_, name=name: calls.append(name)) for name, head in heads.items()]
    try:
        one = predict(network, image, **LOW, **{name: name == asked for name in heads})
    finally:
        for handle in handles:
            handle.remove()
    assert calls == [asked]
    if asked == "detect":
        assert one.segmented is None
        assert_same_objects(one.found, both.found)
    else:
        assert one.found is None
        np.testing.assert_array_equal(one.segmented.class_ids, both.segmented.class_ids)
    assert one.size_hw == (100, 150)
    assert one.draw(image).width == 150


def test_many_images_come_back_in_order(network, tmp_path):
    sizes = [(60, 120), (120, 60), (128, 256), (60, 120), (40, 40)]
    images = [picture(size, seed) for seed, size in enumerate(sizes)]
    Image.fromarray(images[1]).save(tmp_path / "second.png")
    given = [images[0], tmp_path / "second.png", *images[2:4], str(tmp_path / "second.png")]
    together = predict_many(network, given, batch_size=3, **LOW)
    assert [one.size_hw for one in together] == [(60, 120), (120, 60), (128, 256), (60, 120), (120, 60)]
    for one, image in zip(together, [*images[:4], images[1]], strict=True):
        alone = predict(network, image, **LOW)
        assert_same_objects(one.found, alone.found)
        np.testing.assert_array_equal(one.segmented.class_ids, alone.segmented.class_ids)


def test_a_batch_on_whole_canvases(network):
    """The predictor's answers are those that validation counts, from the loader's own batch."""
    sizes = [(60, 120), (100, 90)]
    images = [picture(size, seed) for seed, size in enumerate(sizes)]
    boxes = [Letterbox.fit(size, CANVAS_HW) for size in sizes]
    samples = [letterbox_sample(i, box, network.fill_color) for i, box in zip(images, boxes, strict=True)]
    plain = collate(samples)
    config = Postprocess(**LOW)
    predictor = JointPredictor(network, config)
    found = predictor.run([predictor.prepare(image) for image in images])
    detected = found_in(network.detector.detect(plain, config), OBJECTS, boxes)
    for ours, theirs, size_hw in zip(found, detected, sizes, strict=True):
        assert_same_objects(ours.found, theirs)
        assert ours.segmented.size_hw == size_hw
    # As labelled images whose truth is what was found: every pixel is right, and every box is counted.
    all_of = torch.ones(2, dtype=torch.bool)
    masks = torch.full((2, *CANVAS_HW), 255, dtype=torch.uint8)
    truth = [one.segmented.class_ids for one in found]
    ids = torch.arange(2)
    labelled = JointEvaluationBatch(*plain[:3], masks, all_of, all_of, ids, *plain[4:6], truth, [None, None])
    records = JointRecords(OBJECTS, SURFACES)
    with torch.no_grad():
        records.add(network.answer(labelled.detection(), config), labelled)
    present = np.unique(np.concatenate([rows.ravel() for rows in truth]))
    ious = np.array(list(records.masks.scores().to_dict()["class_ious"].values()), dtype=float)
    np.testing.assert_array_equal(ious[present], 1.0)
    named = [np.isin(one.found.category_ids, [7, 30]).sum() for one in found]
    assert len(records.boxes.table().scores) == sum(named)


def test_boxes_are_drawn_over_the_overlay():
    found = Found(
        np.array([[20, 30, 80, 70]], np.float32), np.array([0.9], np.float32), ["car"], np.array([0]), np.array([7]),
        (100, 200),
    )  # fmt: skip
    rows = np.zeros((100, 200), np.uint8)
    rows[:, 100:] = 2
    segmented = Segmented(rows, SURFACES)
    image = np.full((100, 200, 3), 90, np.uint8)
    drawn = np.array(JointFound(found, segmented).draw(image, opacity=0.4))
    tinted = np.array(segmented.draw(image, opacity=0.4))
    assert drawn.shape == tinted.shape
    assert drawn.shape[0] > 100  # the legend
    changed = (drawn != tinted).any(-1)
    assert changed[[30, 70], 50].all()
    assert changed[50, [20, 80]].all()
    assert not changed[35:65, 25:75].any()
    assert not changed[:, 120:].any()
    np.testing.assert_allclose(drawn[50, 50], 0.6 * 90 + 0.4 * np.array(SURFACES.colors[0]), atol=1)
    assert JointFound(found, segmented).draw(image, legend=False).size == (200, 100)


def test_a_checkpoint_comes_back(network, tmp_path):
    path = write_checkpoint(tiny_network(), tmp_path / "joint.ckpt")
    loaded = load(path, fold=False)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key].to(value), value), key
    folded = load(path)
    assert folded.network.folded
    image = picture((128, 256))
    ours, theirs = folded.predict(image, **LOW), loaded.predict(image, **LOW)
    assert len(ours.found) == pytest.approx(len(theirs.found), abs=2)
    assert (ours.segmented.class_ids == theirs.segmented.class_ids).mean() > 0.999
    with pytest.raises(InputError, match="is a joint checkpoint; detection is asked for"):
        load_detector(path)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        ("a.png", {}, "takes a list of images"),
        ([np.zeros((8, 8, 2), np.uint8)], {}, r"got an array of uint8 with shape \(8, 8, 2\)"),
        ([7], {}, "an image is a path, the bytes of a file"),
        ([], {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ([], {"image_size": 16}, "image_size is 16; give at least 32 pixels"),
        ([], {"score_threshold": 1.5}, "score_threshold is 1.5"),
        (["none.png"], {}, "image 'none.png' does not exist"),
    ],
)
def test_wrong_input_gets_a_short_answer(network, images, settings, message):
    with pytest.raises(InputError, match=message):
        predict_many(network, images, **settings)
