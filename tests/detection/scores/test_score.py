"""`python -m detection score`: the numbers, and one short line for anything wrong with the files."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detection.scores.score import main
from tests.detection.coco_oracle import NAMES, awkward_set, evaluate, run_pycocotools

ENTRY = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
TRUTH = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": [{"id": 1, **ENTRY}]}
BROKEN_RESULTS = [
    (b"[{", "is not JSON"),
    (b"\xff\xfe\x00\x01", "is not JSON"),
    ({"annotations": []}, "is not a COCO results list"),
    (TRUTH, "is not a COCO results list"),
    ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}], "entry [0] has no 'score'"),
    ([ENTRY, {**ENTRY, "score": None}], "entry [1].score: expected float, got null"),
    ([ENTRY, {**ENTRY, "bbox": [1, 2, 3]}], "entry [1].bbox: expected array of length 4"),
    ([{**ENTRY, "image_id": "one"}], "entry [0].image_id: expected int, got str"),
    (
        [{**ENTRY, "image_id": 5 + k} for k in range(9)],
        "9 image ids that the annotation file does not list: 5, 6, 7, ...",
    ),
    ([{**ENTRY, "category_id": 8}], "1 category id that the annotation file does not list: 8."),
    ([ENTRY, {**ENTRY, "score": math.nan}], "entry [1] has the score nan"),
    ([ENTRY, {**ENTRY, "bbox": [0, math.inf, 9, 9]}], "entry [1] has a number that is not finite"),
    ([ENTRY, {**ENTRY, "bbox": [0, 0, -9, 9]}], "entry [1] has a negative width or height"),
    (b"[" + json.dumps(ENTRY).replace("0.5", "1e999").encode() + b"]", "entry [0] has the score inf"),
]
BROKEN_TRUTH = [
    (b"", "it cannot be read: cannot mmap an empty file. Give a COCO detection file"),
    (b"{", "it is not valid JSON"),
    ([], "it: expected object, got array. Give a COCO detection file"),
    ({}, "has no 'images'"),
    ({"images": [], "annotations": []}, "has no 'categories'"),
    ({**TRUTH, "annotations": [{"image_id": 1, "category_id": 1}]}, "annotations[0] has no 'bbox'"),
    ({**TRUTH, "categories": [{"id": 1}]}, "categories[0] has no 'name'"),
    ({**TRUTH, "categories": TRUTH["categories"] * 2}, "category ids [1] occur more than once"),
    ({"images": [], "categories": []}, "has no 'annotations'"),
    (
        {**TRUTH, "images": [{"id": 2}]},
        "1 annotations whose image_id the file does not list, the first is",
    ),
    (
        {**TRUTH, "annotations": [{**ENTRY, "category_id": 6}]},
        "1 annotations whose category_id the file does not list, the first is annotations[0] with category_id 6.",
    ),
    (
        {**TRUTH, "annotations": [{**ENTRY, "bbox": [0, 0, -1, 2]}]},
        "annotations[0] has the box [0.0, 0.0, -1.0, 2.0]; ",
    ),
    ({**TRUTH, "annotations": [{**ENTRY, "area": math.nan}]}, "annotations[0] has the area nan"),
]


def run_main(capsys, *argv):
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(("part", "content", "message"), [
    *(("results", *case) for case in BROKEN_RESULTS), *(("annotations", *case) for case in BROKEN_TRUTH)
])  # fmt: skip
def test_score_names_what_is_wrong_in_one_line(part, content, message, tmp_path, capsys):
    files = {"annotations": write(tmp_path / "gt.json", TRUTH), "results": write(tmp_path / "dt.json", [ENTRY])}
    write(files[part], content)
    code, out, err = run_main(capsys, "--ground_truth", files["annotations"], "--predictions", files["results"])
    assert (code, out) == (2, "")
    assert message in err
    assert files[part].name in err
    assert err.count("\n") == 1
    assert len(err) < 300 + 2 * len(str(tmp_path))


BOTH = ["--ground_truth", "a", "--predictions", "b"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give --ground_truth and --predictions"),
        (["--ground_truth", "gt.json"], "give --predictions"),
        (["--ground_thruth", "gt.json", "--ground_truth", "a", "--predictions", "b"], "Did you mean 'ground_truth'?"),
        (["--ground_truth", "gt", "--predictions", "dt", "--predicitons", "x"], "Did you mean 'predictions'?"),
        ([*BOTH, "--backend", "fast"], "--backend is 'fast'; allowed: 'pycocotools'"),
        ([*BOTH, "--per_class", "ja"], "--per_class is 'ja'; allowed: true or false"),
        (["--ground_truth", "gone.json", "--predictions", "b"], "annotation file 'gone.json' does not exist."),
        (["--ground_truth", ".", "--predictions", "b"], "annotation file '.': it cannot be read: Is a directory"),
    ],
)  # fmt: skip
def test_command_line_faults(argv, message, capsys):
    code, out, err = run_main(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_score_prints_the_table_and_writes_the_numbers(tmp_path, capsys):
    dataset, results = awkward_set(8)
    truth, found = write(tmp_path / "gt.json", dataset), write(tmp_path / "dt.json", results)
    expected, printed = run_pycocotools(dataset, results)
    output = tmp_path / "new" / "scores.json"
    code, out, err = run_main(capsys, "--ground_truth", truth, "--predictions", found, "--output", output)
    assert (code, err) == (0, "")
    assert out.startswith(printed)
    written = json.loads(output.read_text())
    np.testing.assert_allclose([written[name] for name in NAMES], expected, rtol=0, atol=1e-9)
    assert written["per_class"] == evaluate(dataset, results).per_class
    code, out, _ = run_main(capsys, "--ground_truth", truth, "--predictions", found, "--per_class", "false")
    assert (code, out) == (0, printed)
    blocked = write(tmp_path / "file", b"") / "scores.json"
    code, _, err = run_main(capsys, "--ground_truth", truth, "--predictions", found, "--output", blocked)
    assert code == 2
    assert "cannot write into" in err


def test_score_starts_without_torch():
    check = "import detection.scores.score, sys; assert not {'torch', 'lightning', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[3])
