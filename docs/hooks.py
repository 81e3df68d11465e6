"""What MkDocs asks while it builds the site: pages that stand outside of docs/, and links that lead there.

The same Markdown is read in the repository, where `../CHANGELOG.md` is a file beside docs/, and on the site,
where it is the page `changelog.md`; other files outside of docs/ are linked in the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "results.md",
    "examples/README.md": "clients.md",
}
_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the contents do not name yet under "More", so that none is missing."""
    named = str(config.nav)
    docs = Path(config.docs_dir)
    found = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    if missing := [name for name in found if f"'{name}'" not in named]:
        config.nav = [*(config.nav or []), {"More": missing}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside of docs/."""
    for source, page in PAGES.items():
        text = _follow((ROOT / source).read_text(), posixpath.dirname(source), config)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/ to their page of the site, or into the repository."""
    if page.file.generated_by:
        return markdown
    return _follow(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)), config)


def _follow(text: str, folder: str, config: MkDocsConfig) -> str:
    """The text of a file in `folder`, a path from the repository's root, with its links as the site needs them."""

    def answer(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target in PAGES:
            there = posixpath.join("docs", PAGES[target])
        elif target.startswith("docs/"):
            there = target
        else:
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            return f"{link[1]}{config.repo_url}/{kind}/main/{target}{link[3] or ''})"
        here = folder if folder.startswith("docs") else "docs"
        return f"{link[1]}{posixpath.relpath(there, here)}{link[3] or ''})"

    return _LINK.sub(answer, text)
