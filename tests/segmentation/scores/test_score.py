"""`python -m segmentation score`: the official numbers from files, and one short line for anything wrong."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.data.cityscapes.labels import CITYSCAPES
from segmentation.scores.score import main, score
from tests.segmentation.cityscapes_oracle import assert_equal, awkward_image

ROOT = Path(__file__).parents[3]
SCENES = [f"{city}_{number:06d}_000019" for number in range(3) for city in ("bonn", "ulm")]


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


@pytest.fixture
def benchmark(tmp_path):
    """Ground truth and predictions as they lie on disk, and the arrays in them."""
    triples = [awkward_image(seed, (20, 30)) for seed in range(len(SCENES))]
    for scene, (predicted, true, instances) in zip(SCENES, triples, strict=True):
        folder = tmp_path / "gtFine" / "val" / scene.split("_")[0]
        save(folder / f"{scene}_gtFine_labelIds.png", true)
        save(folder / f"{scene}_gtFine_instanceIds.png", instances.astype(np.uint16))
        save(folder / f"{scene}_gtFine_color.png", np.zeros((20, 30, 3), np.uint8))
        save(tmp_path / "results" / scene.split("_")[0] / f"{scene}_leftImg8bit.png", predicted)
    return tmp_path, triples


def run_main(capsys, *argv):
    code = main([str(word) for word in argv])
    out, err = capsys.readouterr()
    return code, out, err


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    return path


def test_files_score_as_the_official_script_scores_them(benchmark):
    folder, triples = benchmark
    scores = score(folder / "gtFine", folder / "results", workers=1)
    assert_equal(scores, triples)
    archive = zipped(folder / "results", folder / "results.zip")
    assert score(folder / "gtFine" / "val", archive, workers=1) == scores
    # Two and three processes: the same bits.
    assert score(folder / "gtFine", folder / "results", workers=2) == scores
    assert score(folder / "gtFine", archive, workers=3) == scores


def test_palettes_and_overlays_beside_label_maps_play_no_part(benchmark):
    folder, triples = benchmark
    for path in (folder / "results").rglob("*.png"):
        picture = Image.open(path)
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
        picture.save(path)
        save(path.with_name(f"{path.stem}_overlay.png"), np.zeros((20, 30, 3), np.uint8))
    save(folder / "results" / ".hidden" / f"{SCENES[0]}_old.png", triples[0][0])
    assert_equal(score(folder / "gtFine", folder / "results", workers=1), triples)


def test_the_command_prints_the_table_and_writes_the_numbers(benchmark, capsys):
    folder, _ = benchmark
    scores = score(folder / "gtFine", folder / "results", workers=1, boundary=2)
    output = folder / "new" / "scores.json"
    argv = ["--ground-truth", folder / "gtFine", "--predictions", folder / "results", "--workers", 1]
    code, out, err = run_main(capsys, *argv, "--boundary", 2, "--output", output)
    assert (code, err, out) == (0, "", scores.table() + "\n")
    assert json.loads(output.read_text()) == json.loads(json.dumps(scores.to_dict()))
    code, out, _ = run_main(capsys, *argv, "--per_class", "false")
    assert (code, "road" in out) == (0, False)
    code, out, _ = run_main(capsys, *argv, "--instances", "false")
    assert (code, "iIoU" in out) == (0, False)


def break_missing(folder):
    next((folder / "results").rglob("ulm_000002*")).unlink()


def break_double(folder):
    shutil.copy(folder / "results" / "bonn" / f"{SCENES[0]}_leftImg8bit.png", folder / "results" / f"{SCENES[0]}_b.png")


def replace(folder, change, scene=SCENES[3], **options):
    path = next((folder / "results").rglob(f"{scene}*"))
    save(path, change(np.array(Image.open(path))), **options)


def break_all(folder, change):
    for scene in SCENES:
        replace(folder, change, scene)


def to_train_ids(ids):
    return np.where(CITYSCAPES.class_by_label[ids] == 255, 2, CITYSCAPES.class_by_label[ids]).astype(np.uint8)


def to_train_ids_and_255(ids):
    return np.where(np.arange(30) < 3, 255, to_train_ids(ids)).astype(np.uint8)


FAULTS = [
    (break_missing, "has no prediction for 1 of 6 images, such as"),
    (break_double, f"has 2 files for '{{folder}}/gtFine/val/bonn/{SCENES[0]}_gtFine_labelIds.png'"),
    (lambda folder: replace(folder, lambda ids: ids[1:]), "is 30x19 (width x height), but the ground truth"),
    (lambda folder: replace(folder, lambda ids: np.stack([ids] * 3, -1)), "is RGB, a colour image, not one channel"),
    (lambda folder: replace(folder, lambda ids: ids.astype(np.uint16)), "is 16-bit, not one channel of 8 bits"),
    (
        lambda folder: replace(folder, lambda ids: np.where(np.arange(30) == 4, 99, ids).astype(np.uint8)),
        "in 20 pixels; ids",
    ),
    (lambda folder: replace(folder, lambda ids: ids, format="JPEG"), "is a JPEG file, not a PNG"),
    (lambda folder: break_all(folder, to_train_ids), "hold training ids, 0 to 18, where ids are meant"),
    (lambda folder: replace(folder, to_train_ids_and_255), "hold training ids"),
    (lambda folder: next((folder / "results").rglob("*.png")).write_bytes(b"\x89PNG nothing"), "cannot be decoded"),
    (lambda folder: shutil.rmtree(folder / "results"), "results' does not exist. Give the folder or the zip"),
    (lambda folder: [path.unlink() for path in (folder / "results").rglob("*.png")], "holds no PNG file"),
    (lambda folder: shutil.rmtree(folder / "gtFine"), "gtFine' does not exist"),
    (lambda folder: [path.unlink() for path in folder.rglob("*_labelIds.png")], "holds no _labelIds.png"),
    (lambda folder: [path.unlink() for path in folder.rglob("ulm*_instanceIds.png")], "--instances false"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_score_names_what_is_wrong_in_one_line(spoil, message, benchmark, capsys):
    folder, _ = benchmark
    spoil(folder)
    output = folder / "scores.json"
    argv = ["--ground-truth", folder / "gtFine", "--predictions", folder / "results", "--output", output]
    code, out, err = run_main(capsys, *argv, "--workers", 1)
    assert (code, out) == (2, "")
    assert message.format(folder=folder) in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_a_fault_in_another_process_is_one_line_too(benchmark, capsys):
    folder, _ = benchmark
    replace(folder, lambda ids: ids.astype(np.uint16))
    argv = ["--ground-truth", folder / "gtFine", "--predictions", folder / "results", "--workers", 2]
    code, out, err = run_main(capsys, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{SCENES[3]}_leftImg8bit.png' is 16-bit, not one channel of 8 bits" in err


def test_a_file_that_is_neither_folder_nor_zip(benchmark, capsys):
    folder, _ = benchmark
    (folder / "results.zip").write_bytes(b"no zip")
    argv = ["--ground-truth", folder / "gtFine", "--predictions", folder / "results.zip"]
    code, _, err = run_main(capsys, *argv)
    assert (code, "is neither a folder nor a zip" in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give --ground_truth and --predictions"),
        (["--ground-thruth", "a", "--predictions", "b"], "Did you mean 'ground_truth'?"),
        (["--ground-truth", "a", "--predictions", "b", "--dataset", "coco"], "--dataset is 'coco'; allowed"),
        (["--ground-truth", "a", "--predictions", "b", "--dataset", "folder"], "give --classes for --dataset folder"),
        (["--ground-truth", "a", "--predictions", "b", "--mask-suffix", "_m"], "are for --dataset folder"),
        (["--ground-truth", "a", "--predictions", "b", "--boundary", "0"], "the boundary tolerance is 0.0"),
    ],
)
def test_command_line_faults(argv, message, capsys):
    code, out, err = run_main(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def nuclei(tmp_path):
    """Binary masks with a suffix, predictions of label ids, a class list."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (2, 3, 12, 15), dtype=np.uint8)
    for number in range(3):
        name = f"{'ab'[number % 2]}/{number}"
        save(tmp_path / "masks" / f"{name}_mask.png", rows[0, number] * 255)
        save(tmp_path / "found" / f"{name}.png", rows[1, number])
    (tmp_path / "classes.yaml").write_text("names: [background, nucleus]\n")
    arguments = {"dataset": "folder", "classes": tmp_path / "classes.yaml", "mask_format": "binary"}
    return tmp_path, rows, {**arguments, "mask_suffix": "_mask"}


