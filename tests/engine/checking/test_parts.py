"""The parts of the checks that know no task: twins beside a comparison of all pairs, names, reports, cleaned copies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.checking.clean import Names, new_folder, surplus_copies
from engine.checking.findings import CheckReport, FailOn, Finding
from engine.checking.image_files import ImageFacts, look_of, read_all, read_facts
from engine.checking.names import name_findings
from engine.checking.pictures import write_pictures
from engine.checking.twins import NEAR_BITS, find_twins
from engine.errors import InputError, OutputError
from tests.engine.checking.planted import pixels


def test_twins_are_those_of_all_pairs() -> None:
    """Looks of which many differ in few bits, so that every number of differing bits up to ten occurs often."""
    rng = np.random.default_rng(0)
    looks: list[int] = []
    for _ in range(40):
        look = int(rng.integers(0, 2**63))
        looks.append(look)
        for bits in range(10):
            changed = look
            for bit in rng.choice(64, bits, replace=False).tolist():
                changed ^= 1 << bit
            looks.append(changed)
    order = rng.permutation(len(looks)).tolist()
    facts = [ImageFacts(size_hw=(9, 9), digest=str(place).encode(), look=looks[place]) for place in order]
    splits = ["train" if place % 3 else "val" for place in range(len(facts))]
    found = {twin.place: twin for twin in find_twins(splits, facts)}
    for place, fact in enumerate(facts):
        near = [other for other in range(place) if _bits(fact, facts[other]) <= NEAR_BITS]
        assert (place in found) == bool(near)
        if near:
            across = [other for other in near if splits[other] != splits[place]]
            assert found[place].other == (across or near)[0]
            assert found[place].across == bool(across)


def _bits(one: ImageFacts, other: ImageFacts) -> int:
    assert one.look is not None
    assert other.look is not None
    return (one.look ^ other.look).bit_count()


def test_many_copies_of_one_picture_are_quickly_found() -> None:
    facts = [ImageFacts(size_hw=(9, 9), digest=str(place).encode(), look=12345) for place in range(20_000)]
    assert len(list(find_twins(["train"] * len(facts), facts))) == len(facts) - 1


LEAKS = {
    ("a_jpg.rf.0123456789abcdef0123456789abcdef", "a_jpg.rf.fedcba9876543210fedcba9876543210"): "leak.source",
    ("street", "street_aug3"): "leak.source",
    ("street-flip", "street"): "leak.source",
    ("street copy 2", "street"): "leak.source",
    ("drive_0005_sync_0000000012", "drive_0005_sync_0000000013"): None,
    ("video1_frame_003", "video1_frame_004"): "leak.video",
    ("clip12_0003", "clip12_0004"): "leak.video",
    ("seq01-7", "seq02-7"): None,
    ("BloodImage_00001", "BloodImage_00002"): None,
    ("000000000139", "000000000140"): None,
    ("screenshot_1", "screenshot_2"): None,
    ("framework1", "framework2"): None,
}


@pytest.mark.parametrize("names", LEAKS)
def test_names_of_one_source(names: tuple[str, str]) -> None:
    paths = [Path("train", f"{names[0]}.png"), Path("val", f"{names[1]}.png")]
    found = [one.name for one in name_findings(paths, ["train", "val"])]
    assert found == ([LEAKS[names]] if LEAKS[names] else [])
    assert not list(name_findings(paths, ["train", "train"]))


def test_a_group_that_is_no_expression_is_refused() -> None:
    with pytest.raises(InputError, match="no regular expression"):
        list(name_findings([Path("a.png")], ["train"], group="("))


def test_a_video_is_told_once_for_a_split() -> None:
    paths = [Path(f"{split}/frame_{number}.png") for split in ("train", "val") for number in range(5)]
    found = list(name_findings(paths, ["train"] * 5 + ["val"] * 5))
    assert [(one.name, one.file) for one in found] == [("leak.video", "val/frame_0.png")]


FOUND = (
    Finding("b.two", "note", "x.png", "is so"),
    Finding("a.one", "warning", "y.png", "is so", box_xyxy=(0.0, float("nan"), 1.0, 2.0), twin="z.png"),
    Finding("c.three", "error", "x.png", "is so"),
    Finding("c.three", "error", "y.png", "is so"),
)


def test_a_report() -> None:
    report = CheckReport("a set", FOUND, ("what it is like",))
    assert list(report.by_name()) == ["c.three", "a.one", "b.two"]
    assert report.line() == "2 errors, 1 warning, 1 note (c.three 2, a.one 1)"
    assert report.table().splitlines()[:2] == ["a set", "  what it is like"]
    rows = json.loads(json.dumps(report.document(), allow_nan=False))["findings"]
    assert [row["name"] for row in rows] == ["c.three", "c.three", "a.one", "b.two"]
    assert rows[2]["box_xyxy"] == [0.0, None, 1.0, 2.0]
    assert rows[2]["twin"] == "z.png"
    assert "twin" not in rows[0]
    assert CheckReport("a set", ()).line() == "nothing found"


@pytest.mark.parametrize(
    ("kept", "codes"),
    [(4, (1, 1, 1, 0)), (2, (0, 1, 1, 0)), (1, (0, 0, 1, 0)), (0, (0, 0, 0, 0))],
)
def test_the_exit_code_is_that_of_the_worst(kept: int, codes: tuple[int, ...]) -> None:
    levels: tuple[FailOn, ...] = ("error", "warning", "note", "never")
    report = CheckReport("a set", FOUND[:kept])
    assert tuple(report.exit_code(level) for level in levels) == codes


def test_pictures_are_of_the_first_cases(tmp_path: Path) -> None:
    findings = tuple(Finding("a.one", "note", f"odd name;{n}.png", "is so") for n in range(9))
    report = CheckReport("a set", (Finding("b.two", "note", "gone.png", "is so"), *findings))
    picture = Image.new("RGB", (2000, 1000))
    count = write_pictures(tmp_path, report, lambda found: None if found.name == "b.two" else picture.copy(), most=4)
    assert count == 4
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"a.one-{n + 1}-odd_name_{n}.jpg" for n in range(4)]
    with Image.open(tmp_path / names[0]) as written:
        assert written.size == (1024, 512)


def test_a_file_in_two_splits_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels(1)).save(path)
    assert read_all([path, path]) == [read_facts(path)] * 2


@pytest.mark.parametrize("how", ["plain", "progressive", "grey", "CMYK"])
def test_a_jpeg_is_looked_at_in_an_eighth_of_its_sides(how: str, tmp_path: Path) -> None:
    """Its look is that of all pixels, its size is its own, and the end of its bytes is missed."""
    path = tmp_path / "a.jpg"
    cells = Image.fromarray(pixels(3)).resize((961, 643), Image.Resampling.BICUBIC)
    cells.convert({"grey": "L", "CMYK": "CMYK"}.get(how, "RGB")).save(
        path, quality=92, progressive=how == "progressive"
    )
    facts = read_facts(path)
    with Image.open(path) as image:
        whole = look_of(np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16))
    assert facts.size_hw == facts.stored_hw == (643, 961)
    assert whole is not None
    assert facts.look is not None
    assert (facts.look ^ whole).bit_count() <= 1
    assert [finding.name for finding in facts.findings] == ["image.mode"] * (how == "CMYK")
    path.write_bytes(path.read_bytes()[:-3000])
    assert [finding.name for finding in read_facts(path).findings] == ["image.truncated"]


def test_a_picture_of_fine_stripes_has_more_than_one_colour(tmp_path: Path) -> None:
    """Their mean over eight pixels is one grey, in a JPEG and elsewhere."""
    stripes = np.tile(np.array([[100], [160]], np.uint8), (128, 256))
    for name in ("a.jpg", "a.png"):
        Image.fromarray(stripes).save(tmp_path / name, quality=100)
        assert read_facts(tmp_path / name).findings == ()
    Image.new("RGB", (256, 256), (9, 80, 70)).save(tmp_path / "b.jpg")
    assert [finding.name for finding in read_facts(tmp_path / "b.jpg").findings] == ["image.uniform"]


def test_a_raster_is_read_as_training_reads_it(tmp_path: Path) -> None:
    """Sixteen bits of a GeoTIFF have no agreed range, which training says too."""
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    values = np.repeat(np.arange(64, dtype=np.uint16)[None, None] * 900, 4, axis=0).repeat(64, axis=1)
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=4, dtype="uint16") as file:
        file.write(values)
    from engine.reading.options import Reading
    from engine.reading.reader import PixelReader

    assert [one.name for one in read_facts(path).findings] == ["image.unreadable"]
    facts = read_facts(path, PixelReader(Reading(value_range=(0, 60000))))
    assert facts.findings == ()
    assert facts.size_hw == (64, 64)


def test_copies_leave_the_later_split_as_it_is() -> None:
    facts = [ImageFacts(digest=digest) for digest in (b"a", b"a", b"b", b"b", b"c", None)]
    assert surplus_copies(["train", "val", "val", "test", "train", "train"], facts) == {0, 2}
    assert surplus_copies(["train", "train", "all", "train", "all", "all"], facts) == {1, 2}


def test_names_are_free_on_every_system() -> None:
    names = Names()
    given = [names.free(name, "folder") for name in ("a.jpg", "A.png", "a.tif", "a.bmp")]
    assert given == ["a.jpg", "folder_A.png", "a_2.tif", "a_3.bmp"]


def _write_and_fail(folder: Path) -> None:
    (folder / "a").write_text("1")
    raise RuntimeError


def test_a_folder_appears_whole_or_not(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new", [tmp_path / "old"]) as part:
        (part / "a").write_text("1")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "a").read_text() == "1"
    with pytest.raises(RuntimeError), new_folder(tmp_path / "other", []) as part:
        _write_and_fail(part)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(OutputError, match="holds something"), new_folder(tmp_path / "new", []):
        pass
