"""Pictures too large to compute whole are decoded and computed piece by piece, with the pixels that Pillow gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.large.opening import open_raster
from engine.reading.images import read_image, resize
from engine.reading.options import Reading
from engine.reading.reader import PixelReader
from segmentation.prediction import kinds
from segmentation.prediction.kinds import kind_of

pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(5)
TURNED = Image.Exif()
TURNED[0x0112] = 6
FORMS = [
    ("a.png", {}),
    ("a.jpg", {"quality": 90}),
    ("b.jpg", {"quality": 90, "progressive": True}),
    ("c.jpg", {"quality": 75, "subsampling": 0}),
    ("d.jpg", {"exif": TURNED}),
    ("a.webp", {"lossless": True}),
    ("a.tif", {"compression": "tiff_lzw"}),
    ("b.tif", {"compression": "jpeg", "quality": 90}),
    ("a.jp2", {}),
    ("b.jp2", {"irreversible": True, "quality_mode": "rates", "quality_layers": [20]}),
]


def photo(height, width):
    return Image.fromarray(resize(RNG.integers(0, 256, (height // 9, width // 9, 3), dtype=np.uint8), (height, width)))


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_pieces_are_the_pixels_of_the_whole(tmp_path, name, options):
    photo(300, 420).save(tmp_path / name, **options)
    whole, source = read_image(tmp_path / name), open_raster(tmp_path / name)
    assert source.size_hw == whole.shape[:2]
    for top in range(0, source.size_hw[0], 70):
        rows, columns = slice(top, min(top + 70, source.size_hw[0])), slice(top // 3, top // 3 + 120)
        np.testing.assert_array_equal(source.read(rows, columns).image, whole[rows, columns])
    assert source.picture((30, 40)).shape == (30, 40, 3)
    source.close()


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_only_large_ones(tmp_path, monkeypatch, name, options):
    photo(90, 120).save(tmp_path / name, **options)
    assert kind_of(tmp_path / name) == "image"
    monkeypatch.setattr(kinds, "LARGEST_IMAGE", 90 * 120 - 1)
    assert kind_of(tmp_path / name) == "raster"


def test_16_bits(tmp_path):
    grey = RNG.integers(0, 4096, (90, 120), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    for reading in (Reading(), Reading(value_range=(0, 4095)), Reading((3, 2, 1), (0, 4095))):
        source = open_raster(tmp_path / "a.png", usual=reading)
        np.testing.assert_array_equal(
            source.read(slice(5, 9), slice(0, 120)).image, PixelReader(reading)(tmp_path / "a.png")[5:9]
        )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory")
@pytest.mark.parametrize(("name", "each"), [("a.png", 0), ("a.jpg", 6)])  # bytes of a pixel: decoded, and as an array
def test_memory_is_bounded(tmp_path, name, each):
    """42 million pixels: 126 MB of RGB; their 19 classes would take 3.2 GB."""
    photo(6000, 7000).save(tmp_path / name)
    checkpoint = Path(__file__).parents[2] / "before/data/segmentation.ckpt"
    program = (
        "from pathlib import Path\n"
        "import segmentation.task, rasterio\n"
        "from engine.cli.commands import run_task\n"
        "from segmentation.prediction import kinds\n"
        "from segmentation.spec import SPEC\n"
        "kinds.LARGEST_IMAGE = 1_000_000\n"
        "status = Path('/proc/self/status')\n"  # ru_maxrss begins with the peak of the process that forked
        "peak = lambda: int(status.read_text().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak()\n"
        f"line = 'predict --ckpt_path {checkpoint} --trainer.accelerator cpu --source {tmp_path / name} --output out'\n"
        "assert run_task(SPEC, line.split()) == 0\n"
        "print('peak', peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=280
    )
    taken = float(done.stdout.split("peak ")[1])
    print(f"{name}: {taken:.0f} MiB more than the program itself")
    assert (tmp_path / "out/a.tif").exists()
    assert taken < 400 + each * 42e6 / 2**20
