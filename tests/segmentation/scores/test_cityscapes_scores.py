"""The Cityscapes scores against cityscapesScripts itself."""

import numpy as np
import pytest

from engine.errors import InputError
from segmentation.data.cityscapes.labels import CITYSCAPES, LABELS
from segmentation.data.classes import MaskClasses
from segmentation.scores.cityscapes_scores import CATEGORIES, INSTANCE_CATEGORIES, MEAN_AREAS, instance_sums
from segmentation.scores.records import ImageCounter, SegmentationRecords
from tests.segmentation.cityscapes_oracle import assert_equal, awkward_image, official


def scores_of(triples):
    records = SegmentationRecords(CITYSCAPES, cityscapes=True)
    for index, triple in enumerate(triples):
        records.put(index, records.counter.of_ids(*triple))
    return records.scores()


@pytest.mark.slow
def test_a_thousand_images_equal_the_official_scores_one_by_one():
    for seed in range(1000):
        triple = awkward_image(seed)
        assert_equal(scores_of([triple]), [triple])


def test_sets_of_images_equal_the_official_scores():
    for start in range(0, 1000, 50):
        triples = [awkward_image(seed) for seed in range(start, start + 50)]
        assert_equal(scores_of(triples), triples)


def test_the_fuzz_meets_what_it_is_for():
    triples = [awkward_image(seed) for seed in range(1000)]
    scores = [scores_of([triple]) for triple in triples]
    assert sum(score.category_iious["vehicle"] is None for score in scores) > 100
    assert sum(0 < (score.category_iious["vehicle"] or 0) < 1 for score in scores) > 100
    assert sum(0 < (score.category_iious["human"] or 0) < 1 for score in scores) > 100
    assert any(np.isnan(score.miou) for score in scores)
    assert sum((triple[2] == 1000).any() for triple in triples) > 10
    caravans = [(triple[0] == 29).any() and (triple[2] // 1000 == 29).any() for triple in triples]
    assert sum(caravans) > 10


@pytest.mark.parametrize("seed", range(40))
def test_rows_with_all_ignored_labels_as_one_give_the_same_scores(seed):
    # What training-time validation holds: rows, 255 for every label that is ignored, and the instance map.
    predicted, true, instances = awkward_image(seed, (40, 40))
    predicted = np.array(CITYSCAPES.label_ids, np.uint8)[predicted % 19]
    rows = CITYSCAPES.class_by_label
    records = SegmentationRecords(CITYSCAPES, cityscapes=True)
    records.add(0, rows[predicted], rows[true], instances)
    assert_equal(records.scores(), [(predicted, true, instances)])


def test_the_definitions_are_the_official_ones():
    theirs = [label for label in official.labels if label.id >= 0]
    assert [(x.name, x.label_id, x.category, x.has_instances, x.ignored, x.color) for x in LABELS] == [
        (x.name, x.id, x.category, x.hasInstances, x.ignoreInEval, x.color) for x in theirs
    ]
    assert official.args.avgClassSize == MEAN_AREAS
    assert set(CATEGORIES) == {x.category for x in theirs} - {"void"}
    assert set(INSTANCE_CATEGORIES) == set(official.generateInstanceStats(official.args)["categories"])


def test_a_perfect_prediction_scores_one_and_absent_classes_nothing():
    true = np.repeat(np.array([[7, 24, 26, 0]], np.uint8), 4, 0)
    instances = true.astype(np.int32)
    instances[true == 24], instances[true == 26] = 24001, 26000
    scores = scores_of([(true, true, instances)])
    assert (scores.miou, scores.pixel_accuracy, scores.mean_accuracy) == (1, 1, 1)
    assert scores.class_ious["road"] == scores.class_iious["person"] == scores.category_iious["vehicle"] == 1
    assert scores.class_ious["bus"] is scores.class_iious["road"] is scores.category_ious["sky"] is None


def test_without_instance_maps_there_is_no_iiou():
    predicted, true, _ = awkward_image(3, (30, 30))
    scores = scores_of([(predicted, true)])
    assert scores.class_iious == scores.category_iious == {}
    assert "iiou" not in scores.as_dict("")


def test_an_instance_map_for_some_images_only_is_refused():
    with pytest.raises(InputError, match="1 of 2 images have no instance map, such as number 1"):
        scores_of([awkward_image(0), awkward_image(1)[:2]])


@pytest.mark.parametrize(
    ("value", "message"), [(7001, "'road', which has no instances"), (34000, "34 is no label"), (65535, "65 is no")]
)
def test_instance_maps_that_cannot_be(value, message):
    ids = np.full((3, 3), 26, np.uint8)
    with pytest.raises(InputError, match=message):
        instance_sums(ids, np.full((3, 3), value, np.uint16))
    with pytest.raises(ValueError, match="do not fit"):
        instance_sums(ids, np.zeros((3, 4), np.int32))


def test_ids_and_rows_that_cannot_be():
    counter = ImageCounter(CITYSCAPES, cityscapes=True)
    good, bad = np.zeros((2, 2), np.uint8), np.full((2, 2), 34, np.uint8)
    for pair in [(good, bad), (bad, good)]:
        with pytest.raises(ValueError, match="beyond 33"):
            counter.of_ids(*pair)
        with pytest.raises(ValueError, match="beyond 33"):
            counter.of_rows(*pair)
    with pytest.raises(InputError, match="of its own 19 classes, and this class list of 2 is another"):
        ImageCounter(MaskClasses(("a", "b")), cityscapes=True)
