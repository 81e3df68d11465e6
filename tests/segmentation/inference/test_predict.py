"""Prediction in Python: masks at the size of the original, in the values of the training masks; loading; bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError
from engine.training.checkpoints import save_metadata
from segmentation.inference.inference import Inference, probabilities
from segmentation.inference.predictor import SegmentationPredictor, load
from segmentation.network.model import Segmenter
from tests.segmentation.toys import CLASSES, ByColor, ToyNet


def predict(network, image, **settings):
    return SegmentationPredictor(network).predict(image, **settings)


def predict_many(network, images, **settings):
    return SegmentationPredictor(network).predict_many(images, **settings)


def street(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture in the classes' colours, and its rows."""
    rows = np.zeros((height, width), dtype=np.uint8)
    rows[height // 3 :, : width // 2] = 1
    rows[:, -width // 4 :] = 2
    return np.array(CLASSES.colors, dtype=np.uint8)[rows], rows


@pytest.mark.parametrize("size_hw", [(40, 60), (33, 33), (5, 90), (1, 1), (211, 127)])
@pytest.mark.parametrize("settings", [{}, {"window": 64}, {"window": 96, "overlap": 32, "flip": True}])
def test_masks_lie_on_the_image(size_hw, settings):
    image, rows = street(*size_hw)
    found = predict(ByColor(), image, **settings)
    np.testing.assert_array_equal(found.class_ids, rows)
    np.testing.assert_array_equal(found.label_ids, np.array(CLASSES.label_ids)[rows])
    assert found.class_ids.dtype == np.uint8
    assert found.size_hw == size_hw
    assert found.probabilities is None
    assert found.areas() == {name: int((rows == row).sum()) for row, name in enumerate(CLASSES.names)}


def test_paths_arrays_and_sizes_mix(tmp_path):
    network = ToyNet(4)
    images = [street(50, 70)[0], street(40, 40)[0], street(50, 70)[0][:, ::-1]]
    Image.fromarray(images[1]).save(tmp_path / "a.png")
    found = predict_many(network, [images[0], tmp_path / "a.png", images[2]], batch_size=3)
    for one, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(one.class_ids, predict(network, image).class_ids)
    # The two of one size were computed together.
    assert network.seen[0][0] == 2
    assert predict_many(network, []) == []


def test_probabilities_are_those_of_the_network():
    network, (image, _) = ToyNet(4), street(80, 90)
    found = predict(network, image, probabilities=True, window=64, scales=[1.0, 0.5], batch_size=2)
    assert found.probabilities is not None
    assert found.probabilities.dtype == np.float16
    expected = probabilities(network, image, Inference(window=64, scales=(1.0, 0.5)))
    np.testing.assert_allclose(found.probabilities, expected.numpy(), atol=1e-3)
    np.testing.assert_array_equal(found.class_ids, expected.argmax(0).numpy())


def test_masks_are_saved_whole_or_not_at_all(tmp_path):
    image, _ = street(40, 60)
    found = predict(ByColor(), image)
    found.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "mask.png")), found.label_ids)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]
    with pytest.raises(InputError, match=r"does not end in \.png"):
        found.save(tmp_path / "mask.jpg")
    drawn = found.draw(image, legend=False)
    assert drawn.size == (60, 40)
    np.testing.assert_allclose(np.array(drawn).astype(int), image.astype(int), atol=1)  # its own colours
    with pytest.raises(InputError, match="image is 61x40"):
        found.draw(street(40, 61)[0])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    segmenter = Segmenter("lite0", classes=CLASSES, output_stride=32).eval()
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    content = {"state_dict": {f"segmenter.{key}": value for key, value in segmenter.state_dict().items()}}
    save_metadata(content, "segmentation", segmenter.settings())
    torch.save(content, path)
    return path, segmenter


def test_a_loaded_network_is_the_trained_one(checkpoint):
    path, segmenter = checkpoint
    loaded = load(path)
    assert not loaded.network.training
    assert loaded.classes == CLASSES
    image = np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)
    found = loaded.predict(image, probabilities=True)
    np.testing.assert_array_equal(found.class_ids, predict(segmenter, image).class_ids)
    assert found.size_hw == (70, 101)
    tiled, flipped = loaded.predict_many([image, image[:20]], window=64, flip=True)
    assert (tiled.size_hw, flipped.size_hw) == ((70, 101), (20, 101))


def test_bad_input(checkpoint, tmp_path):
    _, segmenter = checkpoint
    image, _ = street(40, 60)
    with pytest.raises(InputError, match="there is no checkpoint"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(InputError, match="takes a list of images"):
        predict_many(segmenter, image)
    with pytest.raises(InputError, match="float64"):
        predict(segmenter, image / 255)
    with pytest.raises(InputError, match="got list"):
        predict(segmenter, image.tolist())
    with pytest.raises(InputError, match="does not exist"):
        predict(segmenter, tmp_path / "none.png")
    with pytest.raises(InputError, match="batch_size is 0"):
        predict(segmenter, image, batch_size=0)
    with pytest.raises(InputError, match="must be at least 64, twice"):
        predict(segmenter, image, window=40)
    with pytest.raises(InputError, match="scales"):
        predict(segmenter, image, scales=[])
