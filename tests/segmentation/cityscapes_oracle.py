"""cityscapesScripts 2.3.0 as the oracle, and label maps with unusual cases."""

import contextlib
import io
from unittest import mock

import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813
from PIL import Image

LABEL_IDS = np.arange(34)
EVALUATED = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33])
WITH_INSTANCES = np.arange(24, 34)


def run_official(triples):
    """The official results of (predicted ids, true ids, instance ids) arrays, as if it read them from files."""
    arrays = {}
    for number, (predicted, true, instances) in enumerate(triples):
        arrays[f"pred{number}"] = predicted
        arrays[f"gt{number}_labelIds"] = true
        arrays[f"gt{number}_instanceIds"] = instances.astype(np.int32)

    def in1d(values, wanted, invert=False):
        # NumPy 2.4 has removed `in1d`, which the script still calls.
        return np.isin(values.ravel(), wanted, invert=invert)

    settings = {"quiet": True, "JSONOutput": False, "evalInstLevelScore": True}
    count = len(triples)
    with (
        mock.patch.multiple(official.args, **settings),
        mock.patch.object(official.np, "in1d", in1d, create=True),
        mock.patch.object(official.Image, "open", lambda name: Image.fromarray(arrays[name])),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        return official.evaluateImgLists(
            [f"pred{n}" for n in range(count)], [f"gt{n}_labelIds" for n in range(count)], official.args
        )


def assert_equal(scores, triples, tolerance=1e-12):
    """Our `SegmentationScores` against the official run of the same images."""
    expected = run_official(triples)
    lists = [
        ("class_ious", "classScores"), ("class_iious", "classInstScores"),
        ("category_ious", "categoryScores"), ("category_iious", "categoryInstScores"),
    ]  # fmt: skip
    means = [("miou", "Classes"), ("iiou", "InstClasses"), ("category_iou", "Categories"),
             ("category_iiou", "InstCategories")]  # fmt: skip
    numbers = scores.as_dict("")
    names, mine, official_ones = [], [], []
    for ours, theirs in lists:
        for name, value in expected[theirs].items():
            got = getattr(scores, ours).get(name)
            names.append(f"{ours} {name}")
            mine.append(np.nan if got is None else got)
            official_ones.append(value)
    for ours, theirs in means:
        names.append(ours)
        mine.append(numbers[ours])
        official_ones.append(expected[f"averageScore{theirs}"])
    mine, official_ones = np.array(mine), np.array(official_ones)
    equal = (np.abs(mine - official_ones) <= tolerance) | (np.isnan(mine) & np.isnan(official_ones))
    assert equal.all(), [(names[k], mine[k], official_ones[k]) for k in np.flatnonzero(~equal)]


def awkward_image(seed, size_hw=None):
    """Predicted ids, true ids and instance ids of one image, with cases that the official script treats in its own way.

    Instances whose label is not that of the label map, groups without instances, ignored labels with instances
    (caravan), ignored labels predicted, classes that never occur, one-pixel instances, instance values of 1000.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw or rng.integers(1, 25, 2)
    vocabulary = LABEL_IDS if rng.random() < 0.5 else rng.choice(EVALUATED, rng.integers(1, 8))
    cell = rng.integers(1, 7)
    true = rng.choice(vocabulary, (-(-height // cell), -(-width // cell)))
    true = np.repeat(np.repeat(true, cell, 0), cell, 1)[:height, :width].astype(np.uint8)
    instances = true.astype(np.int32)
    things = np.isin(true, WITH_INSTANCES) & (rng.random(true.shape) < rng.choice([0, 0.5, 1]))
    numbers = rng.integers(0, rng.choice([1, 3, 40]), true.shape)
    instances[things] = instances[things] * 1000 + numbers[things]
    if rng.random() < 0.3:
        strays = rng.random(true.shape) < 0.1
        instances[strays] = rng.choice(WITH_INSTANCES, strays.sum()) * 1000 + 7
    if rng.random() < 0.2:
        instances[rng.random(true.shape) < 0.05] = rng.choice([1000, 5001])
    predicted = true.copy()
    wrong = rng.random(true.shape) < rng.choice([0, 0.1, 0.6, 1])
    predicted[wrong] = rng.choice(LABEL_IDS if rng.random() < 0.5 else EVALUATED, wrong.sum())
    if rng.random() < 0.2:
        predicted = np.where(np.isin(predicted, [26, 27, 28]), 29 + predicted % 2, predicted).astype(np.uint8)
    return predicted, true, instances
