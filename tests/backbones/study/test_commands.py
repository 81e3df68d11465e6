"""The output and the files of `python -m backbones`, and its short errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from backbones.__main__ import main, options

ROOT = Path(__file__).parents[3]


def run(capsys, *words):
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_table_counts_times_writes_and_draws(capsys, tmp_path):
    status, text, _ = run(
        capsys, "table", "lite0", "efficientnet_phi0", "--threads", "1", "--rounds", "1",
        "--csv", str(tmp_path / "t.csv"), "--picture", str(tmp_path / "t.png"),
    )  # fmt: skip
    assert status == 0
    header, lite, scaled = text.splitlines()
    assert header.split()[-4:] == ["median", "ms", "fastest", "ms"]
    assert "4,652,008" in lite
    assert float(lite.split()[-1]) > 0
    assert scaled.startswith("efficientnet_phi0")
    assert "5,288,548" in scaled
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width > picture.height > 300  # cost and latency beside each other
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_no_latency_leaves_the_times_out(capsys):
    status, text, _ = run(capsys, "table", "b0", "--no-latency")
    assert status == 0
    assert text.splitlines()[0].split()[-2:] == ["top-1", "%"]


def test_scale_describes_any_point(capsys):
    status, text, _ = run(capsys, "scale", "--phi", "0")
    assert status == 0
    assert text.startswith("tf_efficientnet_phi0:")
    assert "5,288,548 parameters" in text
    assert "1.000 times the work of B0" in text
    # Table 1 of the paper.
    stages = [tuple(map(int, line.split())) for line in text.splitlines()[-7:]]
    assert stages == [(1, 1, 16), (2, 2, 24), (3, 2, 40), (4, 3, 80), (5, 3, 112), (6, 4, 192), (7, 1, 320)]
    status, text, _ = run(capsys, "scale", "--phi", "1", "--alpha", "1.4", "--beta", "1.05", "--gamma", "1.1")
    assert status == 0
    assert "depth × 1.400, width × 1.050" in text


@pytest.mark.slow
def test_search_prints_writes_and_draws(capsys, tmp_path):
    grid, picture = tmp_path / "grid.csv", tmp_path / "grid.svg"
    words = ("scale", "--search", "--step", "0.2", "--tolerance", "0.05")
    status, text, _ = run(capsys, *words, "--csv", str(grid), "--picture", str(picture))
    assert status == 0
    assert "Evenness measures no accuracy" in text
    assert "is not on this grid" in text
    assert "<svg" in picture.read_text()
    lines = grid.read_text().splitlines()
    assert f"{len(lines) - 1} triples are admissible" in text
    grid.write_text("\n".join([lines[0], f"{lines[-1]}77.0"]))  # the worst by evenness becomes the best
    status, text, _ = run(capsys, *words, "--scores", str(grid))
    assert status == 0
    best = ", ".join(f"{float(number):g}" for number in lines[-1].split(",")[:3])
    assert text.splitlines()[1].startswith(f"{best} ")
    assert "Evenness" not in text


def test_convert_takes_two_names(capsys, tmp_path):
    source, destination = tmp_path / "tf_efficientnet_lite0.pth", tmp_path / "own.safetensors"
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(state, source)
    status, text, error = run(capsys, "convert", str(source), str(destination))
    assert (status, error) == (0, "")
    assert "tf_efficientnet_lite0" in text
    written = safetensors.torch.load_file(destination)
    assert all(torch.equal(written[key], state[key]) for key in written)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tabel",), "Did you mean 'table'"),
        (("table", "b9", "--no-latency"), "'b9'"),
        (("table", "resnet50", "--no-latency"), "no EfficientNet"),
        (("table", "--rounds", "two"), "--rounds"),
        (("table", "lite0", "--rounds", "0"), "rounds is 0"),
        (("table", "lite0", "--device", "abacus"), "abacus"),
        (("table", "lite0", "--no-latency", "--picture", "out.doc"), "out.doc"),
        (("table", "efficientnet_phi0", "--no-latency", "--picture", "out.png"), "published top-1"),
        (("scale",), "--phi"),
        (("scale", "--phi", "1", "--search"), "--phi"),
        (("scale", "--phi", "nan"), "phi"),
        (("scale", "--phi", "1", "--alpha", "0.9"), "alpha"),
        (("scale", "--phi", "1", "--csv", "grid.csv"), "--csv"),
        (("scale", "--search", "--alpha", "1.3"), "--alpha"),
        (("scale", "--search", "--scores", "none.csv"), "none.csv"),
        (("facts", "gate"), "Did you mean 'gates'"),
        (("convert",), "--source"),
        (("convert", "none.pth", "out.safetensors"), "none.pth"),
    ],
)
def test_errors_are_one_short_line(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = run(capsys, *words)
    assert status == 2
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_options_are_written_out():
    assert options("table", ["b0", "b1", "--no-latency"]) == ["--names", "[b0,b1]", "--no-latency", "true"]
    assert options("table", ["--no-latency", "--csv", "t.csv"]) == ["--no-latency", "true", "--csv", "t.csv"]
    assert options("scale", ["--search", "false"]) == ["--search", "false"]
    assert options("convert", ["a.pth", "b.safetensors", "--name", "x"])[:4] == [
        "--source", "a.pth", "--destination", "b.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["table", "scale", "facts"])
def test_help_waits_for_no_torch(command):
    code = (
        "import sys\nfrom backbones.__main__ import main\n"
        f"try: main(['{command}', '--help'])\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    assert f"python -m backbones {command}" in printed.stdout


def test_usage_names_every_command(capsys):
    status, text, _ = run(capsys)
    assert status == 0
    for command in ("table", "scale", "convert", "facts"):
        assert f"\n  {command} " in text
