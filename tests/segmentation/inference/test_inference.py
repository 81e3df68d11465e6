"""Tiles against the whole image, scales and mirroring against a computation by hand, small images, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.errors import InputError
from engine.reading.images import resize
from segmentation.inference.inference import Inference, answer, class_rows, probabilities
from tests.segmentation.toys import ByColor, ToyNet


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(network, image):
    with torch.no_grad():
        return network(torch.from_numpy(image).permute(2, 0, 1)[None]).softmax(1)[0]


@pytest.mark.parametrize("size_hw", [(150, 230), (97, 64), (64, 65), (64, 300), (130, 131)])
@pytest.mark.parametrize(
    ("radius", "values"),
    [
        (2, {}),  # a margin of 4
        (4, {}),
        (8, {"overlap": 16, "margin": 8}),
        (15, {"overlap": 31}),  # half of 31 is 15
        (7, {"overlap": 20, "margin": 7, "batch": 1}),
        (24, {"overlap": 48, "margin": 24, "batch": 7}),  # a field of 49 pixels, just over the overlap
    ],
)
def test_tiled_equals_whole(size_hw, radius, values):
    values = {"margin": radius} | values if radius == 15 else values
    network, image = ToyNet(radius), picture(*size_hw)
    found = probabilities(network, image, Inference(window=64, **values))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole(network, image), atol=1e-5, rtol=0)


def test_a_field_wider_than_the_margin_shows_only_near_seams():
    network, image = ToyNet(12), picture(64, 256)
    config = Inference(window=64, overlap=16, margin=4)
    wrong = (probabilities(network, image, config) - whole(network, image)).abs().amax((0, 1)) > 1e-4
    assert wrong.any()
    tiling = config.tiling((64, 256), 16)
    for span in tiling.horizontal.spans[1:]:
        wrong[span.start + 4 - 12 : span.start + 12 + 12] = False
    assert not wrong.any()


def test_tiles_are_what_is_computed():
    network = ToyNet(2)
    probabilities(network, picture(100, 150), Inference(window=64, overlap=16, batch=3))
    # Origins at multiples of the stride; the last tiles end with the image.
    assert sorted(set(network.seen)) == [(1, 3, 52, 54), (1, 3, 64, 54), (2, 3, 52, 64), (2, 3, 64, 64)]
    network.seen.clear()
    probabilities(network, picture(64, 40), Inference(window=64))
    assert network.seen == [(1, 3, 64, 40)]


def test_images_beyond_4k_come_in_tiles(monkeypatch):
    network, image = ToyNet(4), picture(130, 200)
    monkeypatch.setattr("segmentation.inference.inference.LARGEST_WHOLE", 130 * 200)
    monkeypatch.setattr("segmentation.inference.inference.LARGE_WINDOW", 64)
    probabilities(network, image)
    assert network.seen == [(1, 3, 130, 200)]
    monkeypatch.setattr("segmentation.inference.inference.LARGEST_WHOLE", 130 * 200 - 1)
    network.seen.clear()
    assert torch.allclose(probabilities(network, image), whole(ToyNet(4), image), atol=1e-5)
    assert max(max(shape[2:]) for shape in network.seen) == 64


@pytest.mark.parametrize("config", [None, Inference(), Inference(window=64), Inference(scales=(0.5, 1.0), flip=True)])
@pytest.mark.parametrize("size_hw", [(90, 130), (9, 20)])
def test_the_rows_are_the_largest_probabilities(config, size_hw):
    network, image = ToyNet(2), picture(*size_hw)
    rows = class_rows(network, image, config)
    assert rows.dtype == torch.uint8
    assert torch.equal(rows, probabilities(network, image, config).argmax(0).to(torch.uint8))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].expand(2, -1, -1, -1)
    assert torch.equal(class_rows(network, batch, config), torch.stack([rows, rows]))
    found = answer(network, batch, config)
    assert torch.equal(found.rows, torch.stack([rows, rows]))
    expected = probabilities(network, image, config).expand(2, -1, -1, -1)
    torch.testing.assert_close(found.logits.softmax(1), expected, atol=1e-6, rtol=1e-5)


def test_a_batch_equals_its_images():
    network = ToyNet(4)
    images = np.stack([picture(90, 120, seed) for seed in range(3)])
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    for config in (Inference(), Inference(window=64, batch=2), Inference(scales=(0.75, 1.0), flip=True)):
        found = probabilities(network, tensor, config)
        assert found.shape == (3, 3, 90, 120)
        single = torch.stack([probabilities(network, image, config) for image in images])
        torch.testing.assert_close(found, single, atol=1e-6, rtol=0)
        torch.testing.assert_close(probabilities(network, tensor[1], config), single[1], atol=1e-6, rtol=0)


def test_scales_and_mirrors_are_averaged():
    network, image = ToyNet(3), picture(96, 128)
    expected = torch.zeros(3, 96, 128)
    for size_hw in ((48, 64), (96, 128), (144, 192)):
        scaled = resize(image, size_hw)
        for mirrored in (False, True):
            one = whole(network, np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled)
            one = one.flip(2) if mirrored else one
            expected += F.interpolate(one[None], (96, 128), mode="bilinear", antialias=True)[0] / 6
    found = probabilities(network, image, Inference(scales=(0.5, 1.0, 1.5), flip=True))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sum(0), torch.ones(96, 128), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 0.77, 1.3, 2.0])
def test_classes_do_not_drift_with_the_scale(scale):
    """An edge in the middle stays there."""
    network = ByColor()
    image = np.empty((40, 1024, 3), dtype=np.uint8)
    image[:, :512], image[:, 512:] = network.classes.colors[0], network.classes.colors[1]
    rows = probabilities(network, image, Inference(scales=(scale,))).argmax(0)
    assert abs(int((rows[20] == 0).sum()) - 512) <= 1


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 200), (32, 32), (33, 31)])
def test_small_images_lie_on_the_fill_color(size_hw):
    network, image = ToyNet(0, stride=32), picture(*size_hw)
    found = probabilities(network, image, Inference(window=64))
    torch.testing.assert_close(found, whole(network, image), atol=1e-6, rtol=0)
    assert min(network.seen[0][2:]) == 33
    corner = ByColor()
    seen = []
    corner.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    probabilities(corner, image)
    assert (seen[0][0, :, size_hw[0] :, :] == 128).all()


def test_half_precision_logits_are_normalised_in_full():
    class Half(ByColor):
        def forward(self, images):
            return super().forward(images).half()

    found = probabilities(Half(), picture(40, 40))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(40, 40))


def test_no_gradient_and_no_change_of_mode():
    network = ToyNet(2).train()
    image = picture(64, 64)[:, :, ::-1]  # a reversed view
    assert not probabilities(network, image).requires_grad
    assert network.training


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scales": ()}, "scales is"),
        ({"scales": (0.01,)}, "from 0.1 to 10"),
        ({"batch": 0}, "batch is 0"),
        ({"window": 1}, "window is 1 px"),
        ({"window": 64, "overlap": 64}, "overlap is 64 px of a window of 64 px"),
        ({"window": 64, "margin": 9}, "margin is 9 px with an overlap of 16 px; allowed are 0 to 8"),
        ({"overlap": 9}, "Give window as well"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(InputError, match=message):
        Inference(**values)


def test_bad_images():
    network = ByColor()
    with pytest.raises(InputError, match=r"got an array of uint8 with shape \(4, 4, 2\)"):
        probabilities(network, np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(InputError, match="float32"):
        probabilities(network, torch.zeros(3, 40, 40))
    with pytest.raises(InputError, match=r"twice the network's stride"):
        probabilities(network, picture(100, 100), Inference(window=63))
