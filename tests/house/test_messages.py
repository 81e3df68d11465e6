"""Every error message says what was given and what is allowed, and ends with a remedy; all are on one page."""

from __future__ import annotations

import re

from tests.house.messages import COMMAND, PAGE, messages, page

# Texts that are parts of others, where the remedy is that of the whole: a fault of a file in "Weights ... do not fit".
PARTS = (
    "backbones/layouts/", "backbones/contract.py", "backbones/weights/", "backbones/networks.py", "detection/weights/",
    "engine/archives.py", "engine/cli/messages.py", "engine/cli/early.py", "segmentation/scores/label_files.py",
)  # fmt: skip
VERBS = (
    "Add|Bring|Change|Check|Choose|Convert|Copy|Correct|Delete|Download|Export|Free|Install|Keep|Leave|Let|Load|Look|Lower|Make|Merge|Move|Name|Pass|"
    "Predict|Put|Raise|Remove|Rename|Repair|Replace|Resume|Retrain|Run|Save|Say|Scale|See|Send|Set|Shorten|Start|Take|Train|Tell|"
    "Unfreeze|Unpack|Upgrade|Use|Write|upgrade|install|keeps|leave|save|name|use|write"
)
ALLOWED = "[Aa]llowed|must|give|Give|allows|needed|Needed|lies between|asked for|is written|in place of"
WORDS = rf"\b({ALLOWED})\b|[Dd]id you mean"
VALUES = r"\{[A-Za-z_.]*(remedy|_REMEDIES|error|hint|commands|COMMANDS|_EXAMPLE|text|first|reason|matches)[a-z]*\}\.?$"
REMEDY = re.compile(rf"{WORDS}|\b({VERBS})\b|--help|--print_config|pip install|{VALUES}")


def test_a_message_ends_with_a_remedy() -> None:
    faults = []
    for message in messages():
        if message.place.startswith(PARTS):
            continue
        text = message.text.rstrip()
        # A command to copy has no stop.
        ended = text[-1] in ".}'?" or re.search(r"(--\w+ \w+|\w+\.(tif|mp4)|pip install \S+)$", text)
        if not ended or "!" in text.replace("!=", "") or "\n" in text or not REMEDY.search(text):
            faults.append(message)
    assert not faults


def test_a_message_without_a_remedy_is_found() -> None:
    assert REMEDY.search("size is 3; allowed: a multiple of 32. Give another one.")
    assert not REMEDY.search("size is 3, which is wrong.")


def test_the_page_holds_them_all() -> None:
    assert PAGE.read_text() == page(), f"the page is out of date. Run: {COMMAND}"


def test_they_are_found() -> None:
    assert len(messages()) > 400
