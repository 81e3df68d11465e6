"""The documents name what exists: imports, commands, options, files and folders."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import re

import pytest

from tests.commands import Command, code_blocks, commands, exists, inline_code, lines, parses, run
from tests.house.source import PACKAGES, ROOT, name_of
from tests.test_configs import parser

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")]
# The page of messages is written from the source, with a test of its own.
DOCUMENTS += sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "messages.md")
RECORDS = ("CHANGELOG.md", "benchmarks/RESULTS.md")  # they name files and folders, and commands of their time
TEXTS = {name_of(path): path.read_text() for path in DOCUMENTS}
LINES = [line for text in TEXTS.values() for kind, block in code_blocks(text) if not kind for line in lines(block)]
INLINE = [code for text in TEXTS.values() for code in inline_code(text)]
COMMANDS = sorted({command for line in [*LINES, *INLINE] for command in commands(line)})
TASKS = ("detection", "segmentation", "classification", "joint")
TRAINER = ("fit", "validate", "test", "predict")


def test_the_python_of_the_documents_uses_what_exists():
    seen = 0
    for text in TEXTS.values():
        for kind, block in code_blocks(text):
            for node in ast.walk(ast.parse(block)) if kind == "python" else ():
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names)
                    seen += 1
    assert seen
    # Attributes and calls that the text shows in passing.
    from detection import EfficientDet
    from detection.prediction.found import Found
    from detection.prediction.predictor import DetectionPredictor

    names = re.findall(r"`(?:found|detector|model)\.(\w+)[(\[.`]", TEXTS["README.md"] + TEXTS["docs/detection.md"])
    assert len(names) > 8
    for name in names:
        known = {*Found.__dataclass_fields__, *dir(Found), *dir(EfficientDet), *dir(DetectionPredictor)}
        assert name in known, name


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join((command.program, *command.argv)))
def test_the_real_parser_takes_a_command_of_the_documents(command, monkeypatch, capsys):
    assert exists(command.program, ROOT)
    monkeypatch.chdir(ROOT)  # the configs' paths start here
    for word in command.argv:
        assert not word.startswith("configs/") or (ROOT / word).is_file()
    assert parses(command), capsys.readouterr().err


def test_the_documents_show_the_main_commands():
    assert {"fit", "validate", "predict", "score"} <= {command.key[1] for command in COMMANDS}


def test_the_targets_of_make_that_the_documents_name_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found[1] for line in [*LINES, *INLINE] if (found := re.match(r"make ([\w-]+)", line))}
    assert {"demo", "test", "lint"} <= named <= targets


@functools.cache
def options() -> frozenset[str]:
    """Every option of the commands that the documents name, as `model.optimizer.lr`."""
    known = {"help", "version"}
    for task in TASKS:
        known |= {key for command in ("fit", "predict") for key in parser(task, command).option_keys()}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for program, name in {command.key for command in COMMANDS} - {(t, name) for t in TASKS for name in TRAINER}:
            assert not name or run(Command(program, (name, "--help"))) == 0
    return frozenset(known | set(re.findall(r"--([\w.-]+)", said.getvalue())))


def known(name: str) -> bool:
    """Whether there is an option of this name, or a group of options, or one that ends with it; `*` is any letters."""
    pattern = re.compile(rf"(?:.+\.)?{re.escape(name).replace(re.escape('*'), '.*')}(?:\..+)?")
    return any(pattern.fullmatch(option) for option in options())


def test_the_options_that_the_documents_name_exist():
    seen = 0
    for code in INLINE:
        if code.startswith("--") and (option := re.match(r"--([a-z\d_-]+(?:\.\w+)*)", code)):
            assert {option[1], option[1].replace("-", "_")} & options(), code
            seen += 1
    assert seen > 8


def test_the_settings_that_the_documents_name_exist():
    """Names as they stand in a config, `model.loss.hard_pixels` or `data.crop_size: [512, 1024]`."""
    groups = {option.partition(".")[0] for option in options() if "." in option}
    groups |= {"architecture", "augmentation", "loss", "optimizer", "postprocess", "schedule"}
    seen = 0
    for code in INLINE:
        name = re.fullmatch(r"([a-z_]+(?:\.[a-z_*]+)+)(?::? .*)?", code)
        if not name or name[1].partition(".")[0] not in groups or re.search(r"\.(yaml|csv|safetensors)$", name[1]):
            continue
        assert known(name[1]), code
        seen += 1
    assert seen > 20
    assert not known("model.loss.hard_pixel")
    assert not known("oss.hard_pixels")


def test_the_tables_of_options_name_what_exists():
    """Below a heading or a table's head with `--model.loss.…`, each row begins with options of that group."""
    seen = 0
    for name, text in TEXTS.items():
        group = ""
        for line in text.splitlines():
            if line.startswith("#") or (line.startswith("| ") and "…`" in line):
                found = re.search(r"`--([\w.]+)\.…`", line)
                group = found[1] if found else ""
            elif group and line.startswith("| `"):
                first, *others = inline_code(line.split("|")[1])
                for code in [first, *(other for other in others if " " in other)]:
                    assert known(f"{group}.{code.split()[0]}"), f"{name}: {code} of {group}"
                    seen += 1
    assert seen > 20


def test_every_command_and_example_stands_in_a_fenced_block():
    for name, text in TEXTS.items():
        outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        hidden = re.findall(r"^ {4,}(?:python|pip|make|effdense|from \w|import ).*", outside, re.MULTILINE)
        assert not hidden, name


def test_files_that_the_documents_name_exist():
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert ((ROOT / name).parent / target).exists(), target
        for folder in re.findall(r"^\| `(\w+/)` \|", text, re.MULTILINE):
            assert (ROOT / folder).is_dir(), folder
    records = [code for name in RECORDS for code in inline_code((ROOT / name).read_text())]
    for code in [*INLINE, *records]:
        if re.fullmatch(rf"(?:{'|'.join([*PACKAGES, 'tests', 'benchmarks', 'configs', 'docs'])})/[\w./-]*", code):
            assert (ROOT / code).exists(), code
    configs = re.findall(r"^\| `(\w+\.yaml)`", TEXTS["docs/train.md"], re.MULTILINE)
    assert len(configs) > 10
    for name in configs:
        assert list((ROOT / "configs").glob(f"*/{name}")), name
