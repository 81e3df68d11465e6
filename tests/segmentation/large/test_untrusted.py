"""Rasters from strangers: no request leaves, and no file is read but the one that was named.

Each of these files is also opened by GDAL as it comes, which does ask, or read the other file: so the test can fail.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError, UnreadableError
from engine.reading.gdal import driver_of
from engine.reading.images import read_image
from engine.reading.raster_file import RasterFile
from segmentation.prediction.kinds import kind_of

rasterio = pytest.importorskip("rasterio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of rasterio, about itself
]
SIDE = 64
ALL = slice(0, SIDE)
SIMPLE = "<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
RAW = "<SourceFilename relativeToVRT='{}'>{}</SourceFilename><ImageOffset>0</ImageOffset>"
SIDECAR = """<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata></PAMDataset>"""


class Listener:
    """A server that answers nothing and counts who connects."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.place = f"127.0.0.1:{server.getsockname()[1]}"
        self.calls = 0

    def address(self, name: str) -> str:
        """What GDAL takes for a file on this server."""
        return f"/vsicurl/http://{self.place}/{name}"

    def listen(self, ended: threading.Event) -> None:
        while not ended.is_set():
            with suppress(TimeoutError), self.server.accept()[0]:
                self.calls += 1

    def hears(self, wait: float = 5.0) -> bool:
        """Whether somebody has called, or does so within some seconds."""
        end = time.monotonic() + wait
        while not self.calls and time.monotonic() < end:
            time.sleep(0.02)
        return self.calls > 0


@contextmanager
def listening() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        listener, ended = Listener(server), threading.Event()
        thread = threading.Thread(target=listener.listen, args=(ended,), daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            ended.set()
            thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as one:
        yield one


def vrt(band: str, kind: str = "") -> str:
    band = f'<VRTRasterBand dataType="Byte" band="1"{kind}>{band}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}">{band}</VRTDataset>'


def geotiff(path: Path, driver: str = "GTiff") -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    place = rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000)
    shape = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver=driver, crs="EPSG:32633", transform=place, **shape) as dataset:
        dataset.write(image.transpose(2, 0, 1))
    return image


def read_all(path: Path) -> np.ndarray:
    """All pixels, after a smaller picture, which GDAL reads from smaller copies where it knows of some."""
    with closing(RasterFile(path)) as raster:
        raster.picture((8, 8))
        return raster.read(ALL, ALL).image


def plainly(path: Path) -> np.ndarray:
    """What GDAL reads with its own settings."""
    with rasterio.open(path) as dataset:
        with suppress(rasterio.errors.RasterioIOError):
            dataset.read_masks(1)
            dataset.read(1, out_shape=(8, 8))
        return dataset.read(1)


def asks_when_opened_plainly(path: Path, listener: Listener) -> bool:
    with suppress(rasterio.errors.RasterioIOError):
        plainly(path)
    return listener.hears()


def test_the_listener_hears_one_who_calls(listener):
    assert not listener.hears(0.2)
    host, _, port = listener.place.partition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    assert listener.hears()


@pytest.mark.parametrize("suffix", ["tif", "vrt", "img", "jp2", "png"])
def test_a_virtual_raster_of_any_name_asks_no_address(tmp_path, listener, suffix):
    path = tmp_path / f"ortho.{suffix}"
    path.write_text(vrt(SIMPLE.format(listener.address("a.tif"))))
    with pytest.raises(UnreadableError, match=r"it is no GeoTIFF, JPEG 2000.*gdal_translate"):
        RasterFile(path)
    with pytest.raises(InputError, match="cannot read image"):
        read_image(path)
    assert listener.calls == 0
    assert asks_when_opened_plainly(path, listener)


@pytest.mark.parametrize("relative", [0, 1])
def test_a_virtual_raster_shows_no_other_file(tmp_path, relative):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(64)) * SIDE)
    path = tmp_path / "ortho.tif"
    raw = RAW.format(relative, secret.name if relative else secret)
    path.write_text(vrt(raw, ' subClass="VRTRawRasterBand"'))
    assert kind_of(path) == "raster"
    with pytest.raises(UnreadableError, match=r"ortho\.tif.*no GeoTIFF"):
        RasterFile(path)
    assert plainly(path).tobytes() == secret.read_bytes()


def aux(address: str) -> str:
    return SIDECAR.format(address)


def copies(address: str) -> str:
    return vrt(SIMPLE.format(address))


def mask(address: str) -> str:
    """With the flag without which GDAL takes no file for a mask: it is one of the whole dataset."""
    flags = '<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>'
    return vrt(SIMPLE.format(address)).replace("<VRTRasterBand", f"{flags}<VRTRasterBand", 1)


BESIDE: dict[str, Callable[[str], str]] = {"aux.xml": aux, "ovr": copies, "msk": mask}


@pytest.mark.parametrize("beside", [*BESIDE, "all"])
def test_files_beside_a_raster_are_not_followed_in_any_thread(tmp_path, listener, beside):
    path = tmp_path / "map.tif"
    image = geotiff(path)
    for end in BESIDE if beside == "all" else [beside]:
        (tmp_path / f"map.tif.{end}").write_text(BESIDE[end](listener.address(f"{end}.tif")))
    answers = []
    with closing(RasterFile(path)) as raster:

        def read():
            raster.picture((8, 8))
            answers.append(raster.read(ALL, ALL).image)

        read()
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(20)
    answers.append(read_all(path))
    assert len(answers) == 3
    for answer in answers:
        np.testing.assert_array_equal(answer, image)
    assert listener.calls == 0
    assert asks_when_opened_plainly(path, listener)


@pytest.mark.parametrize(
    ("start", "driver"),
    [
        (b"II*\0", "GTiff"),
        (b"MM\0+", "GTiff"),
        (b"EHFA_HEADER_TAG", "HFA"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
        (b"<VRTDataset ", None),
    ],
)
def test_the_first_bytes_say_which_driver(tmp_path, start, driver):
    path = tmp_path / "any.bin"
    path.write_bytes(start + bytes(64))
    assert driver_of(path) == driver


@pytest.mark.parametrize("driver", ["GTiff", "HFA", "PNG", "JP2OpenJPEG"])
def test_content_decides_and_not_the_suffix(tmp_path, driver):
    from rasterio.shutil import copy

    path = tmp_path / "a.raster"
    image = np.full((1, SIDE, SIDE), 7, np.uint8)  # one value, which JPEG 2000 keeps too
    with rasterio.open(tmp_path / "source.tif", "w", width=SIDE, height=SIDE, count=1, dtype="uint8") as dataset:
        dataset.write(image)
    copy(tmp_path / "source.tif", path, driver=driver)
    assert np.abs(read_all(path).astype(int) - 7).max() <= 1


def test_pixels_in_a_second_file_are_refused(tmp_path):
    path = tmp_path / "a.img"
    options = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8", "USE_SPILL": "YES"}
    with rasterio.open(path, "w", driver="HFA", **options) as dataset:
        dataset.write(np.full((1, SIDE, SIDE), 7, np.uint8))
    assert (tmp_path / "a.ige").is_file()
    with pytest.raises(InputError, match="other files"):
        RasterFile(path)
    assert (plainly(path) == 7).all()
