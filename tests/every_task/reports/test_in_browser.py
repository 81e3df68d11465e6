"""The report of a trained network of each task, opened in Chromium on a phone's width and a desk's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.reports.browser import WIDTHS, loaded_images, opened
from tests.every_task.watching import run

pytestmark = pytest.mark.slow


def test_the_report_of_a_run_opens_and_its_switches_switch(task):
    run(task, "fit --config small.yaml --run.name one --trainer.max_epochs 1 --trainer.limit_train_batches 1")
    folder = Path("runs", task, "one")
    run(task, f"report {folder}")
    file = folder / "report.html"
    assert file.stat().st_size < 15_000_000
    for width in WIDTHS:
        with opened(file, width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") == width
            images = loaded_images(page)
            assert len(images) >= 4
            assert all(images)
            charts = page.locator(".chart")
            assert charts.count() == page.locator(".chart[data-drawn] canvas").count() > 0
            if task != "segmentation":
                page.get_by_label("Score from").fill("0")
                page.wait_for_timeout(300)
                assert page.locator(".stage rect.prediction").count() > 0
                assert page.locator(".stage rect.truth").count() > 0
                for box in page.get_by_label("predictions").all():
                    box.uncheck()
                assert page.locator(".stage rect.prediction").count() == 0
            if task != "detection":
                before = page.locator(".stage img").count()
                for box in page.get_by_label("wrong pixels").all():
                    box.uncheck()
                assert page.locator(".stage img").count() < before
