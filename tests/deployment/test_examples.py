"""The clients of `examples/` give what our own predictor gives, without any framework."""

from __future__ import annotations

import functools
import http.server
import importlib
import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from tests.deployment.networks import picture
from tests.house.source import PACKAGES, ROOT

CLIENT = ROOT / "examples/onnx_client.py"
PAGE = ROOT / "examples/browser"
# What a client may import, with what ONNX Runtime brings.
FEW = {"numpy", "PIL", "onnxruntime"}
SLOW = [pytest.param(task, marks=pytest.mark.slow) for task in ("detection", "joint")]

# Runs a script where neither a framework nor this project can be imported, and says what it imported.
WITHOUT = f"""
import json, runpy, sys
from pathlib import Path
for name in {["torch", "torchvision", "lightning", "cv2", "onnx", *PACKAGES]!r}:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
names = runpy.run_path(sys.argv[0], run_name="__main__")
if "pixels" in names:
    names["Image"].fromarray(names["pixels"]).save("pixels.png")
loaded = {{name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}}
others = [name for name in loaded - set(sys.stdlib_module_names) if name[0] != "_"]  # such begin with the environment
Path("imported.json").write_text(json.dumps(sorted(others)))
"""


def client(file, picture_file, folder):
    """The client's answer, computed by a Python that has no framework."""
    command = [sys.executable, "-I", "-c", WITHOUT, CLIENT, file, picture_file, "drawn.png"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def same_objects(ours, expected, least=6):
    """Boxes within half a pixel, scores within a thousandth, the same names."""
    assert len(ours) == len(expected) >= least
    assert [one["name"] for one in ours] == [one["name"] for one in expected]
    np.testing.assert_allclose([one["score"] for one in ours], [one["score"] for one in expected], atol=1e-3)
    np.testing.assert_allclose([one["box_xyxy"] for one in ours], [one["box_xyxy"] for one in expected], atol=0.5)


def objects(found):
    """Our predictor's boxes in the client's words."""
    parts = zip(found.labels, found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True)
    return [{"name": name, "score": score, "box_xyxy": box} for name, score, box in parts]


def test_the_client_is_short():
    assert len(CLIENT.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("words", "said"), [([], "onnx_client.py detector.onnx"), (["gone.onnx", "gone.jpg"], "No file 'gone.onnx'")]
)
def test_the_client_says_what_it_lacks(words, said, tmp_path):
    ran = subprocess.run(
        [sys.executable, CLIENT, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.by_default("size_hw0-segmentation")
@pytest.mark.parametrize("task", ["segmentation", *SLOW])
@pytest.mark.parametrize("size_hw", [(140, 300), (333, 251)])
def test_the_client_gives_what_the_predictor_gives(exported, task, size_hw, tmp_path):
    Image.fromarray(picture(*size_hw, seed=1)).save(tmp_path / "photograph.png")
    file = exported(task, "onnx")
    answer = client(file, tmp_path / "photograph.png", tmp_path)
    found = importlib.import_module(task).load(file).predict(tmp_path / "photograph.png")
    if task != "segmentation":
        same_objects(answer["objects"], objects(found if task == "detection" else found.found))
    if task != "detection":
        rows = (found if task == "segmentation" else found.segmented).class_ids
        assert len(np.unique(rows)) > 1
        pixels = np.asarray(Image.open(tmp_path / "pixels.png"))
        assert pixels.shape == rows.shape
        assert (pixels == rows).mean() > 0.999
        assert answer["shares"].keys() == {"road", "car", "tree"}
    assert Image.open(tmp_path / "drawn.png").size == size_hw[::-1]
    imported = set(json.loads((tmp_path / "imported.json").read_text()))
    assert imported >= FEW
    assert imported <= FEW


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page as its README has it set up, with what drives a browser beside it."""
    for program in ("node", "npm", "chromium"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    folder = tmp_path_factory.mktemp("site")
    for path in PAGE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "playwright-core@1"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where the page is served."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *words: object) -> None:
        pass


# Picks the two files as a user does, and writes what the page found and what it complained of.
DRIVER = """
import { chromium } from "playwright-core";
const [address, executablePath, network, photograph] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
page.setDefaultTimeout(240000);
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));
await page.goto(address);
for (const [input, file] of [["#network", network], ["#photograph", photograph]]) {
  await page.setInputFiles(input, file);
  await page.waitForFunction(() => ["ready", "failed"].includes(document.body.dataset.state));
}
const answer = await page.evaluate(() => {
  const { answer } = document.body;
  const canvas = document.getElementById("shown");
  const said = document.getElementById("said").textContent;
  const pixels = answer?.pixels && Array.from(answer.pixels);
  const rows = document.querySelectorAll("#objects tr").length;
  return { ...answer, pixels, said, rows, size: [canvas.width, canvas.height] };
});
await page.screenshot({ path: "page.png", fullPage: true });
await browser.close();
console.log(JSON.stringify({ ...answer, complaints }));
"""


def in_the_browser(site, address, file, photograph):
    """What the page finds."""
    (site / "driver.mjs").write_text(DRIVER)
    command = ["node", "driver.mjs", address, shutil.which("chromium"), file, photograph]
    ran = subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "detection", "joint"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_page_gives_what_the_client_gives(exported, site, address, task, suffix, tmp_path):
    photograph = tmp_path / f"photograph.{suffix}"
    # Of shapes that Pillow resizes along rows first, as the page does; else single values differ by one.
    size_hw, orientation = {"png": ((333, 251), 6), "jpg": ((140, 300), 3)}[suffix]
    turned = Image.Exif()
    turned[0x0112] = orientation  # shown a quarter turn to the right, or upside down
    Image.fromarray(picture(*size_hw, seed=1)).save(photograph, exif=turned, quality=95)
    file = exported(task, "onnx")
    expected = client(file, photograph, tmp_path)
    answer = in_the_browser(site, address, file, photograph)
    assert not answer["complaints"]
    assert answer["size"] == list(size_hw if orientation == 6 else size_hw[::-1])  # width and height when upright
    if task != "segmentation":
        same_objects(answer["objects"], expected["objects"])
        assert answer["rows"] == len(answer["objects"])
        assert answer["said"].startswith(f"{len(answer['objects'])} objects in ")
    if task != "detection":
        pixels = np.asarray(Image.open(tmp_path / "pixels.png"))
        assert (np.reshape(answer["pixels"], pixels.shape) == pixels).mean() > 0.999
        assert answer["pixelNames"] == ["road", "car", "tree"]


@pytest.mark.slow
def test_the_page_says_what_is_wrong(site, address, tmp_path):
    photograph, wrong = tmp_path / "photograph.png", tmp_path / "wrong.onnx"
    Image.fromarray(picture(40, 60)).save(photograph)
    wrong.write_bytes(b"\x08\x08")
    answer = in_the_browser(site, address, wrong, photograph)
    assert not answer["complaints"]
    assert answer["size"] == [0, 0]
    answer = in_the_browser(site, address, photograph, wrong)
    assert not answer["complaints"]
    assert answer["said"].startswith("wrong.onnx: ")
