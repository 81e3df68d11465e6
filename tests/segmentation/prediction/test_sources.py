"""The sources that may be segmented, how their kinds are told apart, and where the results go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from engine.errors import InputError
from engine.prediction.journal import JOURNAL_NAME
from engine.prediction.sources import SourceFile, output_names
from engine.prediction.sources import find_sources as find_sources_of
from segmentation.prediction.kinds import KINDS, kind_of
from segmentation.prediction.results import SegmentationResults
from tests.segmentation.toys import CLASSES


def find_sources(source):
    return find_sources_of(source, KINDS)


def outputs_of(kind, name, *, pictures=True, probabilities=False):
    return SegmentationResults(CLASSES, pictures, probabilities).outputs(SourceFile(Path("x"), kind), name)


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg", ".tif"):
            Image.new("RGB", (8, 6)).save(path)
        else:
            path.touch()


def names(sources, folder):
    return [(source.path.relative_to(folder).as_posix(), source.kind) for source in sources]


def test_folders_hold_everything_that_can_be_segmented(tmp_path):
    make(tmp_path, "b.png", "a/c.jpg", "a/v.mp4", "s.svs", "t.tif", "m.vrt", "note.txt", ".hidden.png", ".git/x.png")
    # The results of an earlier prediction there are not sources.
    make(tmp_path, f"out/{JOURNAL_NAME}", "out/b.png", "out/deeper/c.png")
    expected = [
        ("a/c.jpg", "image"), ("a/v.mp4", "video"), ("b.png", "image"), ("m.vrt", "raster"), ("s.svs", "raster"),
        ("t.tif", "image"),
    ]  # fmt: skip
    assert names(find_sources(tmp_path), tmp_path) == expected
    assert names(find_sources(f"{tmp_path}/a/*"), tmp_path) == expected[:2]
    # A list gives each once, in its order; a file named outright counts whatever its suffix.
    listed = [str(tmp_path / "note.txt"), str(tmp_path / "b.png"), str(tmp_path / "a/../b.png"), str(tmp_path / "a")]
    assert names(find_sources(listed), tmp_path)[:2] == [("note.txt", "image"), ("b.png", "image")]
    assert len(find_sources(listed)) == 4
    assert find_sources(tmp_path / "out") != []


def test_rasters_are_told_by_their_header(tmp_path, monkeypatch):
    geo = (33550, "d", 3, (0.5, 0.5, 0.0), True)  # ModelPixelScale
    tifffile.imwrite(tmp_path / "geo.tif", np.zeros((6, 8, 3), np.uint8), photometric="rgb", extratags=[geo])
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((6, 8, 8), np.uint16), planarconfig="contig")
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((6, 8, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "large.tif", shape=(9000, 8000), dtype=np.uint8, compression="deflate", tile=(512, 512),
                     data=iter([np.zeros((512, 512), np.uint8)] * 18 * 16))  # fmt: skip
    (tmp_path / "broken.tif").write_bytes(b"nothing")
    kinds = {path.stem: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {"geo": "raster", "bands": "raster", "plain": "image", "large": "raster", "broken": "raster"}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # Pillow refuses more than twice as many
    assert kind_of(tmp_path / "large.tif") == "raster"


def test_results_keep_the_tree_and_never_clash(tmp_path):
    def names_of(sources):
        return output_names(sources, SegmentationResults(CLASSES))

    def of(*paths):
        return [SourceFile(tmp_path / path, kind_of(Path(path))) for path in paths]

    assert names_of(of("in/a/1.jpg", "in/b/1.x.png")) == [Path("a/1"), Path("b/1.x")]
    assert names_of([]) == []
    assert names_of(of("in/../v.mp4", "in/w.mp4")) == [Path("v"), Path("in/w")]
    sources = of("a.png", "a.bmp", "a_bmp.png", "a.mp4", "a.svs", "a.ndpi", "a_probabilities.svs", "a_overlay.png")
    found = names_of(sources)
    written = [
        path
        for source, name in zip(sources, found, strict=True)
        for path in outputs_of(source.kind, name, probabilities=True)
    ]
    assert len(set(written)) == len(written)
    assert all(".." not in path.parts and not path.is_absolute() for path in written)


def test_what_a_source_leaves():
    assert [str(path) for path in outputs_of("image", Path("a/b.c"))] == ["a/b.c.png", "a/b.c_overlay.jpg"]
    assert outputs_of("image", Path("a"), pictures=False, probabilities=True)[1] == Path("a_probabilities.npz")
    assert [str(path) for path in outputs_of("video", Path("v"), probabilities=True)] == [
        "v_areas.csv",
        "v_overlay.webm",
    ]
    assert [path.suffix for path in outputs_of("raster", Path("r"), probabilities=True)] == [".tif", ".jpg", ".tif"]


def test_nothing_to_segment(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_sources(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no image to segment.*\.png"):
        find_sources(tmp_path)
    with pytest.raises(InputError, match="matches no image to segment"):
        find_sources(f"{tmp_path}/*.png")
