"""Exported files, made once for all tests of a process: each takes seconds."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from deployment.__main__ import main
from deployment.export.formats.openvino_file import write_openvino
from deployment.export.options import SUFFIXES, Format, Options
from deployment.export.write import export
from deployment.networks import load_any
from engine.exports.files import Runtime, open_exported
from tests.deployment.networks import checkpoint

FILES: dict[tuple[str, Format, Options], Path] = {}
CHECKPOINTS: dict[str, Path] = {}
OPEN: list[Runtime] = []  # what is open is not opened again, which takes seconds of a .pt2


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a task."""

    def made(task: str) -> Path:
        if task not in CHECKPOINTS:
            CHECKPOINTS[task] = checkpoint(task, tmp_path_factory.mktemp(task) / f"{task}.ckpt")
        return CHECKPOINTS[task]

    return made


@pytest.fixture(scope="session")
def commanded(ckpt: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, str]]:
    """The file of a detector in PyTorch's format, which `export` writes into an empty folder, and what that says."""

    @functools.cache
    def made() -> tuple[Path, str]:
        folder, said = tmp_path_factory.mktemp("commanded"), io.StringIO()
        words = ["export", "--ckpt_path", str(ckpt("detection")), "--format", "torch", "--image_size", "[160,224]"]
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
            patch.chdir(folder)
            assert main(words) == 0
        OPEN.append(open_exported(folder / "detection.pt2", "detection"))
        return folder / "detection.pt2", said.getvalue()

    return made


@pytest.fixture(scope="session")
def exported(
    ckpt: Callable[[str], Path],
    commanded: Callable[[], tuple[Path, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """The file of a task in a format."""

    def made(task: str, file_format: Format, **options: object) -> Path:
        if (task, file_format, options) == ("detection", "torch", {"image_size": (160, 224)}):
            return commanded()[0]
        if task == "segmentation" and options.get("argmax"):
            options = {**options, "argmax": None}  # which writes the same file
        wanted = Options(**options)
        key = task, file_format, wanted
        if key not in FILES and file_format == "openvino" and (task, "onnx", wanted) in FILES:
            # As `export` does it, from the file that is there: most of the time goes into the one of ONNX.
            source = FILES[task, "onnx", wanted]
            about = open_exported(source, task).about
            FILES[key] = write_openvino(source, source.with_suffix(".xml"), about)
        if key not in FILES:
            path = tmp_path_factory.mktemp("exported") / f"{task}{SUFFIXES[file_format]}"
            FILES[key] = export(load_any(ckpt(task)), path, file_format, wanted).path
            if file_format == "torch":
                OPEN.append(open_exported(FILES[key], task))
        return FILES[key]

    return made
