"""Rasters from strangers: no request leaves, and no file is read but the one that was named."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engine.errors import InputError
from segmentation.large.raster_io import RasterFile

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIDE = 64
ALL = slice(0, SIDE)


def vrt(name, raw=""):
    kind = ' subClass="VRTRawRasterBand"' if raw else ""
    source = raw or f"<SimpleSource><SourceFilename>{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1"{kind}>{source}</VRTRasterBand>'
    return f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}">{band}</VRTDataset>'


def geotiff(path, value=7, driver="GTiff"):
    with rasterio.open(path, "w", driver=driver, width=SIDE, height=SIDE, count=1, dtype="uint8") as dataset:
        dataset.write(np.full((1, SIDE, SIDE), value, np.uint8))
    return path


@pytest.mark.parametrize("suffix", ["tif", "vrt", "img", "jp2", "png"])
def test_a_vrt_of_any_name_asks_no_address(tmp_path, server, suffix):
    address, heard = server
    path = tmp_path / f"ortho.{suffix}"
    path.write_text(vrt(f"/vsicurl/{address}/a.tif"))
    with pytest.raises(InputError, match=r"no GeoTIFF.*gdal_translate"):
        RasterFile(path)
    assert not heard


def test_a_vrt_reads_no_foreign_file(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(range(64)) * SIDE)
    raw = '<SourceFilename relativetoVRT="1">secret.bin</SourceFilename><ImageOffset>0</ImageOffset>'
    path = tmp_path / "ortho.tif"
    path.write_text(vrt("", raw))
    with pytest.raises(InputError, match="no GeoTIFF"):
        RasterFile(path)


def test_sidecars_are_not_looked_at_in_any_thread(tmp_path, server):
    address, heard = server
    path = geotiff(tmp_path / "a.tif")
    metadata = f'<MDI key="OVERVIEW_FILE">/vsicurl/{address}/o.tif</MDI>'
    (tmp_path / "a.tif.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS">{metadata}</Metadata></PAMDataset>'
    )
    (tmp_path / "a.tif.ovr").write_text(vrt(f"/vsicurl/{address}/p.tif"))
    (tmp_path / "a.tif.msk").write_text(vrt(f"/vsicurl/{address}/m.tif"))
    raster = RasterFile(path)
    answers = []

    def read():
        answers.append(raster.picture((8, 8)))
        answers.append(raster.read(ALL, ALL).image)

    read()
    thread = threading.Thread(target=read)
    thread.start()
    thread.join(20)
    raster.close()
    assert len(answers) == 4
    assert all((answer == 7).all() for answer in answers)
    assert not heard


@pytest.mark.parametrize("driver", ["GTiff", "HFA", "PNG", "JP2OpenJPEG"])
def test_content_decides_and_not_the_suffix(tmp_path, driver):
    from rasterio.shutil import copy

    path = tmp_path / "a.raster"
    copy(geotiff(tmp_path / "source.tif"), path, driver=driver)
    raster = RasterFile(path)
    assert np.abs(raster.read(ALL, ALL).image.astype(int) - 7).max() <= 1
    raster.close()


def test_pixels_in_a_second_file_are_refused(tmp_path):
    path = tmp_path / "a.img"
    options = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8", "USE_SPILL": "YES"}
    with rasterio.open(path, "w", driver="HFA", **options) as dataset:
        dataset.write(np.full((1, SIDE, SIDE), 7, np.uint8))
    assert (tmp_path / "a.ige").is_file()
    with pytest.raises(InputError, match="other files"):
        RasterFile(path)
