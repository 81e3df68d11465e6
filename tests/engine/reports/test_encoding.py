"""Images of a report: small files, exact masks, and no more bytes than allowed."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from engine.reports.choosing import distinct_names, sample, worst
from engine.reports.contents import EncodedImage, Gallery, Section
from engine.reports.encoding import encode_image, encode_overlay, within_budget
from engine.reports.write import render
from tests.engine.reports.sample import card, sample_report


def opened(image):
    return Image.open(io.BytesIO(image.data), formats=["WEBP"])


def test_a_large_picture_becomes_small():
    across = np.linspace(0, 255, 1500).astype(np.uint8)
    pixels = np.broadcast_to(across[None, :, None], (900, 1500, 3)).copy()
    image = encode_image(pixels)
    assert (image.width, image.height) == opened(image).size == (640, 384)
    assert len(image.data) < 20_000
    found = np.asarray(opened(image).convert("RGB")).astype(int)
    expected = np.asarray(Image.fromarray(pixels).resize((640, 384), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(found - expected).mean() < 3
    small = encode_image(pixels[:30, :40])
    assert (small.width, small.height) == (40, 30)  # never enlarged


def test_a_mask_keeps_its_colours_exactly():
    rows = np.zeros((40, 60), np.uint8)
    rows[10:20, 10:30] = 1
    rows[30:] = 255
    image = encode_overlay(rows, np.array([[10, 20, 30], [200, 100, 0]], np.uint8), alpha=120)
    found = np.asarray(opened(image).convert("RGBA"))
    assert found[0, 0].tolist() == [10, 20, 30, 120]
    assert found[15, 15].tolist() == [200, 100, 0, 120]
    assert found[35, 5, 3] == 0  # what is not counted is not covered


def test_a_shrunk_mask_has_no_colour_between_two_classes():
    rows = (np.arange(2000)[None, :] // 7 % 2 * np.ones((100, 1))).astype(np.uint8)
    image = encode_overlay(rows, np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    colors = np.unique(np.asarray(opened(image).convert("RGBA")).reshape(-1, 4), axis=0)
    assert colors.tolist() == [[0, 0, 0, 140], [255, 255, 255, 140]]


def size_of(report):
    galleries = [part for section in report.sections for part in section.parts if isinstance(part, Gallery)]
    cards = [card for gallery in galleries for card in gallery.cards]
    return sum(len(c.image.data) + sum(len(o.image.data) for o in c.overlays) for c in cards)


def test_a_budget_keeps_the_first_of_each_gallery():
    cards = tuple(card(number) for number in range(12))
    two = (Gallery("worst", cards, 300), Gallery("sample", cards[:4], 300))
    report = replace(sample_report(), sections=(Section("a", two[:1]), Section("b", two[1:])))
    assert within_budget(report) is report
    each = size_of(report) // 16
    cut = within_budget(report, 9 * each)
    assert size_of(cut) <= 9 * each
    kept = [section.parts[0].cards for section in cut.sections]
    assert kept[0] == cards[: len(kept[0])]
    assert kept[1] == cards[: len(kept[1])]
    assert 3 <= len(kept[1]) <= 4 <= len(kept[0]) <= 6
    assert cut.sections[0].parts[0].total == 300
    assert all(not section.parts[0].cards for section in within_budget(report, 0).sections)


def test_the_worst_and_a_sample_that_does_not_depend_on_the_scores():
    assert worst({1: 0.5, 2: 0.1, 3: 0.5, 4: 0.2}, 3) == [2, 4, 1]
    names = {number: f"{number}.jpg" for number in range(40)}
    chosen = sample(names, 5)
    assert len(chosen) == 5
    assert chosen == sample(dict(reversed(names.items())), 5)
    more = sample({**names, 40: "another.jpg"}, 5)
    assert len(set(chosen) & set(more)) >= 4  # an image more changes one of them at most
    assert chosen != list(range(5))


def test_names_lose_the_folders_that_all_have():
    assert distinct_names(["a/b/1.png", "a/b/c/1.png"]) == ["1.png", "c/1.png"]
    assert distinct_names(["a\\1.png", "a\\2.png"]) == ["1.png", "2.png"]
    assert distinct_names(["/x/only.png"]) == ["only.png"]
    assert distinct_names([]) == []


def test_a_page_within_the_budget_is_smaller_than_15_megabytes():
    large = replace(card(0), image=EncodedImage("image/webp", np.random.default_rng(0).bytes(100_000), 640, 480))
    gallery = Gallery("worst", tuple(replace(large, name=f"{number}.png") for number in range(300)), 5000)
    report = within_budget(replace(sample_report(), sections=(Section("Images", (gallery,)),)))
    page = render(report)
    assert 13_000_000 < len(page.encode()) < 15_000_000
    assert f"{len(report.sections[0].parts[0].cards)} of 5,000 shown" in page
