"""The page: whole in one file, every name escaped, and its data the same when read again."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.errors import InputError
from engine.reports.contents import Chart, Figure, Gallery, Matrix, Section, Series
from engine.reports.document import from_json, read_report, to_json
from engine.reports.write import render, write_report
from tests.engine.reports.sample import CLASSES, HOSTILE, sample_report


class Page(HTMLParser):
    """The elements of a page with their attributes, its scripts, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.styles = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.styles += data
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(sample_report()))


def test_names_are_text_wherever_they_stand(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 4  # the data, two libraries, and the page's own
    assert "img" not in tags
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    text = "".join(page.texts)
    # Title, heading, two notes, the matrix's row and column, the table, legends of numbers, versions, configuration.
    assert text.count(HOSTILE) >= 10
    headings = [attributes for tag, attributes in page.elements if tag == "th" and "data-class" in attributes]
    assert [heading["data-class"] for heading in headings].count(HOSTILE) == 2


def test_nothing_is_loaded(page):
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert page.styles
    assert not re.search(r"@import|url\(", page.styles)


def test_only_the_pages_own_scripts_may_run(page):
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    (allowed,) = re.findall(r"script-src ([^;]*)", policy)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    assert allowed.split() == [f"'sha256-{digest}'" for digest in digests]


def test_the_libraries_are_those_whose_licences_lie_beside_them(page):
    text = "".join(page.texts)
    assert "DataTables 3.1.5" in text
    assert "uPlot 1.6.32" in text
    assert text.count("Permission is hereby granted, free of charge") == 2


def test_numbers_stand_in_the_page_without_any_script(page):
    text = " ".join(" ".join(page.texts).split())
    for shown in ("AP 0.432", "AP50 –", "images 1,234", "cell 0.123 0 missed", "platelet 0.723 2,000 –"):
        assert shown in text


def test_the_data_are_json_that_cannot_leave_its_element(page):
    data = page.scripts[0]
    assert not set("<>&") & set(data)
    found = json.loads(data)
    assert found["classes"] == list(CLASSES)
    assert found["figures"][0] == {"name": "AP", "value": 0.4321, "detail": "", "better": "max"}
    chart = found["sections"][0]["parts"][2]["value"]
    assert chart["series"][0]["y"][-1] is None  # NaN is not JSON


def test_a_report_is_the_same_when_read_again(tmp_path):
    report = sample_report()
    write_report(report, tmp_path / "report.html")
    again = read_report(tmp_path / "report.html")
    assert to_json(again) == to_json(report)
    assert again.figures == report.figures
    old, new = report.sections[0].parts[0], again.sections[0].parts[0]
    assert isinstance(old, Chart)
    assert isinstance(new, Chart)
    np.testing.assert_allclose(new.series[1].y, old.series[1].y, rtol=1e-5)
    matrix = again.sections[0].parts[3]
    assert isinstance(matrix, Matrix)
    np.testing.assert_array_equal(matrix.counts, report.sections[0].parts[3].counts)
    assert again.sections[1] == report.sections[1]  # with the bytes of every image


def test_numbers_are_not_rounded_and_curves_keep_six_digits():
    curve = Chart("c", "x", "y", (Series("s", np.array([1 / 3]), np.array([2e-9 / 3])),))
    report = replace(sample_report(), figures=(Figure("AP", 1 / 3),), sections=(Section("s", (curve,)),))
    again = from_json(to_json(report))
    assert again.figures[0].value == 1 / 3
    found = again.sections[0].parts[0].series[0]
    assert (found.x.tolist(), found.y.tolist()) == ([0.333333], [6.66667e-10])


def test_an_empty_report_is_a_page():
    bare = replace(sample_report(), figures=(), sections=(Section("Images", (Gallery("none", (), 0),)),))
    assert "0 of 0 shown" in render(bare)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html></html>", "holds no data of a report"),
        ('<script type="application/json" id="report-data">{"format":1}</script>', "missing required field"),
        ('<script type="application/json" id="report-data">{', "Input data was truncated"),
    ],
)
def test_a_page_that_is_no_report_is_refused(text, said, tmp_path):
    (tmp_path / "report.html").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_report(tmp_path / "report.html")
    assert "report RUN" in str(caught.value)


def test_another_format_is_refused(tmp_path):
    text = render(sample_report()).replace('{"format":1,', '{"format":2,')
    (tmp_path / "report.html").write_text(text)
    with pytest.raises(InputError, match="its format is 2, not 1"):
        read_report(tmp_path / "report.html")


def test_what_a_report_cannot_hold_is_refused():
    strange = replace(sample_report(), figures=(Figure("x", 1j),))
    with pytest.raises(TypeError, match="cannot hold complex"):
        to_json(strange)