def test_masks_of_any_classes(nuclei):
    folder, (true, predicted), arguments = nuclei
    scores = score(folder / "masks", folder / "found", **arguments)
    for row, iou in enumerate(scores.class_ious.values()):
        union = ((true == row) | (predicted == row)).sum()
        assert iou == pytest.approx(((true == row) & (predicted == row)).sum() / union)
    assert scores.category_ious == {}
    # A pixel without a predicted class is a miss.
    save(folder / "found" / "a" / "0.png", np.full((12, 15), 255, np.uint8))
    left_open = score(folder / "masks", folder / "found", **arguments)
    assert left_open.confusion[:, 2].sum() == 12 * 15
    assert left_open.miou < scores.miou


def test_ignored_values_of_masks(tmp_path, capsys):
    true = np.array([[0, 1, 9, 255], [0, 1, 9, 255]], dtype=np.uint8)
    save(tmp_path / "true" / "a.png", true)
    save(tmp_path / "found" / "a.png", np.array([[0, 0, 1, 0], [0, 1, 0, 1]], dtype=np.uint8))
    (tmp_path / "classes.yaml").write_text("[background, nucleus]\n")
    argv = ["--ground-truth", tmp_path / "true", "--predictions", tmp_path / "found", "--dataset", "folder"]
    argv += ["--classes", tmp_path / "classes.yaml"]
    code, _, err = run_main(capsys, *argv)
    assert (code, "has 9 (2 pixels)" in err) == (2, True)
    code, out, _ = run_main(capsys, *argv, "--ignore-values", "[9,255]")
    assert (code, "pixel accuracy 0.750" in out) == (0, True)


def test_faults_of_folders(nuclei, capsys):
    folder, _, arguments = nuclei
    words = [f"--{name}={value}" for name, value in arguments.items()]
    argv = [f"--ground-truth={folder / 'masks'}", f"--predictions={folder / 'found'}", *words]
    save(folder / "found" / "a" / "0.png", np.full((12, 15), 2, np.uint8))
    code, _, err = run_main(capsys, *argv)
    assert (code, "0.png" in err, "2 (180 pixels)" in err, err.count("\n")) == (2, True, True, 1)
    (folder / "found" / "a" / "0.png").unlink()
    code, _, err = run_main(capsys, *argv)
    assert (code, "no prediction for 1 of 3 images" in err, err.count("\n")) == (2, True, 1)
    code, _, err = run_main(capsys, *argv, "--mask_suffix=_gt")
    assert (code, "holds no file that ends in '_gt'" in err, err.count("\n")) == (2, True, 1)
    code, _, err = run_main(capsys, *argv, f"--predictions={folder / 'classes.yaml'}")
    assert (code, "is not a folder" in err, err.count("\n")) == (2, True, 1)


def test_scoring_and_checking_do_without_torch():
    code = "import sys, segmentation.scores.score, segmentation.scores.submission; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
