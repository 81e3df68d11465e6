"""Files that ask for more than their own pixels get none of it: no request, no other file, no other program."""

from __future__ import annotations

import os
import socket
import threading

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from engine.errors import InputError, UnreadableError
from engine.reading.gdal import driver_of
from engine.reading.images import MOST_PIXELS_NAME, image_size, read_image
from engine.reading.raster_file import RasterFile
from segmentation.prediction.kinds import kind_of

VRT = """<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""
RAW = """<VRTDataset rasterXSize="8" rasterYSize="8">
<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
<SourceFilename relativeToVRT="0">{source}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>
<LineOffset>8</LineOffset></VRTRasterBand></VRTDataset>"""
SIDECAR = """<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{source}</MDI></Metadata></PAMDataset>"""


@pytest.fixture
def listener():
    """The address of a server that notes who connects, and the list of them."""
    callers: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    done = threading.Event()

    def listen():
        while not done.is_set():
            try:
                caller, address = server.accept()
            except TimeoutError:
                continue
            callers.append(address)
            caller.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}/a.tif", callers
    done.set()
    thread.join(5)
    server.close()


def read_all(path):
    source = RasterFile(path)
    try:
        height, width = source.size_hw
        source.picture((2, 2))
        return source.read(slice(0, height), slice(0, width)).image
    finally:
        source.close()


def test_the_listener_hears_a_call(listener):
    address, callers = listener
    host, port = address.removeprefix("/vsicurl/http://").removesuffix("/a.tif").split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    for _ in range(50):
        if callers:
            break
        threading.Event().wait(0.05)
    assert callers


@pytest.mark.parametrize("name", ["ortho.tif", "ortho.jp2", "ortho.img", "ortho.vrt", "ortho.png"])
def test_a_virtual_raster_sends_no_request(tmp_path, listener, name):
    address, callers = listener
    path = tmp_path / name
    path.write_text(VRT.format(source=address))
    with pytest.raises(UnreadableError, match="it is no GeoTIFF, JPEG 2000"):
        read_all(path)
    with pytest.raises(InputError, match="cannot read image"):
        read_image(path)
    assert callers == []


def test_a_virtual_raster_shows_no_other_file(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(64)))
    path = tmp_path / "ortho.tif"
    path.write_text(RAW.format(source=secret))
    assert kind_of(path) == "raster"
    with pytest.raises(UnreadableError, match=r"ortho\.tif"):
        read_all(path)


@pytest.mark.parametrize("beside", ["{}.aux.xml", "{}.ovr", "{}.msk"])
def test_files_beside_a_raster_are_not_followed(tmp_path, listener, beside):
    """Neither when it is opened nor when it is read at another size, which GDAL does by overviews."""
    address, callers = listener
    path = tmp_path / "map.tif"
    image = np.random.default_rng(0).integers(0, 256, (3, 600, 500), dtype=np.uint8)
    shape = {"height": 600, "width": 500, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=from_origin(0, 0, 1, 1), **shape) as file:
        file.write(image)
    (tmp_path / beside.format("map.tif")).write_text(
        SIDECAR.format(source=address) if "xml" in beside else VRT.format(source=address)
    )
    np.testing.assert_array_equal(read_all(path), image.transpose(1, 2, 0))
    assert callers == []


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.tif"])
def test_no_other_program_is_started(tmp_path, monkeypatch, name):
    """Pillow draws EPS by Ghostscript, which runs what the file says."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("gs", "gswin64c"):
        (programs / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n%%EOF\n")
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="it is no image of a known kind"):
            read(path)
    assert not (tmp_path / "started").exists()


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    """The limit is ours: Pillow's, at 179 million pixels, refuses scans in order and calls them an attack."""
    path = tmp_path / "scan.png"
    Image.new("1", (15_000, 13_000)).save(path)
    assert image_size(path) == (13_000, 15_000)
    monkeypatch.setenv(MOST_PIXELS_NAME, "100000000")
    with pytest.raises(UnreadableError, match=r"15000 x 13000 pixels, 195 million in all; the limit is 100 million"):
        image_size(path)
    monkeypatch.setenv(MOST_PIXELS_NAME, "many")
    with pytest.raises(InputError, match="EFFDENSE_MAX_PIXELS is 'many'; allowed: a whole number"):
        image_size(path)


@pytest.mark.parametrize(
    ("start", "driver"),
    [
        (b"II*\0", "GTiff"),
        (b"MM\0+", "GTiff"),
        (b"EHFA_HEADER_TAG", "HFA"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    ],
)
def test_the_content_says_which_driver(tmp_path, start, driver):
    path = tmp_path / "any.bin"
    path.write_bytes(start + bytes(64))
    assert driver_of(path) == driver
