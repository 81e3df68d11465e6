"""Rasters on disk give the same results as images in memory, for any tiles, and need memory only for the seams."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from engine.errors import InputError
from engine.large.tiling import Tiling
from engine.reading.options import Reading
from engine.reading.raster_file import Georeference, Pixels
from segmentation.data.classes import MaskClasses
from segmentation.inference.inference import Inference, probabilities
from segmentation.inference.predictor import SegmentationPredictor
from segmentation.large import rasters
from segmentation.large.raster_blend import Seams, blended_rows
from segmentation.large.rasters import DEFAULT_WINDOW, empty_value

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
CLASSES = MaskClasses(
    ("sea", "land", "wood", "town"), (3, 10, 20, 7), ((0, 0, 200), (200, 180, 0), (0, 90, 0), (200, 0, 0))
)


class Toy(nn.Module):
    """A network of receptive radius 6 whose classes are all found in noise."""

    fill_color = (120, 110, 100)
    reading = Reading()
    stride = 32
    classes = CLASSES

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 8, 7, padding=3)
        self.second = nn.Conv2d(8, len(CLASSES), 7, padding=3)
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape))
        return self.second(torch.relu(self.first(images.float() / 64 - 2))) * 3


def segment_raster(network, source, output, inference=None, **options):
    return rasters.segment_raster(SegmentationPredictor(network, inference or Inference()), source, output, **options)


@pytest.fixture
def network():
    return Toy().eval()


def write(path, image, **options):
    shape = {"count": image.shape[2], "height": image.shape[0], "width": image.shape[1], "dtype": image.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    return path


def noise(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


class Memory:
    """Pixels that are in memory already."""

    def __init__(self, image, valid=None):
        self.image, self.valid, self.size_hw, self.georeference = image, valid, image.shape[:2], Georeference()
        self.threads = set()

    def read(self, rows, columns):
        self.threads.add(threading.get_ident())
        return Pixels(self.image[rows, columns], None if self.valid is None else self.valid[rows, columns])


@pytest.mark.by_default(
    "Inference(window=256, overlap=64, margin=16, scales=(1.0,), flip=True, batch=4)",
    "Inference(window=192, overlap=128, margin=8, scales=(1.0,), flip=False, batch=4)",
    "Inference(window=4096, overlap=None, margin=None, scales=(1.0,), flip=False, batch=4)",
)
@pytest.mark.parametrize(
    "config",
    [
        Inference(window=256, overlap=64, margin=16),
        Inference(window=256, overlap=64, margin=16, flip=True, scales=(1.0,)),
        Inference(window=192, overlap=128, margin=8),  # more than two tiles meet
        Inference(window=192, overlap=0, margin=0),
        Inference(window=4096),
    ],
    ids=str,
)
def test_as_in_memory(tmp_path, network, config):
    image = noise(700, 900)
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5300000, 2, 2)}
    source = write(tmp_path / "in.tif", image, tiled=True, blockxsize=128, blockysize=128, **place)
    result = segment_raster(
        network, source, tmp_path / "out" / "labels.tif", config, probabilities=True, progress=False
    )
    expected = probabilities(network, image, config)
    class_ids = expected.argmax(0).numpy().astype(np.uint8)
    with rasterio.open(result.labels) as dataset:
        labels = dataset.read(1)
        assert (dataset.crs.to_epsg(), dataset.transform) == (32632, place["transform"])
        assert dataset.nodata == 255
        assert {value: dataset.colormap(1)[value][:3] for value in CLASSES.label_ids} == dict(
            zip(CLASSES.label_ids, CLASSES.colors, strict=True)
        )
        assert dataset.tags()["class_20"] == "wood"
    # Sums in another order may differ in the last bit, which decides if two classes are equally probable.
    top = expected.topk(2, dim=0).values
    differ = labels != CLASSES.label_by_class[class_ids]
    assert not (differ & (top[0] - top[1] > 1e-5).numpy()).any()
    with rasterio.open(result.probabilities) as dataset:
        assert np.abs(dataset.read() / 255 - expected.numpy()).max() < 0.5 / 255 + 1e-5
        assert dataset.tags()["class_3"] == "wood"
    assert result.areas == {
        name: int((labels == label).sum()) for name, label in zip(CLASSES.names, CLASSES.label_ids, strict=True)
    }
    assert sum(result.areas.values()) == 630_000
    assert (result.nodata_pixels, result.size_hw, result.pixel_area_m2) == (0, (700, 900), 4.0)
    with Image.open(result.overview) as picture:
        assert picture.width == 900
        assert picture.height > 700  # a legend
    assert sorted(path.name for path in result.labels.parent.iterdir()) == [
        "labels.tif", "labels_overview.jpg", "labels_probabilities.tif",
    ]  # fmt: skip


def test_as_whole_where_the_margin_covers_the_receptive_field(tmp_path, network):
    image = noise(700, 900)
    config = Inference(window=256, overlap=64, margin=12)
    tiling = config.tiling((700, 900), network.stride)
    seams = Seams(tiling, len(CLASSES), torch.device("cpu"))
    whole = probabilities(network, image)
    total = torch.full_like(whole, torch.nan)
    for tile in tiling:
        part = probabilities(network, np.ascontiguousarray(image[tile.rows, tile.columns]))
        final, rows, columns = seams.add(tile, part)
        assert total[:, rows, columns].isnan().all(), "handed out twice"
        total[:, rows, columns] = final
    assert (total - whole).abs().max() < 1e-5


@st.composite
def tilings(draw):
    align = draw(st.sampled_from([1, 8]))
    window = draw(st.integers(2 * align, 90))
    overlap = draw(st.integers(0, window - align))
    size_hw = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    return Tiling(size_hw, window, overlap, draw(st.integers(0, overlap // 2)), align)


@settings(max_examples=30, deadline=None)
@given(tilings())
def test_seams_are_the_sum_and_no_larger_than_the_overlap(tiling):
    if len(tiling) > 60:
        return
    generator = torch.Generator().manual_seed(0)
    seams, expected = Seams(tiling, 2, torch.device("cpu")), torch.zeros(2, *tiling.size_hw)
    got = torch.full_like(expected, torch.nan)
    spans = tiling.vertical.spans
    shared = max((a.stop - b.start - 2 * tiling.margin for a, b in pairwise(spans)), default=0)
    for tile in tiling:
        part = torch.rand(2, *tile.size_hw, generator=generator)
        expected[:, tile.rows, tile.columns] += part * torch.from_numpy(tiling.weights(tile))
        final, rows, columns = seams.add(tile, part)
        got[:, rows, columns] = final
        held = [value for value in vars(seams).values() if isinstance(value, torch.Tensor)]
        assert sum(value.untyped_storage().nbytes() for value in held) <= 8 * (
            shared * tiling.size_hw[1] + tiling.window**2
        )
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_reading_runs_ahead_but_not_far(network):
    """The memory does not grow with the raster."""
    image = noise(640, 640)
    pixels = Memory(image)
    asked = []
    read = pixels.read
    pixels.read = lambda rows, columns: asked.append(rows) or read(rows, columns)
    config = Inference(window=64, overlap=0, margin=0)
    done = []
    tiling = config.tiling((640, 640), 32)
    strips = blended_rows(SegmentationPredictor(network, config), pixels, tiling, workers=2, on_tiles=done.append)
    first = next(strips)
    assert first.class_ids.shape == (64, 640)
    assert sum(done) == 10
    assert 10 < len(asked) <= 10 + 6
    strips.close()
    assert len(asked) <= 10 + 6 + 2
    assert threading.get_ident() not in pixels.threads


def test_pixels_without_data(tmp_path, network):
    image = noise(300, 520)
    image[image == 0] = 1
    image[:260, :200] = 0
    image[290:, 500:] = 0
    empty = (image == 0).all(2)
    source = write(tmp_path / "in.tif", image, nodata=0)
    config = Inference(window=128, overlap=32)
    result = segment_raster(network, source, tmp_path / "out.tif", config, probabilities=True, progress=False)
    with rasterio.open(result.labels) as dataset:
        labels = dataset.read(1)
    np.testing.assert_array_equal(labels == 255, empty)
    assert result.nodata_pixels == empty.sum()
    assert sum(result.areas.values()) == (~empty).sum()
    with rasterio.open(result.probabilities) as dataset:
        shares = dataset.read()
    assert not shares[:, empty].any()
    assert (shares[:, ~empty].sum(0) > 250).all()
    # The network sees its mean colour there, and is not asked about tiles that hold nothing.
    filled = np.where(empty[..., None], np.array(network.fill_color, dtype=np.uint8), image)
    expected = probabilities(network, filled, config).argmax(0).numpy().astype(np.uint8)
    assert (labels == CLASSES.label_by_class[expected])[~empty].mean() > 0.9999
    network.sizes.clear()
    segment_raster(network, source, tmp_path / "again.tif", config, overview=False, progress=False)
    assert 0 < len(network.sizes) < len(config.tiling((300, 520), 32))


def test_a_raster_without_any_data(tmp_path, network):
    source = write(tmp_path / "in.tif", np.zeros((200, 300, 3), dtype=np.uint8), nodata=0)
    result = segment_raster(network, source, tmp_path / "out.tif", Inference(window=128), progress=False)
    assert result.nodata_pixels == 60_000
    assert not any(result.areas.values())
    assert network.sizes == []


def test_the_value_of_no_data_is_no_class():
    assert empty_value(CLASSES) == 255
    assert empty_value(MaskClasses(("a", "b"), (0, 255))) == 254


def test_255_may_be_a_class(tmp_path, network):
    network.classes = MaskClasses(CLASSES.names, (255, 0, 1, 254))
    image = noise(100, 100)
    image[:10] = 0
    source = write(tmp_path / "in.tif", image, nodata=0)
    result = segment_raster(network, source, tmp_path / "out.tif", progress=False)
    with rasterio.open(result.labels) as dataset:
        assert dataset.nodata == 253
        labels = dataset.read(1)
    assert (labels[:10] == 253).all()
    assert not (labels[10:] == 253).any()
    assert (labels == 255).sum() == result.areas["sea"] > 0


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 700), (33, 40), (513, 512), (90, 1025)])
def test_every_size(tmp_path, network, size_hw):
    image = noise(*size_hw)
    result = segment_raster(network, write(tmp_path / "in.tif", image), tmp_path / "out.tif", progress=False)
    config = Inference(window=DEFAULT_WINDOW)
    with rasterio.open(result.labels) as dataset:
        labels = dataset.read(1)
    assert labels.shape == size_hw
    expected = CLASSES.label_by_class[probabilities(network, image, config).argmax(0).numpy().astype(np.uint8)]
    assert (labels == expected).mean() > 0.9999


def test_16_bits(tmp_path, network):
    image = noise(150, 200)
    source = write(tmp_path / "in.tif", image.astype(np.uint16) * 10)
    plain = write(tmp_path / "plain.tif", image)
    for path, options in ((source, {"value_range": (0, 2550)}), (plain, {})):
        segment_raster(network, path, tmp_path / f"out_{path.name}", progress=False, **options)
    with rasterio.open(tmp_path / "out_in.tif") as one, rasterio.open(tmp_path / "out_plain.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
    with pytest.raises(InputError, match="uint16 values"):
        segment_raster(network, source, tmp_path / "bad.tif", progress=False)
    assert not (tmp_path / "bad.tif").exists()


def test_a_slide(tmp_path, network):
    pytest.importorskip("openslide")
    image = noise(600, 700)
    source = write(tmp_path / "in.tif", image, tiled=True, blockxsize=256, blockysize=256, interleave="pixel",
                   photometric="RGB")  # fmt: skip
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(TIFFTAG_XRESOLUTION="20000", TIFFTAG_YRESOLUTION="20000", TIFFTAG_RESOLUTIONUNIT="3")
    result = segment_raster(network, source, tmp_path / "out.tif", Inference(window=256), mpp=1.0, progress=False)
    assert result.size_hw == (300, 350)
    assert result.pixel_area_m2 == pytest.approx(1e-12)
    with rasterio.open(result.labels) as dataset:
        assert dataset.shape == (300, 350)
        assert float(dataset.tags()["TIFFTAG_XRESOLUTION"]) == 10_000
    with Image.open(result.overview) as picture:
        assert picture.width == 350


def test_bad_calls(tmp_path, network):
    source = write(tmp_path / "in.tif", noise(100, 100))
    for output, options, message in (
        ("in.tif", {}, "overwritten by its own result"),
        ("out.png", {}, "does not end in .tif"),
        ("out.tif", {"workers": 0}, "workers is 0"),
        ("out.tif", {"bands": (1, 2, 5)}, "has no band 5"),
        ("out.tif", {"inference": Inference(window=40)}, "window is 40 px; it must be at least 64"),
        ("in.tif/out.tif", {}, "cannot write"),
    ):
        with pytest.raises(InputError, match=message):
            segment_raster(network, source, tmp_path / output, progress=False, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_a_raster_that_is_damaged_in_the_middle_leaves_nothing(tmp_path, network):
    source = write(tmp_path / "in.tif", noise(900, 300))
    source.write_bytes(source.read_bytes()[:500_000])
    before = set(threading.enumerate())  # of other tests of this process
    with pytest.raises(InputError, match="cannot read raster"):
        segment_raster(network, source, tmp_path / "out.tif", Inference(window=128), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]
    assert not set(threading.enumerate()) - before


def test_a_failing_network_leaves_nothing(tmp_path, network):
    source = write(tmp_path / "in.tif", noise(300, 300))
    network.forward = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        segment_raster(network, source, tmp_path / "out.tif", Inference(window=128), probabilities=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]
