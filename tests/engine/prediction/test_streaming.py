"""Images of any shapes come from the processes of a loader as they were prepared, with few files open."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from engine.prediction.canvas import Canvas
from engine.prediction.predictor import Predictor
from engine.prediction.sources import SourceFile
from engine.prediction.streaming import SourceImages, collate_sources
from engine.reading.reader import PixelReader

SIZES = [(20, 30), (64, 10), (40, 40), (20, 30), (33, 64)]
CANVAS = Canvas((64, 96), (9, 8, 7), 32, "tight")


@pytest.fixture
def files(tmp_path):
    sources = []
    for number, size in enumerate(SIZES):
        image = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        sources.append(SourceFile(tmp_path / f"{number}.png", "image"))
    return [*sources, SourceFile(tmp_path / "v.mp4", "video")]


class Means(Predictor):
    """Answers with the mean colour of an image, and the number of images that were computed with it."""

    prepare = CANVAS

    def compute(self, images, samples):
        assert images.shape[1] == 3
        return [(image.float().mean((1, 2)).tolist(), len(samples)) for image in images]


def test_workers_hand_over_what_was_prepared(files):
    left = [5, 0, 1, 3, 4]  # in another order, and one is finished
    images = SourceImages(files, left, PixelReader(), CANVAS)
    loaders = [DataLoader(images, 3, num_workers=workers, collate_fn=collate_sources) for workers in (0, 2)]
    for here, there in zip(*loaders, strict=True):
        assert here.indices == there.indices
        assert here.unread == there.unread
        for mine, theirs in zip(here.samples, there.samples, strict=True):
            assert torch.equal(mine.image, theirs.image)
            assert mine.letterbox == theirs.letterbox
    assert (here.indices, here.unread) == ([3, 4], [])


def test_images_of_one_shape_travel_as_one_tensor(files):
    batch = collate_sources([SourceImages(files, range(5), PixelReader(), CANVAS)[number] for number in range(5)])
    again = pickle.loads(pickle.dumps(batch))
    shapes = {tuple(sample.image.shape) for sample in batch.samples}
    assert len({sample.image.untyped_storage().data_ptr() for sample in again.samples}) == len(shapes) < 5
    for mine, theirs in zip(batch.samples, again.samples, strict=True):
        assert torch.equal(mine.image, theirs.image)


def test_answers_come_in_the_order_of_the_images(files):
    predictor = Means(torch.nn.Linear(1, 1))
    images = SourceImages(files, range(5), PixelReader(), CANVAS)
    samples = [sample for _, sample in (images[number] for number in range(5))]
    answers = predictor.run(samples)
    for sample, (mean, _) in zip(samples, answers, strict=True):
        np.testing.assert_allclose(mean, sample.image.numpy().reshape(-1, 3).mean(0), rtol=1e-5)
    shapes = [tuple(sample.image.shape) for sample in samples]
    assert [count for _, count in answers] == [shapes.count(shape) for shape in shapes]
    assert predictor.run([]) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_named_beside_the_others(files, tmp_path, num_workers):
    (tmp_path / "1.png").write_bytes(b"nothing")
    images = SourceImages(files, range(6), PixelReader(), CANVAS)
    loader = DataLoader(images, 3, num_workers=num_workers, collate_fn=collate_sources)
    batches = list(loader)
    assert [batch.indices for batch in batches] == [[0, 2], [3, 4]]
    assert [batch.unread for batch in batches] == [[], [5]]
    assert [list(batch.failed) for batch in batches] == [[1], []]
    assert batches[0].failed[1].startswith(f"cannot read image '{tmp_path / '1.png'}'")
