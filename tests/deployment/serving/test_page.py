"""The upload page in a real browser, at two widths: the answer shows, and so does an error."""

from __future__ import annotations

import base64

import pytest

from deployment.serving.predicting import PredictorWork
from joint.prediction.predictor import JointPredictor
from tests.deployment.networks import joint
from tests.deployment.serving.running import photo, running
from tests.engine.reports.browser import chromium


@pytest.mark.slow
def test_the_page_shows_answers_and_errors_at_two_widths(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "street <b>.jpg").write_bytes(photo(150, 210))
    (tmp_path / "no image.txt").write_text("no image")
    predictor = JointPredictor(joint())
    answer = predictor.predict(photo(150, 210))
    with running(PredictorWork(predictor), "joint") as server, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            said, asked = [], []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{server.port}/")
            page.wait_for_function("document.getElementById('about').textContent.startsWith('joint')")
            page.set_input_files("#file", tmp_path / "street <b>.jpg")
            page.wait_for_selector("#result:not([hidden])", timeout=30_000)
            assert page.inner_text("#said").startswith("210 × 150 pixels")
            assert page.locator("#objects tbody tr").count() == len(answer.found)
            shown = {name for name, pixels in answer.segmented.areas().items() if pixels}
            assert page.locator("#classes tbody tr").count() == len(shown)
            assert page.evaluate("document.getElementById('picture').naturalWidth") >= 210
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            drawn = page.get_attribute("#drawn", "href")
            assert base64.b64decode(drawn.partition(",")[2]).startswith(b"\xff\xd8")
            with page.expect_download() as download:
                page.click("#json")
            assert '"objects"' in download.value.path().read_text()
            page.set_input_files("#file", tmp_path / "no image.txt")
            page.wait_for_selector("#said.bad")
            assert "no image of a known kind" in page.inner_text("#said")
            assert page.is_hidden("#result")
            assert not [text for text in said if "415" not in text]  # the browser tells of the status itself
            assert all(url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:")) for url in asked)
            page.close()
        browser.close()
