"""The page of checks names every finding that the code can make, and no other."""

from __future__ import annotations

import re

from tests.detection.checking import test_check as boxes
from tests.engine.checking.planted import FILE_FAULTS
from tests.house.source import MODULES, ROOT, name_of
from tests.segmentation.checking import test_check_data as masks

_NAME = re.compile(r'"((?:image|box|boxes|mask|masks|class|leak|label|labels|split|anchors)\.[a-z_]+)"')
_PAGE = (ROOT / "docs" / "checks.md").read_text()
_OF_BROKEN_MASKS = {"mask.empty", "mask.unreadable", "mask.truncated"}  # the names of images, of a mask
_MADE = {"leak.duplicate", "leak.near_duplicate", "image.duplicate", "image.near_duplicate"}  # put together


def test_the_page_names_every_finding() -> None:
    code = "\n".join(path.read_text() for path in MODULES if "checking" in name_of(path))
    named = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", _PAGE, re.MULTILINE))
    assert named == set(_NAME.findall(code)) | _OF_BROKEN_MASKS | _MADE


def test_more_than_forty_faults_are_planted() -> None:
    """Of different names; each is planted in a clean set and found by name and file where it is listed here."""
    planted = {*FILE_FAULTS, *masks.MASK_FAULTS, *boxes.NAMES, *(name for name, _ in boxes.BOX_FAULTS.values())}
    planted |= {name for _, names in boxes.CLASS_FAULTS.values() for name in names}
    assert len(planted) > 40
