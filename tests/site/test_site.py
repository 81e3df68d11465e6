"""The site: every page is in its contents, every link inside it holds, and it builds without a warning."""

from __future__ import annotations

import html.parser
import os
import re
import subprocess
import sys
import tomllib
import urllib.parse

import pytest
import yaml

from tests.commands import inline_code
from tests.house.source import ROOT, name_of

DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
# Every text that a person meets, on the site or in the repository.
TEXTS = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
]
TEXTS += [ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md"))]


def anchors(text: str) -> set[str]:
    """The names of a text's headings, as links have them after `#`; GitHub and MkDocs agree on these."""
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", outside, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", shown).strip().lower()))
    return found


def pages(entries: list[object]) -> list[str]:
    """The files of the site's contents, in their order."""
    named: list[str] = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            named += pages(value) if isinstance(value, list) else [str(value)]
    return named


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_link_inside_the_documents_holds(path):
    text = path.read_text()
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", outside)):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(there.read_text()), f"{target}: no such heading"


def test_every_page_is_in_the_contents_once():
    from docs import hooks
    from docs.hooks import PAGES

    named = pages(SITE["nav"])
    assert len(named) == len(set(named))
    found = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert {name for name in named if name not in PAGES.values()} <= found
    # A page that nobody has placed yet stands under "More".
    config = type("Config", (), {"nav": SITE["nav"][:3], "docs_dir": str(DOCS)})()
    placed = pages(hooks.on_config(config).nav)
    assert found <= set(placed)
    assert len(placed) == len(set(placed))
    assert set(PAGES.values()) <= set(named)
    assert all((ROOT / source).is_file() for source in PAGES)


def test_links_that_leave_docs_lead_to_the_site_or_into_the_repository():
    from docs import hooks

    config = type("Config", (), {"repo_url": "https://host/us"})()
    cases = {
        ("docs", "[a](../benchmarks/RESULTS.md#x)"): "[a](results.md#x)",
        ("docs/api", "[a](../../CHANGELOG.md)"): "[a](../changelog.md)",
        ("docs", "[a](../NOTICE)"): "[a](https://host/us/blob/main/NOTICE)",
        ("docs", "[a](../examples/browser)"): "[a](https://host/us/tree/main/examples/browser)",
        ("docs", "[a](video.md) [b](https://b.c/d.md)"): "[a](video.md) [b](https://b.c/d.md)",
        ("benchmarks", "[a](../docs/litert.md)"): "[a](litert.md)",
        ("", "![p](docs/pictures/p.svg)"): "![p](pictures/p.svg)",
    }
    for (folder, text), expected in cases.items():
        assert hooks._follow(text, folder, config) == expected


def test_the_interface_names_modules_that_exist():
    for page in sorted((DOCS / "api").glob("*.md")):
        modules = re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
        assert modules
        for module in modules:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_the_readme_is_a_door():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    pictures = [ROOT / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", "\n".join(lines))]
    assert len(pictures) >= 4
    assert all(path.stat().st_size < 100_000 for path in pictures)


def test_the_members_table_has_the_measured_numbers():
    """What the README and the page on members say is what benchmarks/RESULTS.md says."""
    row = re.compile(r"^\| (\w+) (torch|onnx|openvino) [\dx]+ \| 1 \| ([\d.]+) \| ([\d.]+) \|(.*)$", re.MULTILINE)
    measured: dict[str, dict[str, str]] = {}
    for name, runtime, parameters, macs, rest in row.findall((ROOT / "benchmarks/RESULTS.md").read_text()):
        median = rest.split("|")[6].strip()
        measured.setdefault(name, {"parameters": parameters, "macs": macs})[runtime] = median
    readme = (ROOT / "README.md").read_text().split("## Members")[1].split("\n## ")[0]
    shown = re.findall(r"\| ((?:D|Lite)\d) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) ", readme)
    assert len(shown) == 10
    published = dict(
        re.findall(r"^#   (\w+) +([\d.]+) ", (ROOT / "configs/detection/coco.yaml").read_text(), re.MULTILINE)
    )
    for name, ap, parameters, macs, *times in shown:
        costs = measured[name.lower()]
        assert (parameters, macs) == (costs["parameters"], costs["macs"])
        assert [
            abs(int(t) - float(costs[r])) <= 0.51 for t, r in zip(times, ("torch", "onnx", "openvino"), strict=True)
        ]
        assert abs(float(ap) - float(published[name.lower()])) <= 0.051
    table = re.findall(
        r"^\| (?:DeepLabv3\+ )?(\w+) \|.*?x\d+ \|(.*)\|$", (DOCS / "choosing.md").read_text(), re.MULTILINE
    )
    assert len(table) == 15
    for name, rest in table:
        costs = measured[name] if name in measured and not name.startswith("b") else measured[f"deeplab_{name}"]
        cells = [cell.strip() for cell in rest.split("|")]
        assert cells == [costs[key] for key in ("parameters", "macs", "torch", "onnx", "openvino")]


def test_options_of_the_site_that_texts_name_are_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (DOCS / "first-steps.md").read_text()
    listed = {name for row in re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE) for name in inline_code(row)}
    assert len(listed) > 10
    assert listed <= set(extras)


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "img": "src", "link": "href", "script": "src"}.get(tag)
        self.targets += [value for name, value in attrs if name == wanted and value]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) > 30
    for page in built:
        links = _Links()
        links.feed(page.read_text())
        for target in links.targets:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc or not parts.path or page.name == "404.html":
                continue
            there = (page.parent / urllib.parse.unquote(parts.path)).resolve()
            assert (there / "index.html" if there.is_dir() else there).is_file(), f"{page}: {target}"
        loaded = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]+(?:src|href)="(https?://[^"]+)', page.read_text()
        )
        assert not loaded, page
