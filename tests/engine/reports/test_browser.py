"""The page in Chromium, opened from the disk without a network, as its readers open it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from engine.reports.compare import compare_reports
from engine.reports.write import write_report
from tests.engine.reports.browser import WIDTHS, loaded_images, opened
from tests.engine.reports.sample import HOSTILE, sample_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(sample_report(), path)
    return path


def settled(page):
    """The page after it has drawn what the last change asked for."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def visible_cards(page):
    settled(page)
    return page.locator(".cards > li:visible").count()


def rows(page):
    settled(page)
    return page.locator("table.sortable tbody td.class").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_word_and_shows_everything(file, width, scheme):
    with opened(file, width, scheme) as page:
        assert visible_cards(page) == 12
        assert page.locator(".chart[data-drawn] canvas").count() == 5
        images = loaded_images(page)
        assert len(images) == 24  # each with its mask
        assert all(images)
        assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out at the side
        assert page.evaluate("window.broken") is None  # no name of the data ran as a script
        assert page.locator("main img[src=x]").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_two_reports_side_by_side_open_too(width, tmp_path):
    write_report(compare_reports(sample_report(), sample_report(), ("one", "two")), tmp_path / "compare.html")
    with opened(tmp_path / "compare.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert visible_cards(page) == 24
        assert all(loaded_images(page))
        expect(page.locator(".chart[data-drawn] canvas")).to_have_count(8)  # bars stand twice, curves over each other
        names = page.locator(".cards .card-name").all_text_contents()[:2]
        assert names == ["image 0.png: one", "image 0.png: two"]


def test_filters_filter(file):
    with opened(file) as page:
        page.locator("#filter-class").select_option("cell")
        assert visible_cards(page) == 4
        assert rows(page) == ["cell"]
        expect(page.locator("#shown")).to_have_text("4 of 12 images")
        expect(page.locator(".legend button:visible", has_text="platelet")).to_have_count(0)
        page.locator("#filter-class").select_option(HOSTILE)
        assert rows(page) == [HOSTILE]
        assert visible_cards(page) == 4
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("#shown")).to_have_text("12 of 12 images")
        page.locator("#filter-mistake").select_option("wrong class")
        assert visible_cards(page) == 4
        assert rows(page) == [HOSTILE]
        page.get_by_role("button", name="Reset").click()
        expect(page.locator("#shown")).to_have_text("12 of 12 images")
        boxes = page.locator(".stage rect.prediction")
        assert boxes.count() == 12
        page.get_by_label("Score from").fill("0.75")  # scores are 0.3, 0.4, ... 0.9 and again from 0.3
        settled(page)
        assert boxes.count() == 2
        assert page.locator(".stage rect.truth").count() == 12
        assert rows(page) == []  # the table has AP as a score: 0.12, 0.42, 0.72


def test_boxes_and_masks_are_switched_on_and_off(file):
    with opened(file) as page:
        truth, found = page.locator(".stage rect.truth"), page.locator(".stage rect.prediction")
        assert (truth.count(), found.count()) == (12, 12)
        page.get_by_label("ground truth").uncheck()
        assert (truth.count(), found.count()) == (0, 12)
        page.get_by_label("predictions").uncheck()
        assert found.count() == 0
        page.get_by_label("predictions").check()
        page.get_by_label("labels").check()
        expect(page.locator(".stage .tag").first).to_have_text("cell 0.30 · missed")
        page.get_by_label("classes", exact=True).uncheck()
        assert page.locator(".stage img").count() == 12
        box = page.locator(".stage").first.bounding_box()
        rect = page.locator(".stage rect.prediction").first.bounding_box()
        # The box (22, 18, 82, 61) of a picture of 160 x 120.
        assert rect["x"] - box["x"] == pytest.approx(22 / 160 * box["width"], abs=1.5)
        assert rect["width"] == pytest.approx(60 / 160 * box["width"], abs=3)
        assert rect["height"] == pytest.approx(43 / 120 * box["height"], abs=3)


def test_tables_are_sorted_by_a_key_press(file):
    with opened(file) as page:
        head = page.locator("table.sortable th", has_text="AP")
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        assert rows(page) == ["platelet", HOSTILE, "cell"]
        page.keyboard.press("Enter")
        assert rows(page) == ["cell", HOSTILE, "platelet"]


def test_images_are_ordered_and_leafed_through_by_keys(file):
    with opened(file) as page:
        page.get_by_label("Order").select_option("highest score first")
        assert page.locator(".cards .card-name").first.text_content() == HOSTILE
        page.get_by_role("button", name="Open image 10.png").focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog[open]")
        expect(dialog.locator("#viewer-name")).to_have_text("image 10.png (2 of 12)")
        expect(dialog.locator(".tag").first).to_have_text(HOSTILE)  # an annotated box has no score
        page.keyboard.press("ArrowRight")
        expect(dialog.locator("#viewer-name")).to_have_text("image 9.png (3 of 12)")
        assert dialog.locator("tbody tr").count() == 2
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        expect(dialog.locator("#viewer-name")).to_have_text(f"{HOSTILE} (1 of 12)")
        expect(dialog.get_by_role("button", name="Previous")).to_be_disabled()
        dialog.get_by_label("predictions").uncheck()
        assert dialog.locator("rect.prediction").count() == 0
        assert dialog.locator("rect.truth").count() == 1
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
        assert page.locator(".cards rect.prediction").count() == 0  # the gallery follows
        expect(page.locator(".gallery").get_by_label("predictions")).not_to_be_checked()


def test_every_control_is_reached_by_the_tab_key(file):
    with opened(file) as page:
        reached = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert {"skip", "theme", "filter-class", "filter-mistake", "filter-score", "scroll", "open"} <= reached


def test_the_button_turns_light_to_dark_and_back(file):
    with opened(file) as page:

        def brightness():
            return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")

        light = brightness()
        page.get_by_role("button", name="Light or dark").click()
        dark = brightness()
        assert dark < 60 < 200 < light
        page.get_by_role("button", name="Light or dark").click()
        assert brightness() == light


def test_curves_are_switched_off_one_by_one(file):
    with opened(file) as page:
        button = page.locator(".legend button", has_text="all").first
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")


def test_without_scripts_the_numbers_are_there(file, tmp_path):
    from playwright.sync_api import sync_playwright

    from tests.engine.reports.browser import chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(file.as_uri())
        expect(page.get_by_role("cell", name="0.423")).to_be_visible()
        browser.close()
